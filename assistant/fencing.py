"""Text from logs, probes and documents made safe to show a language model: it is data, and it cannot pretend to be anything else.

Each piece stands between two lines that hold a random mark. The text inside has no control, bidirectional or invisible characters,
no tokens of chat templates, and no secrets; what is too long loses its middle.
"""

from __future__ import annotations

import re
import secrets
import unicodedata

INVISIBLE = ("Cc", "Cf", "Co", "Cs")
SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
# What chat templates of Llama, Qwen, Gemma, Mistral and DeepSeek end turns and call tools with. A server may read it as such
# wherever it stands in a message.
TEMPLATE_TOKENS = re.compile(
    r"(?i)<(?=\|[^|>\n]{1,40}\|?>|｜|/?(?:s|bos|eos|pad|unk|mask|unused\d+|(?:start|end)_of_(?:turn|image)|sys|system|user|assistant|human|model"
    r"|tools?|tool_(?:call|calls|response|result|use)|function(?:_calls?|_results?)?|invoke|parameter|think|thinking|instructions?|data)[\s>])"
    r"|<(?=<sys>>|</sys>>|data |end )"
    r"|\[(?=/?(?:inst|tool_calls|available_tools|tool_results|system_prompt)\])"
)
CUT = "\n… {count:,} characters left out …\n"


def plain(text: str) -> str:
    """The text without escape sequences, invisible characters and live template tokens; newlines and tabs stay."""
    text = ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in INVISIBLE)
    return TEMPLATE_TOKENS.sub(lambda found: found[0] + " ", SELECTORS.sub("", text))


def shortened(text: str, most: int) -> str:
    """At most about `most` characters: two thirds from the beginning, one third from the end."""
    if len(text) <= most:
        return text
    head, tail = 2 * most // 3, most // 3
    return text[:head] + CUT.format(count=len(text) - head - tail) + text[len(text) - tail :]


class Fence:
    """The delimiter of one answer. Its mark is random, so that no text can hold it."""

    def __init__(self, mark: str = "") -> None:
        self.mark = mark or secrets.token_hex(8)

    def around(self, label: str, text: str, most: int = 4000) -> str:
        """The text as data under a label; neither can end the fence."""
        from probes.reading.mask import mask

        inside = shortened(mask(plain(text)), most).replace(self.mark, "")
        name = " ".join(plain(label).split())[:200].replace(self.mark, "")
        return f"<<data {self.mark}: {name}>>\n{inside.strip()}\n<<end {self.mark}>>"
