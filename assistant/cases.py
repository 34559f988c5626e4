"""A question kept as an evaluation case, secrets masked; a person labels it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assistant.threads import Asked
from assistant.types import Answer, Question
from kb.errors import InputError


def case_of(question: Question, answer: Answer, name: str) -> dict[str, Any]:
    """The case in the form of evals; what was answered stands as a first label to be checked."""
    from assistant.assistant import log_ends
    from probes.reading.mask import mask

    kind = "diagnose" if answer.status == "diagnosed" else answer.status
    return {
        "id": name,
        "lang": answer.lang,
        "kind": kind,
        "source": "own",
        "question": mask(question.text),
        "logs": {Path(name).name: text for name, text in log_ends(question).items()},
        "command": mask(question.command),
        "host": question.host,
        "expect": {
            "status": answer.status,
            "cause": answer.diagnoses[0].id if answer.diagnoses else None,
            "fix_any": [],
            "fix_none": [],
        },
        "tags": ["unlabelled"],
    }


def case_of_turn(asked: Asked, name: str) -> dict[str, Any]:
    """The case of an exchange that a thread keeps, labelled by whether it helped."""
    turn = asked.turn
    assert turn is not None, "only what was answered can be a case"
    question = Question(asked.text, turn.logs, command=turn.signals.command, host=turn.readings or None)
    case = case_of(question, turn.answer, name)
    label = {True: "helped", False: "did-not-help", None: "unlabelled"}[asked.helped]
    return case | {"tags": ["from-thread", label]}


def write_case(path: Path, case: dict[str, Any]) -> None:
    """Write a case; raises InputError where the file cannot be written."""
    import yaml

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(case, allow_unicode=True, sort_keys=False), "utf-8")
    except OSError as error:
        raise InputError(f"cannot write the case {path}: {error.strerror}.") from error


def save_case(path: Path, question: Question, answer: Answer) -> None:
    """Write the case of a question and its answer; raises InputError where the file cannot be written."""
    write_case(path, case_of(question, answer, path.stem))
