"""An answer as Slack's blocks, within Slack's limits: 50 blocks a message, 3,000 characters a section."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.types import Answer, Evidence
from kb.types import Language
from ui.mrkdwn import escape, fence, pack, to_pieces

Block = dict[str, Any]
SECTION_CHARACTERS = 2_900  # Slack: 3,000
MESSAGE_SECTIONS = 40  # Slack: 50 blocks, some of which are warnings and buttons
MESSAGE_CHARACTERS = 11_000  # beyond about 13,000 Slack says msg_blocks_too_long
NOTICE_CHARACTERS = 150
EVIDENCE_CHARACTERS = 600
WARNINGS = 5
PREFIX = "crashcart_"

SAID: dict[str, dict[Language, str]] = {
    "deeper": {"en": "Run deeper checks", "zh": "深入检查"},
    "evidence": {"en": "Show evidence", "zh": "查看证据"},
    "helped": {"en": "It helped", "zh": "有帮助"},
    "not_helped": {"en": "It did not help", "zh": "没有帮助"},
    "thanks_helped": {"en": "Marked as helpful; kept as a case.", "zh": "已标记为有帮助，并存为案例。"},
    "thanks_not_helped": {"en": "Marked as not helpful; kept as a case.", "zh": "已标记为没有帮助，并存为案例。"},
    "continues": {"en": "The answer goes on in `{name}`.", "zh": "其余内容见 `{name}`。"},
    "cut": {"en": "The answer is longer than Slack takes; its end is left out.", "zh": "答案超出 Slack 的长度限制，末尾已省略。"},
    "no_evidence": {"en": "This answer cites nothing.", "zh": "该答案没有引用证据。"},
    "gone": {"en": "This answer is no longer kept.", "zh": "该答案已不再保存。"},
    "checked": {"en": "Every probe was run on the server's host:", "zh": "已在服务所在主机上运行全部探测："},
    "working": {"en": "is looking into it…", "zh": "正在查看…"},
    "probing": {"en": "is running the probe {name}…", "zh": "正在运行探测 {name}…"},
    "usage": {
        "en": "Say what is wrong with your vLLM or SGLang server, and attach its log.",
        "zh": "请描述 vLLM 或 SGLang 服务的故障现象，并附上日志。",
    },
    "refused_file": {"en": "The file {name} was not read: {why}", "zh": "未能读取文件 {name}：{why}"},
    "from_thread": {"en": "earlier-messages.txt", "zh": "earlier-messages.txt"},
    "greeting": {
        "en": "Hello. Say what is wrong with your LLM server, and attach its log.",
        "zh": "您好。请描述推理服务的故障现象，并附上日志。",
    },
}  # fmt: skip
PROMPTS: dict[Language, tuple[tuple[str, str], ...]] = {
    "en": (
        ("It does not start", "vLLM stops at start-up. The log is attached."),
        ("Out of GPU memory", "torch.OutOfMemoryError: CUDA out of memory. What can I do?"),
        ("It is slow", "The first token takes 8 seconds. How do I find the cause?"),
        ("Upgrade", "vllm: error: unrecognized arguments: --swap-space 4"),
    ),
    "zh": (
        ("启动失败", "vLLM 启动时退出，日志见附件。"),
        ("显存不足", "torch.OutOfMemoryError: CUDA out of memory，怎么办？"),
        ("响应慢", "首个 token 要等 8 秒，怎么定位原因？"),
        ("升级", "vllm: error: unrecognized arguments: --swap-space 4"),
    ),
}


@dataclass(frozen=True, slots=True)
class Post:
    """A message: what a notification shows of it, its blocks, and whether something did not fit."""

    text: str
    blocks: list[Block]
    is_whole: bool = True


def say(key: str, lang: Language, **values: object) -> str:
    """The words, with their values put in."""
    return SAID[key][lang].format(**values)


def section(mrkdwn: str) -> Block:
    """A section; `verbatim` keeps Slack from making links and mentions of plain words."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": mrkdwn, "verbatim": True}}


def note(mrkdwn: str) -> Block:
    """A line in small print."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": mrkdwn, "verbatim": True}]}


def button(name: str, value: str, lang: Language) -> Block:
    """A button; `value` comes back with the click."""
    label = {"type": "plain_text", "text": say(name, lang)}
    return {"type": "button", "action_id": PREFIX + name, "text": label, "value": value}


def buttons(value: str, lang: Language) -> Block:
    """What can be done with an answer."""
    return {
        "type": "actions",
        "block_id": f"{PREFIX}actions",
        "elements": [button(name, value, lang) for name in ("deeper", "evidence", "helped", "not_helped")],
    }


def answer_post(answer: Answer, value: str, links: Collection[str]) -> Post:
    """An answer with its warnings and buttons; `value` names the answer to the buttons, none where it could not be kept."""
    warnings = [note(f":warning: {escape(w)[:SECTION_CHARACTERS]}") for w in answer.warnings[:WARNINGS]]
    sections, is_whole = fitting(list(pack(to_pieces(answer.text, links), SECTION_CHARACTERS)))
    blocks = [*warnings, *map(section, sections)]
    if not is_whole:
        blocks.append(note(say("continues", answer.lang, name="answer.md")))
    if value:
        blocks.append(buttons(value, answer.lang))
    return Post(notice(answer), blocks, is_whole)


def evidence_post(evidence: Sequence[Evidence], lang: Language) -> Post:
    """What an answer cites, piece by piece."""
    pieces = []
    for item in evidence:
        text = item.text if len(item.text) <= EVIDENCE_CHARACTERS else item.text[:EVIDENCE_CHARACTERS] + "…"
        pieces += [f"*[{item.id}]* {escape(item.source)}", fence(escape(text))]
    sections, is_whole = fitting(list(pack(pieces or [say("no_evidence", lang)], SECTION_CHARACTERS)))
    return Post(say("evidence", lang), [section(s) for s in sections], is_whole)


def plain_post(mrkdwn: str) -> Post:
    """Some lines."""
    sections, is_whole = fitting(list(pack(mrkdwn.split("\n\n"), SECTION_CHARACTERS)))
    return Post(mrkdwn[:NOTICE_CHARACTERS], [section(s) for s in sections], is_whole)


def rated_blocks(blocks: Sequence[Block], helped: bool, lang: Language) -> list[Block]:
    """A message's blocks with thanks in place of the two buttons that rate."""
    rating = {f"{PREFIX}helped", f"{PREFIX}not_helped"}
    kept: list[Block] = []
    for block in blocks:
        if block.get("type") == "actions":
            left = [e for e in block.get("elements", []) if e.get("action_id") not in rating]
            kept += [{**block, "elements": left}] if left else []
        else:
            kept.append(block)
    return [*kept, note(say("thanks_helped" if helped else "thanks_not_helped", lang))]


def fitting(sections: list[str]) -> tuple[list[str], bool]:
    """The sections that one message takes, and whether those are all."""
    size = 0
    for place, text in enumerate(sections):
        size += len(text)
        if place and (place >= MESSAGE_SECTIONS or size > MESSAGE_CHARACTERS):
            return sections[:place], False
    return sections, True


def notice(answer: Answer) -> str:
    """What a notification shows: the diagnosis, or how the answer begins."""
    said = answer.diagnoses[0].title if answer.diagnoses else answer.text
    return escape(" ".join(said.replace("#", " ").split())[:NOTICE_CHARACTERS]) or "Crashcart"
