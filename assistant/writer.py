"""The offline writer: an answer's parts as Markdown, in the language of the question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assistant.types import Diagnosis, Evidence, Fix
from assistant.wording import RISKS, VALUES, say
from kb.types import Document, Language

LINK = re.compile(r"\[\[([^\]]+)\]\]")


def cited(ids: Sequence[str]) -> str:
    """`[K1][L2]`."""
    return "".join(f"[{i}]" for i in ids)


def write_diagnosis(
    diagnosis: Diagnosis,
    document: Document,
    evidence: Sequence[Evidence],
    folded: Sequence[str],
    lang: Language,
    howto: bool,
) -> str:
    """The leading diagnosis in full."""
    by_id = {e.id: e for e in evidence}
    lines = [f"## {say('howto' if howto else 'diagnosis', lang)}: {diagnosis.title}", ""]
    certainty = say("confidence", lang, percent=round(100 * diagnosis.confidence))
    lines += [
        f"{document.summary} ({certainty}) {cited([i for i in diagnosis.supporting if i.startswith('K')][:1])}",
        "",
    ]
    shown = [by_id[i] for i in diagnosis.supporting if not i.startswith("K")]
    if shown:
        lines += [f"**{say('evidence_for', lang)}**", "", *map(evidence_line, shown), ""]
    against = [by_id[i] for i in diagnosis.contradicting]
    if against:
        lines += [f"**{say('evidence_against', lang)}**", "", *map(evidence_line, against), ""]
    if folded:
        lines += [say("folded", lang, titles="; ".join(folded)), ""]
    lines += [f"### {say('steps' if howto else 'fixes', lang)}", ""]
    own = own_command(evidence)
    for i, fix in enumerate(diagnosis.fixes, 1):
        lines += write_fix(i, fix, lang, own)
    check = document.sections.get("check")
    if check:
        lines += [f"### {say('check', lang)}", "", check, ""]
    for part in ("tell_apart", "old_advice"):
        if document.sections.get(part):
            lines += [f"### {say(part, lang)}", "", document.sections[part], ""]
    return LINK.sub(r"`\1`", "\n".join(lines))


def write_fix(place: int, fix: Fix, lang: Language, own: str = "") -> list[str]:
    """One fix: title with its risk, text, commands, arithmetic. `own` is the user's command, or the file that has it: where it
    is known, the same change of anybody's command is left out if it is the only one."""
    risk = "" if fix.risk == "read-only" else f" · {say('risk', lang, risk=RISKS[fix.risk][lang])}"
    lines = [f"**{place}. {fix.title}**{risk} {cited(fix.cites)}", "", fix.text, ""]
    if fix.risk == "destructive":
        lines += [say("destructive", lang), ""]
    for command in fix.commands if len(fix.commands) > 1 or not fix.patched_command else ():
        lines += ["```bash", command, "```", ""]
    if fix.patched_command:
        lines += [f"{say('patched', lang)}:", "", *patched_block(own, fix.patched_command), ""]
    lines += [
        f"- {say('computed', lang, name=named(c.name, lang), how=c.how)}{' ' + c.unit if c.unit else ''}"
        for c in fix.computed
    ]
    return [*lines, ""] if fix.computed else lines


def own_command(evidence: Sequence[Evidence]) -> str:
    """The user's command, or the file that has it; "" where none was given."""
    return next((e.text for e in evidence if e.kind == "command"), "")


def patched_block(own: str, patched: str) -> list[str]:
    """The user's command as it is to be; of a file that holds it, what changes there."""
    changes = changes_of_file(own, patched)
    return ["```diff", *changes.splitlines(), "```"] if changes else ["```bash", patched, "```"]


def changes_of_file(own: str, patched: str) -> str:
    """The changed lines of a file that holds the user's command, with those around them; "" of a typed command."""
    from kb.catalog.written import is_file

    if not is_file(own):
        return ""
    from assistant.editing import difference

    return "\n".join(
        line for line in difference(own, patched).splitlines() if not line.startswith(("---", "+++", "@@"))
    )


def named(name: str, lang: Language) -> str:
    """A computed value's name for people."""
    return VALUES[name][lang] if name in VALUES else name


def evidence_line(evidence: Evidence) -> str:
    """One line: where it stands and what it says."""
    text = evidence.text.strip().splitlines()[0][:300].replace("`", "'") if evidence.text.strip() else ""
    return f"- [{evidence.id}] {evidence.source}: `{text}`"


def write_others(diagnoses: Sequence[Diagnosis], lang: Language) -> str:
    """The other candidates, a line each."""
    if not diagnoses:
        return ""
    lines = [f"### {say('others', lang)}", ""]
    for diagnosis in diagnoses:
        first = f": {diagnosis.fixes[0].title}" if diagnosis.fixes else ""
        certainty = say("confidence", lang, percent=round(100 * diagnosis.confidence))
        lines.append(
            f"- **{diagnosis.title}** ({certainty}){first} {cited([i for i in diagnosis.supporting if i.startswith('K')][:1])}"
        )
    return "\n".join([*lines, ""])


def write_insufficient(needs: Sequence[str], candidates: Sequence[str], lang: Language) -> str:
    """What to send, and what it is closest to."""
    lines = [say("insufficient", lang), "", *(f"- {need}" for need in needs), ""]
    if candidates:
        lines += [say("candidates", lang), "", *(f"- {title}" for title in candidates), ""]
    return "\n".join(lines)


def write_sources(evidence: Sequence[Evidence], links: Sequence[str], lang: Language) -> str:
    """The documents cited, and where they come from."""
    lines = [f"### {say('sources', lang)}", ""]
    lines += [f"- [{e.id}] {e.source}" for e in evidence if e.kind == "document"]
    lines += [f"- {link}" for link in links]
    return "\n".join(lines)
