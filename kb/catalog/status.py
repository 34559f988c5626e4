"""What one name is in one release: there, deprecated, without effect, refused, gone, renamed, not there yet, or never there."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from kb.catalog.history import ENGINES, Entry, History, load
from kb.catalog.notes import Note, note_for, takes_any_case, takes_class
from kb.catalog.releases import is_release, place, release_key, same_minor
from kb.types import ENGINE_NAMES

Kind = Literal["flag", "env", "choice", "command"]
Status = Literal["ok", "deprecated", "no-op", "refused", "removed", "renamed", "not-yet", "never", "unknown-release"]
DEAD: tuple[Status, ...] = ("removed", "renamed", "never", "not-yet")

UNDERSCORES_SINCE = release_key("0.5.1")
DOTS_SINCE = release_key("0.9.0")
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
OWN = {"vllm": ("VLLM_",), "sglang": ("SGLANG_", "SGL_")}
FORMS = {
    "vllm": ("vllm serve", "python -m vllm.entrypoints.openai.api_server"),
    "sglang": ("sglang serve", "python -m sglang.launch_server"),
}
ALWAYS = ("--help", "-h")
# What a shell or a template puts in later is not a value to check, nor are lists and JSON.
OPEN_VALUE = re.compile(r"[$`{}<>\[\],]|^$|^None$")
CLASS_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


@dataclass(frozen=True, slots=True)
class FlagStatus:
    """The verdict on a name. `since` and `until` are releases (until None: still there); `replacement` is what to write."""

    name: str
    kind: Kind
    status: Status
    since: str | None = None
    until: str | None = None
    replacement: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """A name as somebody writes it: with which values, and beside which other names (None: not known)."""

    name: str
    values: tuple[str, ...] = ()
    others: Collection[str] | None = None

    @property
    def value(self) -> str | None:
        """All values as one text, None without any."""
        return " ".join(self.values) if self.values else None


def kind_of(name: str) -> Kind:
    """What a name names, by its form alone."""
    if " " in name or re.match(r"(vllm|sglang)[.]", name):
        return "command"
    return "env" if VARIABLE.fullmatch(name) else "flag"


def status_of(engine: str, release: str, use: Use) -> FlagStatus:
    """The verdict for a release; one between recorded releases gets that on which its neighbours agree.

    Raises ValueError for an engine without a catalogue.
    """
    history = load(engine)
    if not is_release(release):
        return unknown(
            history, use, f"the {ENGINE_NAMES[engine]} release is not known" + (f": {release!r}" if release else "")
        )
    spot = place(history.releases, release)
    if spot.exact is not None:
        return judge(history, spot.exact, release, use)
    before = judge(history, spot.before, release, use) if spot.before is not None else None
    after = judge(history, spot.after, release, use) if spot.after is not None else None
    if before is None:
        return older(history, after or unknown(history, use, ""), release)
    newest = history.releases[-1]
    if after is None:
        return replace(before, note=said(before.note, f"as of {newest}; {release} is newer than the catalogue"))
    return between(history, release, before, after)


def between(history: History, release: str, before: FlagStatus, after: FlagStatus) -> FlagStatus:
    """The verdict on a release that lies between two recorded ones."""
    spot = place(history.releases, release)
    low, high = history.releases[spot.before or 0], history.releases[spot.after or 0]
    if (before.status, before.kind) == (after.status, after.kind):
        return before if same_minor(low, release) or not same_minor(high, release) else after
    why = f"{release} is not in the catalogue; in {low} it is {worded(before)}, in {high} {worded(after)}"
    replacement = before.replacement or after.replacement
    return replace(after, status="unknown-release", kind=before.kind, replacement=replacement, note=why)


def worded(status: FlagStatus) -> str:
    """A status inside a sentence."""
    return {"ok": "there", "not-yet": "not there yet", "no-op": "without effect"}.get(status.status, status.status)


def older(history: History, status: FlagStatus, release: str) -> FlagStatus:
    """The verdict on a release from before the catalogue begins."""
    if status.status in ("not-yet", "never"):
        return status
    why = f"{release} is older than the catalogue, which begins with {history.releases[0]}"
    return replace(status, status="unknown-release", note=why)


def said(*sentences: str) -> str:
    """Remarks joined, without empty ones."""
    return "; ".join(each for each in sentences if each)


def unknown(history: History, use: Use, why: str) -> FlagStatus:
    """The verdict without a release: since when and until when the name exists, and nothing more."""
    name, _ = resolve(history, len(history.releases) - 1, use.name)
    entry = history.entry(name)
    if entry is None:
        return FlagStatus(use.name, kind_of(use.name), "unknown-release", note=why)
    since, until = dates(history, entry, len(history.releases) - 1)
    return FlagStatus(use.name, kind_of(use.name), "unknown-release", since, until, note=why)


def resolve(history: History, at: int, written: str) -> tuple[str, str]:
    """The recorded name that a release takes a written one for, and how: `_` for `-`, abbreviations, dotted JSON keys."""
    if not written.startswith("-"):
        return written, ""
    base = written.partition(".")[0] if written.startswith("--") else written
    vllm = history.engine == "vllm"
    if vllm and base.startswith("--") and release_key(history.releases[at]) >= UNDERSCORES_SINCE:
        base = base.replace("_", "-")
    if vllm and re.fullmatch(r"-O=?\w+", base):
        base = "-O"
    if history.has(base, at) or not base.startswith("--") or base != written.replace("_", "-"):
        return base, ""
    fits = sorted(name for name in history.names(at) if name.startswith(base))
    meant = {main_name(history, name) for name in fits}
    if base in history.flags:
        return base, f"now read as short for {fits[0]}" if len(meant) == 1 else ""
    if len(meant) == 1:
        return fits[0], f"read as short for {fits[0]}"
    return base, f"could be short for {', '.join(fits[:4])}" if fits else ""


def main_name(history: History, name: str) -> str:
    """The flag that an alias stands for, else the name itself."""
    entry = history.entry(name)
    return entry.alias or name if entry else name


def dates(history: History, entry: Entry, at: int) -> tuple[str, str | None]:
    """The first and, unless it lasts to the newest, the last release of the range that matters at a release."""
    later = [each for each in entry.present if each[0] > at]
    first, last = entry.span(at) if entry.present[0][0] <= at or not later else later[0]
    return history.releases[first], None if last == len(history.releases) - 1 else history.releases[last]


def judge(history: History, at: int, release: str, use: Use) -> FlagStatus:
    """The verdict at a recorded release; notes are asked for the release that was really meant."""
    kind = kind_of(use.name)
    if kind == "command":
        return judge_command(history, release, use)
    name, remark = resolve(history, at, use.name)
    if name in ALWAYS:
        return FlagStatus(use.name, kind, "ok")
    if kind == "env" and not name.startswith(OWN[history.engine]):
        return FlagStatus(
            use.name, kind, "ok", note=f"not a variable of {ENGINE_NAMES[history.engine]}'s own, so not checked"
        )
    entry = history.entry(name)
    if entry is None:
        return judge_unrecorded(history, at, release, use, name, remark)
    main = history.entry(entry.alias) if entry.alias and entry.takes(at) != "0" else None
    note = note_for(history.engine, release, name, use.value, use.others)
    note = note or (note_for(history.engine, release, main.name, use.value, use.others) if main else None)
    since, until = dates(history, entry, at)
    if entry.is_in(at):
        bad = judge_values(history, at, release, main or entry, use)
        if bad is not None:
            return bad
        status: Status = "deprecated" if entry.is_deprecated(at) else "ok"
        verdict = FlagStatus(use.name, kind, status, since, until, note=remark)
        verdict = noted(verdict, note)
        return dotted(history, at, use, verdict)
    missing: Status = "not-yet" if all(first > at for first, _ in entry.present) else "removed"
    verdict = FlagStatus(use.name, kind, missing, since, until, note=remark)
    again = next((history.releases[first] for first, _ in entry.present if first > at), None)
    if missing == "removed" and again:
        verdict = replace(verdict, note=said(remark, f"there again from {again}"))
    return noted(verdict, note)


def noted(verdict: FlagStatus, note: Note | None) -> FlagStatus:
    """A verdict with what the note adds to it or puts in its place."""
    if note is None:
        return verdict
    status: Status = verdict.status
    if note.status:
        status = note.status  # type: ignore[assignment]  # tests/test_flags.py holds the notes to these words
    elif status in DEAD and status != "renamed" and (note.becomes or note.into):
        status = "renamed" if status == "removed" else status
    return replace(
        verdict,
        status=status,
        since=note.since or verdict.since,
        until=None if note.status == "ok" else verdict.until,
        replacement=note.shown or verdict.replacement,
        note=said(verdict.note, note.text),
    )


def dotted(history: History, at: int, use: Use, verdict: FlagStatus) -> FlagStatus:
    """Keys of JSON options after a dot are read by vLLM 0.9.0 and later."""
    if "." not in use.name:
        return verdict
    if history.engine != "vllm":
        return replace(verdict, status="never", note="SGLang does not take keys after a dot")
    if release_key(history.releases[at]) < DOTS_SINCE:
        base, _, key = use.name.partition(".")
        return replace(verdict, status="not-yet", since="0.9.0", replacement=f"{base} '{{\"{key}\": …}}'")
    return verdict


def judge_values(history: History, at: int, release: str, entry: Entry, use: Use) -> FlagStatus | None:
    """The verdict on the first value that the release does not accept; None when all are accepted or cannot be checked."""
    accepted = entry.accepted(at)
    if accepted is None or entry.takes(at) == "0":
        return None
    for value in use.values:
        same = value.upper().replace("-", "_") if takes_any_case(history.engine, entry.name) else value
        upper = {each.upper().replace("-", "_") for each in accepted} if same != value else accepted
        if OPEN_VALUE.search(value) or value in accepted or same in upper:
            continue
        if CLASS_NAME.fullmatch(value) and takes_class(history.engine, release, entry.name):
            continue
        return judge_choice(history, at, release, entry, use, value)
    return None


def judge_choice(history: History, at: int, release: str, entry: Entry, use: Use, value: str) -> FlagStatus:
    """The verdict on a value that is not accepted at a release."""
    held = [i for i in range(len(history.releases)) if entry.is_in(i) and value in (entry.accepted(i) or ())]
    past, later = [i for i in held if i < at], [i for i in held if i > at]
    status: Status = "removed" if past else "not-yet" if later else "never"
    since = history.releases[(past or later)[0]] if held else None
    until = history.releases[past[-1]] if past else None
    note = note_for(history.engine, release, entry.name, value, use.others)
    listed = sorted(each for each in entry.accepted(at) or () if each != "None")
    text = note.text if note and note.text else f"accepted: {', '.join(listed[:12])}{', …' if len(listed) > 12 else ''}"
    replacement = note.becomes if note and note.becomes else None
    return FlagStatus(f"{use.name} {value}", "choice", status, since, until, replacement, text)


def judge_unrecorded(history: History, at: int, release: str, use: Use, name: str, remark: str) -> FlagStatus:
    """The verdict on a name that no recorded release has."""
    kind = kind_of(use.name)
    note_found = note_for(history.engine, release, name, use.value, use.others)
    verdict = FlagStatus(use.name, kind, "refused" if remark else "never", note=remark)
    if note_found is not None:
        return noted(verdict, note_found)
    if remark:
        return verdict
    close = nearest_name(history, at, name)
    other = next(each for each in ENGINES if each != history.engine)
    theirs = load(other).entry(name) is not None
    hint = f"a name of {ENGINE_NAMES[other]}'s" if theirs else ""
    return replace(verdict, replacement=close, note=hint)


def nearest_name(history: History, at: int, name: str) -> str | None:
    """The name of the release that a misspelt one most likely means."""
    from difflib import get_close_matches

    known = sorted(history.names(at)) if name.startswith("-") else sorted(history.variables)
    found = get_close_matches(name.replace("_", "-") if name.startswith("-") else name, known, n=1, cutoff=0.9)
    return found[0] if found else None


def judge_command(history: History, release: str, use: Use) -> FlagStatus:
    """The verdict on a way to start the engine, or on a module that people are told to run."""
    verdict = FlagStatus(use.name, "command", "ok" if use.name in FORMS[history.engine] else "unknown-release")
    note = note_for(history.engine, release, use.name, use.value, use.others)
    if note is None and verdict.status != "ok":
        return replace(verdict, note="not in the catalogue, which holds flags, variables and serving commands")
    return noted(verdict, note)
