"""`crashcart flags …`: does this flag exist in this release, and what replaces it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kb.errors import InputError
from kb.types import Language
from ui.cli.options import JSON, print_json
from ui.cli.serving_commands import COMMAND, LANG, language, read_command, say_masked
from ui.operations import check_flags

if TYPE_CHECKING:
    from kb.catalog.comparison import DefaultChange
    from kb.flags import FlagStatus

flags_app = typer.Typer(
    help="Flags, choices and variables of vLLM and SGLang, release by release.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
FAILING = ("removed", "renamed", "never", "not-yet", "refused")
WORDS: dict[str, dict[Language, str]] = {
    "default": {"en": "default", "zh": "默认值"},
    "nothing": {
        "en": "Nothing in this command changes from {old} to {new}.",
        "zh": "从 {old} 到 {new},这条命令没有任何变化。",
    },
    "since": {"en": "since {}", "zh": "{} 起"},
    "until": {"en": "until {}", "zh": "到 {} 为止"},
}


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.add_typer(flags_app, name="flags")


@flags_app.command("check")
def check(
    command: str = COMMAND,
    release: str = typer.Option(
        "", "--release", metavar="ENGINE==VERSION", help="e.g. vllm==0.11.0 [the image tag in the command]."
    ),
    lang: str = LANG,
    as_json: bool = JSON,
) -> int:
    """Check every flag, choice and variable of a command.

    Exit codes: 0 all work there, 1 something deprecated or without effect, 2 something the release does not take, 3 unknown release.
    """
    given = read_command(command)
    checked = check_flags(given.text, release)
    if as_json:
        print_json(checked)
    else:
        shown_in = language(lang)
        for item in checked.items:
            typer.echo(describe(item, shown_in))
        show_change(given.text, checked.patched_command, given.name, shown_in)
    return exit_code([item.status for item in checked.items])


@flags_app.command("diff")
def diff(
    command: str = COMMAND,
    old: str = typer.Option(..., "--from", metavar="VERSION", help="The release that runs now, e.g. 0.8.5."),
    new: str = typer.Option(..., "--to", metavar="VERSION", help="The release to go to, e.g. 0.20.2."),
    lang: str = LANG,
    as_json: bool = JSON,
) -> int:
    """What an upgrade changes for a command: flags that go, their replacements, defaults that change.

    Exit codes: 0 nothing breaks, 2 the new release refuses something.
    """
    from kb.flags import diff as compare
    from kb.flags import engine_of

    given = read_command(command)
    engine = engine_of(given.text)
    if engine is None:
        raise InputError(
            "no serving command of vLLM or SGLang in this: crashcart flags diff 'vllm serve MODEL' --from 0.8.5 --to 0.20.2."
        )
    found = compare(given.text, engine, numbered(old, engine), numbered(new, engine))
    if as_json:
        print_json(found)
    else:
        shown_in = language(lang)
        for _, after in found.items:
            typer.echo(describe(after, shown_in))
        for change in found.defaults:
            typer.echo(describe_default(change, shown_in))
        if not found.items and not found.defaults:
            typer.echo(WORDS["nothing"][shown_in].format(old=old, new=new))
        show_change(given.text, found.patched_command, given.name, shown_in)
    return 2 if any(after.status in FAILING for _, after in found.items) else 0


def numbered(release: str, engine: str) -> str:
    """A release's number, of `0.8.5`, `v0.8.5` or `vllm==0.8.5`. Raises InputError for anything else."""
    from kb.catalog.releases import is_release

    number = release.removeprefix(f"{engine}==").removeprefix("v")
    if not is_release(number):
        raise InputError(f"{release!r} is no release of {engine}: write a number such as 0.8.5.")
    return number


def show_change(old: str, new: str, name: str, lang: Language) -> None:
    """The command as it should be, or a file's change as a diff; nothing where nothing changes."""
    from assistant.editing import difference

    if new != old:
        typer.echo("\n" + (difference(old, new, name) if name else new))
        say_masked(new, lang)


def describe(item: FlagStatus, lang: Language = "en") -> str:
    """One line: status, name, since when and until when, what to write instead."""
    from kb.chinese import STATUSES, in_chinese

    dates = [WORDS[key][lang].format(value) for key, value in (("since", item.since), ("until", item.until)) if value]
    span = f" ({', '.join(dates)})" if dates else ""
    instead = f" → {item.replacement}" if item.replacement else ""
    note = in_chinese(item.note) if lang == "zh" else item.note
    status = padded(STATUSES[item.status] if lang == "zh" else item.status)
    return f"{status} {item.name}{span}{instead}" + (f"\n{'':16}{note}" if note else "")


def describe_default(change: DefaultChange, lang: Language) -> str:
    """One line: a default that an upgrade changes."""
    from kb.chinese import in_chinese

    def said(text: str | None) -> str:
        return in_chinese(text or "none") if lang == "zh" else str(text or "none")

    note = f" ({said(change.note)})" if change.note else ""
    return f"{padded(WORDS['default'][lang])} {change.name}: {said(change.old)} → {said(change.new)}{note}"


def padded(word: str) -> str:
    """A word filled up to fifteen columns; a Chinese character takes two."""
    return word + " " * (15 - len(word) - sum(ord(c) > 0x2E80 for c in word))


def exit_code(statuses: list[str]) -> int:
    """The monitoring convention over the statuses of all names."""
    if any(s in FAILING for s in statuses):
        return 2
    if any(s in ("deprecated", "no-op") for s in statuses):
        return 1
    return 3 if "unknown-release" in statuses else 0
