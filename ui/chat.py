"""The web chat: one page, the answer streamed, every probe and search shown as a step that opens."""

from __future__ import annotations

import html
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from assistant.assistant import Assistant
from assistant.input import check_question
from assistant.language import detect_language
from assistant.settings import Settings
from assistant.types import Event, Question, Step
from kb.errors import InputError
from kb.types import Language
from ui.server import LOOPBACK

THREADS = 256  # Gradio's own limit is 40 answers at a time
UPLOAD_BYTES = 4 << 30
# Names only: nothing is fetched. Chinese fonts are named, or a page in English gets the Japanese forms of characters.
FONTS = ["ui-sans-serif", "system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
TITLE = "# Crashcart\n\nSay what is wrong with your vLLM or SGLang server, and attach its log.\n\n描述故障现象，并附上日志。"
EXAMPLES = [
    "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (20304).",
    "首个 token 要等 8 秒，怎么优化？",
    "vllm: error: unrecognized arguments: --swap-space 4",
    "多卡启动时 NCCL 一直卡住，怎么办？",
]
LONGEST_TYPED = 4_000  # characters; a longer text is pasted as a file, so that a whole log does not fill the page
MARKS = re.compile(r"[\\`*_\[\]<>#|~$&]")
UPLOADS_SECONDS = (3600, 86400)  # how often to look for old uploads, and how old they get

SAID: dict[str, dict[Language, str]] = {
    "empty": {"en": "Say what is wrong, or attach a log.", "zh": "请描述故障现象，或附上日志。"},
    "scan": {"en": "Read the question and the logs", "zh": "阅读问题与日志"},
    "search": {"en": "Search the documents", "zh": "检索知识库"},
    "probe": {"en": "Probe {name}", "zh": "探测 {name}"},
    "first_search": {
        "en": "The first search builds its index; that takes some seconds, once.",
        "zh": "首次检索需要建立索引，只需几秒，仅此一次。",
    },
}
STATUSES: dict[str, dict[Language, str]] = {
    "warning": {"en": "warning", "zh": "警告"},
    "critical": {"en": "critical", "zh": "严重"},
    "unknown": {"en": "unknown", "zh": "未知"},
}

CSS = """
.gradio-container { max-width: 60rem !important; width: 100%; min-width: 0; margin: 0 auto; }
.gradio-container .main { min-width: 0; padding: 0.75rem clamp(0.5rem, 3vw, 2rem) !important; }
.gradio-container .wrap, .gradio-container main { min-width: 0; }
#title { text-align: center; }
#title h1, #title p { margin: 0; }
#talk .examples { grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
#talk .message-wrap { padding-bottom: 60vh; }
#talk .message-row { max-width: calc(100% - 1rem); margin-inline: 0.5rem; scroll-margin-top: 1.5rem; }
#talk .message-buttons-right { display: none; }
#talk .message-wrap .prose { opacity: 1; }
#talk .thought-group { margin: 0 0 0.3rem; padding: 0.1rem 0.4rem; }
#talk .code_wrap pre { padding-right: 2.5rem; }
#talk .code_wrap code { white-space: pre-wrap; overflow-wrap: anywhere; }
#talk pre.said { margin: 0; padding: 0; background: none; border: 0; font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }
"""
# The browser itself keeps the page from asking any other machine, whatever a log may bring into an answer.
HEAD = """<meta http-equiv="Content-Security-Policy" content="default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:">"""
# An answer is read from its start: the newest question is brought to the top once, and nothing scrolls after that.
SHOW_QUESTION = """() => {
  const question = [...document.querySelectorAll('#talk .user-row')].at(-1);
  if (question && question !== window.shownQuestion) question.scrollIntoView({block: 'start'});
  window.shownQuestion = question;
}"""


def plain(text: str) -> str:
    """Text as it stands, where Markdown is read: its marks escaped."""
    return MARKS.sub(r"\\\g<0>", text)


def step_title(step: Step, lang: Language) -> str:
    """What is done, in the language of the question; a step without a name of its own keeps the assistant's."""
    if step.name.startswith("probe "):
        return SAID["probe"][lang].format(name=step.name.removeprefix("probe "))
    return SAID[step.name][lang] if step.name in SAID else step.name


def step_message(step: Step, lang: Language, index_is_open: bool = True) -> dict[str, Any]:
    """A step as a message that opens: what is done, how long it took, how it went; its one sentence inside."""
    metadata: dict[str, Any] = {"title": step_title(step, lang)}
    if step.status == "running":
        waiting = step.name == "search" and not index_is_open
        return {
            "role": "assistant",
            "content": SAID["first_search"][lang] if waiting else "…",
            "metadata": metadata | {"status": "pending"},
        }
    metadata |= {
        "status": "done",
        "duration": round(step.seconds, 3),
        "log": STATUSES.get(step.status, {}).get(lang, ""),
    }
    return {"role": "assistant", "content": plain(step.summary) or "…", "metadata": metadata}


def placed(steps: Sequence[Step], step: Step) -> list[Step]:
    """The steps with this one: in the place of its own start, or last."""
    for i, other in enumerate(steps):
        if other.name == step.name and other.status == "running":
            return [*steps[:i], step, *steps[i + 1 :]]
    return [*steps, step]


def messages(events: Iterable[Event], lang: Language, index_is_open: threading.Event) -> Iterator[list[dict[str, Any]]]:
    """The assistant's messages after each event: the steps, then the warnings, then the text as it grows."""
    steps: list[Step] = []
    text = ""
    warnings: tuple[str, ...] = ()
    for event in events:
        if event.step:
            steps = placed(steps, event.step)
        elif event.kind == "text":
            text += event.text
        elif event.answer:
            text, warnings = event.answer.text, event.answer.warnings
        said = "\n\n".join([*(f"> ⚠ {plain(warning)}" for warning in warnings), text])
        shown = [step_message(step, lang, index_is_open.is_set()) for step in steps]
        yield [*shown, {"role": "assistant", "content": said}] if said else shown


def without_folders(text: str, paths: Sequence[str]) -> str:
    """Uploaded files by the names that the user knows, not by where they were put."""
    for path in paths:
        text = text.replace(path, Path(path).name)
    return text


def user_message(question: Question) -> dict[str, Any]:
    """What the user sent, as it stands: nothing in it is read as Markdown or HTML."""
    lines = [*(f"📎 {Path(path).name}" for path in question.log_paths), question.text.strip()]
    said = html.escape("\n".join(filter(None, lines)) or "…")
    return {"role": "user", "content": f'<pre class="said">{said}</pre>'}


def replies(assistant: Assistant, question: Question, index_is_open: threading.Event) -> Iterator[list[dict[str, Any]]]:
    """The assistant's messages as they grow; one sentence where the question cannot be used."""
    lang = question.lang if question.lang != "auto" else detect_language(question.text)
    if not question.text.strip() and not question.log_paths:
        yield [{"role": "assistant", "content": SAID["empty"][lang]}]
        return
    try:
        check_question(question)
        for shown in messages(assistant.ask(question), lang, index_is_open):
            yield [m | {"content": without_folders(m["content"], question.log_paths)} for m in shown]
    except InputError as error:
        yield [{"role": "assistant", "content": plain(without_folders(str(error), question.log_paths))}]


def build_page(assistant: Assistant, index_is_open: threading.Event) -> Any:
    """The Gradio page over an opened assistant."""
    import gradio as gr

    def ask(message: dict[str, Any], history: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
        question = Question(
            text=message.get("text") or "",
            log_paths=tuple(message.get("files") or ()),
            lang=assistant.settings.lang,  # type: ignore[arg-type]
        )
        so_far = [*history, user_message(question)]
        yield None, so_far
        for shown in replies(assistant, question, index_is_open):
            yield gr.skip(), [*so_far, *shown]

    def ask_example(history: list[Any], chosen: Any) -> Iterator[tuple[Any, list[Any]]]:
        yield from ask({"text": chosen.value["text"]}, history)

    ask_example.__annotations__["chosen"] = gr.SelectData  # Gradio looks for the type itself, not for its name

    with gr.Blocks(title="Crashcart", fill_height=True, analytics_enabled=False, delete_cache=UPLOADS_SECONDS) as page:
        gr.Markdown(TITLE, elem_id="title")
        talk = gr.Chatbot(
            elem_id="talk",
            show_label=False,
            scale=1,
            layout="bubble",
            buttons=["copy"],
            line_breaks=False,
            latex_delimiters=[],
            allow_tags=False,
            autoscroll=False,
            examples=[{"text": text} for text in EXAMPLES],
        )
        box = gr.MultimodalTextbox(
            show_label=False,
            file_count="multiple",
            max_plain_text_length=LONGEST_TYPED,
            placeholder="What is wrong? · 出了什么问题？",
            autofocus=True,
        )
        shown = {"outputs": [box, talk], "concurrency_limit": None, "show_progress": "hidden"}
        box.submit(ask, [box, talk], api_name="ask", **shown)
        talk.example_select(ask_example, talk, api_visibility="private", **shown)
        talk.change(js=SHOW_QUESTION)
        talk.clear(list, None, talk, api_visibility="private")
    return page


def build_page_app(assistant: Assistant, index_is_open: threading.Event) -> Any:
    """The page as an ASGI application; with a login set, it asks for it."""
    settings = assistant.settings
    prepare_environment(settings)
    import gradio as gr
    from fastapi import FastAPI

    page = build_page(assistant, index_is_open)
    page.queue(default_concurrency_limit=None, api_open=False)
    page.max_threads = THREADS
    page.has_launched = True  # else a mounted page reads any path that a client names, uploaded or not
    name, _, password = settings.login.partition(":")
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        auth=(name, password) if password else None,
        ssr_mode=False,
        mcp_server=False,
        run_history=False,
        enable_monitoring=False,
        theme=gr.themes.Default(font=FONTS, font_mono=MONO),
        css=CSS,
        head=HEAD,
        footer_links=[],
        max_file_size=UPLOAD_BYTES,
    )


def prepare_environment(settings: Settings) -> None:
    """What Gradio reads from the environment: no analytics, uploads under the home folder, no proxy on the way to this machine."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(settings.home_folder / "uploads")
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK]))
