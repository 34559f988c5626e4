"""The web chat: one page, the answer streamed, every probe and search shown as a step that opens."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

from assistant.assistant import Assistant
from assistant.input import check_question
from assistant.settings import Settings
from assistant.types import Event, Question, Step
from kb.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FONTS = ["ui-sans-serif", "system-ui", "Noto Sans CJK SC", "sans-serif"]  # names only: nothing is fetched
EXAMPLES = [
    "vLLM on my 24 GB card dies at start-up, why?",
    "首个 token 要等 8 秒,怎么优化?",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.70 GiB of which 1.20 GiB is free",
    "Which flag replaces --enable-chunked-context?",
]
FILE_TYPES = [".log", ".txt", ".gz", ".xz", ".zst", ".json", ".out", ".err"]


def step_message(step: Step) -> dict[str, Any]:
    """A step as a message that opens: its name and time, its one sentence inside."""
    return {
        "role": "assistant",
        "content": step.summary or step.status,
        "metadata": {"title": f"{step.name}: {step.status}", "duration": round(step.seconds, 3), "status": "done"},
    }


def messages(events: Iterator[Event]) -> Iterator[list[dict[str, Any]]]:
    """The chat's messages after each event: steps first, then the text as it grows, then the warnings."""
    shown: list[dict[str, Any]] = []
    text = ""
    for event in events:
        if event.kind == "step_finished" and event.step:
            shown.append(step_message(event.step))
        elif event.kind == "text":
            text += event.text
        elif event.kind == "answer" and event.answer:
            text = "\n\n".join([event.answer.text, *(f"> ⚠ {warning}" for warning in event.answer.warnings)])
        yield [*shown, {"role": "assistant", "content": text}] if text else list(shown)


def build_page(assistant: Assistant) -> Any:
    """The Gradio page over an opened assistant."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    def reply(message: dict[str, Any], _history: list[Any]) -> Iterator[list[dict[str, Any]]]:
        question = Question(
            text=message.get("text") or "",
            log_paths=tuple(message.get("files") or ()),
            lang=assistant.settings.lang,  # type: ignore[arg-type]
        )
        try:
            check_question(question)
            yield from messages(assistant.ask(question))
        except InputError as error:
            yield [{"role": "assistant", "content": str(error)}]

    return gr.ChatInterface(
        reply,
        title="Crashcart",
        description="Say what is wrong with your vLLM or SGLang server, and attach its log. 描述故障现象,并附上日志。",
        multimodal=True,
        textbox=gr.MultimodalTextbox(
            file_count="multiple", file_types=FILE_TYPES, max_plain_text_length=100_000, placeholder="What is wrong? · 出了什么问题?"
        ),
        examples=[{"text": text} for text in EXAMPLES],
        concurrency_limit=None,
        api_name="ask",
    )


def serve_chat(settings: Settings) -> int:
    """Open the page and stay until interrupted; raises InputError for a busy port or an address that others can reach."""
    if settings.host not in LOOPBACK:
        raise InputError(f"the chat has no login yet and listens on this machine only: use --host 127.0.0.1, not {settings.host}.")
    if not port_is_free(settings.host, settings.port):
        raise InputError(f"port {settings.port} is taken: crashcart serve --port {settings.port + 1}.")
    assistant = Assistant(settings)
    page = build_page(assistant)
    import gradio as gr

    page.queue(default_concurrency_limit=None, api_open=False).launch(
        server_name=settings.host,
        server_port=settings.port,
        theme=gr.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"]),
        footer_links=[],
        quiet=True,
        show_error=True,
        prevent_thread_lock=True,
        max_threads=256,
    )
    print(f"Crashcart listens on http://{settings.host}:{settings.port}  (Ctrl-C stops it)", flush=True)
    page.block_thread()
    return 0


def port_is_free(host: str, port: int) -> bool:
    """Whether a server can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
