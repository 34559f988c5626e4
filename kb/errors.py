"""The one kind of error that is shown without a traceback."""

from __future__ import annotations

from kb.types import Language


class InputError(ValueError):
    """Something that a person can mend: one sentence with what, where, and the next command; in Chinese too where it is known."""

    def __init__(self, sentence: str, sentence_zh: str = "") -> None:
        super().__init__(sentence)
        self.sentence_zh = sentence_zh

    def told(self, lang: Language) -> str:
        """The sentence in a language, in English where there is no other."""
        return self.sentence_zh if lang == "zh" and self.sentence_zh else str(self)
