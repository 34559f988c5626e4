"""`crashcart ask`, `crashcart chat`: a question and a log in, a grounded answer out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ui.cli.options import JSON, open_assistant, print_json, read_host

if TYPE_CHECKING:
    from assistant.types import Question
    from kb.types import Language

ANSWER_CODES = {"healthy": 0, "howto": 0, "diagnosed": 2, "insufficient": 3, "out_of_scope": 3}
STDIN_BYTES = 64 * 1024 * 1024


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command("ask")(ask)
    app.command("chat")(chat)


def ask(
    question: str = typer.Argument(
        "", metavar="[QUESTION|-]", help="What is wrong, in English or Chinese. '-' reads a log from standard input."
    ),
    log: list[Path] = typer.Option(
        [], "--log", metavar="PATH", help="A log file, plain or .gz/.xz/.zst; may be given several times."
    ),
    command: str = typer.Option(
        "", "--command", metavar="TEXT", help="The serving command, e.g. 'vllm serve … --max-model-len 8192'."
    ),
    host: Path | None = typer.Option(
        None, "--host", metavar="FILE", help="A recorded host (checkup --json) in place of this machine."
    ),
    no_probes: bool = typer.Option(False, "--no-probes", help="Do not look at this machine."),
    lang: str = typer.Option(
        None, "--lang", metavar="auto|en|zh", help="Language of the answer [auto: that of the question]."
    ),
    model: str = typer.Option(
        None, "--model", metavar="NAME|none", help="A language model that words the answer [none]."
    ),
    thread: str = typer.Option(
        "", "--thread", metavar="ID", help="Name of the conversation that this belongs to; what was said in it counts."
    ),
    save: Path | None = typer.Option(
        None, "--save", metavar="CASE.yaml", help="Store the question as an evaluation case, secrets masked."
    ),
    as_json: bool = JSON,
) -> int:
    """Ask what is wrong.

    Exit codes: 0 a how-to or a healthy log, 2 a fault was diagnosed, 3 not enough to tell, 64 wrong usage.

    \b
        crashcart ask "vLLM on my 24 GB card dies at start-up" --log vllm.log
        journalctl -u vllm | crashcart ask -
    """
    from assistant.input import check_question
    from assistant.types import Question

    if thread:
        from assistant.threads import check_thread

        check_thread(thread)
    text, logs = (question, {}) if question != "-" else ("", {"stdin": read_stdin()})
    assistant = open_assistant(as_json, lang=lang, model=model)
    asked = Question(
        text=text,
        logs=logs,
        log_paths=tuple(str(p) for p in log),
        command=command,
        host=read_host(host),
        lang=assistant.settings.lang,  # type: ignore[arg-type]
        use_probes=not no_probes,
        thread=thread,
    )
    check_question(asked)
    if as_json:
        answer = assistant.answer(asked)
        print_json(answer)
    else:
        from ui.render import render_stream

        answer = render_stream(assistant.ask(asked), asked_in(asked))
    if save:
        from assistant.cases import save_case

        save_case(save, asked, answer)
        typer.echo(f"Saved {save}.", err=True)
    return ANSWER_CODES[answer.status]


def asked_in(asked: Question) -> Language:
    """The language that a question wants to be answered in."""
    from assistant.language import detect_language

    return detect_language(asked.text) if asked.lang == "auto" else asked.lang


def read_stdin() -> str:
    """Standard input as text, at most 64 MiB."""
    return sys.stdin.buffer.read(STDIN_BYTES).decode("utf-8", "replace")


def chat(
    lang: str = typer.Option(None, "--lang", metavar="auto|en|zh", help="Language of the answers [auto]."),
    no_probes: bool = typer.Option(False, "--no-probes", help="Do not look at this machine."),
    model: str = typer.Option(
        None, "--model", metavar="NAME|none", help="A language model that words the answers [none]."
    ),
    thread: str = typer.Option("", "--thread", metavar="ID", help="Go on with this conversation [a new one]."),
) -> int:
    """Talk in the terminal. An empty line ends a question, so that logs can be pasted; Ctrl-D leaves.

    Say what happened ("I did that, it still fails") and the next cause or fix follows. `crashcart threads list` finds it again.
    """
    from assistant.threads import check_thread, new_thread
    from assistant.types import Question
    from ui.render import render_stream

    assistant = open_assistant(lang=lang, model=model)
    name = check_thread(thread) if thread else new_thread()
    while True:
        try:
            text = read_question()
        except EOFError:
            typer.echo(f"\nGo on with: crashcart chat --thread {name}", err=True)
            return 0
        if text.strip():
            asked = Question(text=text, lang=assistant.settings.lang, use_probes=not no_probes, thread=name)  # type: ignore[arg-type]
            render_stream(assistant.ask(asked), asked_in(asked))


def read_question() -> str:
    """Lines up to an empty one."""
    lines = [input("> ")]
    while lines[-1].strip():
        lines.append(input("… "))
    return "\n".join(lines)
