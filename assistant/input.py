"""Bad input, told in one sentence before any work is done."""

from __future__ import annotations

from assistant.types import Question
from kb.errors import InputError

LANGUAGES = ("auto", "en", "zh")
LONGEST = 4_000_000


def check_question(question: Question) -> None:
    """Raises InputError where there is nothing to answer or too much to read."""
    if question.lang not in LANGUAGES:
        raise InputError(f"unknown language {question.lang!r}: auto, en or zh.")
    if not question.text.strip() and not question.logs and not question.log_paths and not question.command:
        raise InputError("the question is empty: say what is wrong, or give a log with --log FILE.")
    if (
        question.logs
        and not question.text.strip()
        and not any(t.strip() for t in question.logs.values())
        and not question.log_paths
    ):
        raise InputError("the log is empty: nothing came from standard input.")
    if len(question.text) > LONGEST:
        raise InputError(
            f"the question has {len(question.text):,} characters: put the log into a file and give it with --log FILE."
        )
