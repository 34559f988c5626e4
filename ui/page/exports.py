"""A conversation to take along: as Markdown, and as a masked bundle of evidence that replays on any machine.

What a thread keeps is masked before it is written, so both are.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import PurePath

from assistant.threads import Asked

HOW = """\
Each folder is one question of a conversation: question.txt, the ends of its logs, what the probes read (host.json), the
answer. Secrets are masked. To get the answer again, on any machine:

    crashcart ask "$(cat {first}/question.txt)" --host {first}/host.json {logs}
"""


def as_markdown(asked: Sequence[Asked]) -> str:
    """Questions and answers."""
    parts = []
    for each in asked:
        quoted = each.text.strip().replace("\n", "\n> ") or "…"
        logs = "".join(f"> 📎 {name}\n" for name in (each.turn.logs if each.turn else ()))
        parts.append(f"{logs}> {quoted}\n\n{each.turn.answer.text if each.turn else '…'}\n")
    return "\n---\n\n".join(parts)


def as_bundle(asked: Sequence[Asked]) -> bytes:
    """A zip of every answered question: its words, its logs' kept ends, its readings as `crashcart ask --host` takes them."""
    import msgspec

    held = io.BytesIO()
    answered = [each for each in asked if each.turn]
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as bundle:
        for each in answered:
            assert each.turn
            folder = f"{each.place}"
            bundle.writestr(f"{folder}/question.txt", each.text + "\n")
            for name, text in each.turn.logs.items():
                bundle.writestr(f"{folder}/logs/{file_name(name)}", text)
            host = {"probes": each.turn.readings}
            bundle.writestr(f"{folder}/host.json", json.dumps(host, indent=2, ensure_ascii=False))
            if each.turn.signals.command:
                bundle.writestr(f"{folder}/command.txt", each.turn.signals.command + "\n")
            bundle.writestr(
                f"{folder}/answer.json", msgspec.json.format(msgspec.json.encode(each.turn.answer), indent=2)
            )
        bundle.writestr("README.txt", how(answered[0]) if answered else "No question was answered.\n")
        bundle.writestr("conversation.md", as_markdown(asked))
    return held.getvalue()


def how(first: Asked) -> str:
    """What the bundle holds, and how the first answer is got again."""
    logs = [f"--log {first.place}/logs/{file_name(name)}" for name in (first.turn.logs if first.turn else ())]
    return HOW.format(first=first.place, logs=" ".join(logs))


def file_name(name: str) -> str:
    """A log's name that stays in its folder and is one word; what was packed is kept unpacked."""
    plain = re.sub(r"[^\w.-]", "_", PurePath(name).name).lstrip(".") or "log"
    return re.sub(r"\.(?:gz|xz|zst|bz2)$", "", plain)
