"""A serving command as it is given to a command: typed, from standard input, or in a file; secrets in it masked."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from kb.errors import InputError
from kb.types import Language

COMMAND = typer.Argument(
    metavar="COMMAND|FILE|-",
    help="A serving command in quotes; a shell script, compose file, Kubernetes manifest, systemd unit or Dockerfile; or - for standard input.",
)
LANG = typer.Option(None, "--lang", metavar="auto|en|zh", help="Language of the text [auto: of the environment].")
LONGEST_BYTES = 1 << 20
SUFFIXES = (".yaml", ".yml", ".json", ".sh", ".service", ".conf", ".txt", ".md", ".dockerfile")
MASKED: dict[Language, str] = {
    "en": "secrets are shown as {mark}…: keep your own in their place.",
    "zh": "密钥显示为 {mark}…,请保留您自己的值。",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What was given. `name` is the file's, empty for a typed command."""

    text: str
    name: str = ""


def read_command(given: str) -> Given:
    """The command that an argument names. Raises InputError for what is empty, no text, too long, or not there."""
    if given == "-":
        return Given(masked(decoded(sys.stdin.buffer.read(LONGEST_BYTES + 1), "standard input")))
    path = Path(given)
    if is_there(path):
        try:
            with path.open("rb") as file:
                text = decoded(file.read(LONGEST_BYTES + 1), given)
        except OSError as error:
            raise InputError(f"cannot read {given}: {error.strerror}.") from error
        return Given(well_formed(masked(text), given), given)
    if given and not given.strip().count(" ") and (path.suffix.lower() in SUFFIXES or path.name == "Dockerfile"):
        raise InputError(f"there is no file {given}.")
    return Given(masked(checked(given, "the command")))


def is_there(path: Path) -> bool:
    """Whether a file is there; a command is often no name that a file could have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def decoded(content: bytes, name: str) -> str:
    """Bytes as text. Raises InputError for what is no text, or is too long to be what starts a server."""
    if len(content) > LONGEST_BYTES:
        raise InputError(f"{name} is larger than 1 MiB: give the file that starts the server, not its log.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not text in UTF-8: give the file that starts the server.") from error
    return checked(text, name)


def checked(text: str, name: str) -> str:
    """The text; raises InputError where it is empty or binary."""
    if "\0" in text:
        raise InputError(f"{name} is not text: give the file that starts the server.")
    if not text.strip():
        raise InputError(f"{name} is empty: crashcart patch 'vllm serve MODEL' --set max-model-len=8192.")
    return text


def well_formed(text: str, name: str) -> str:
    """The text of a file; raises InputError for YAML or JSON that cannot be read."""
    from kb.catalog.yaml_text import fault_of

    fault = fault_of(text) if Path(name).suffix.lower() in (".yaml", ".yml", ".json") else ""
    if fault:
        raise InputError(f"{name} is not well-formed: {fault}.")
    return text


def masked(text: str) -> str:
    from probes.reading.mask import mask

    return mask(text)


def say_masked(text: str, lang: Language) -> None:
    """Say on standard error that what was printed holds marks in place of secrets."""
    from probes.reading.mask import MARK

    if MARK in text:
        typer.echo(f"crashcart: {MASKED[lang].format(mark=MARK)}", err=True)


def language(setting: str | None) -> Language:
    """The language to print in."""
    from ui.cli.options import settings
    from ui.render import language_of

    return language_of(settings(lang=setting).lang)
