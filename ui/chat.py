"""The web chat: one page over the conversations that are kept. What it shows is made in ui/page; here is Gradio."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

from assistant.assistant import Assistant
from assistant.settings import Settings
from kb.types import Language
from ui.page.conversations import Conversations, Here, Sent, here_of
from ui.page.host import SAMPLE_SECONDS, HostWatch, render
from ui.page.loading import load_gradio
from ui.page.words import EXAMPLES, say
from ui.server import BODY_BYTES, LOOPBACK

THREADS = 256  # Gradio's own limit is 40 answers at a time
UPLOAD_BYTES = BODY_BYTES - (1 << 20)  # the browser says so before it sends more than the server takes
# Names only: nothing is fetched. Chinese fonts are named, or a page in English gets the Japanese forms of characters.
FONTS = ["ui-sans-serif", "system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
LONGEST_TYPED = 4_000  # characters; a longer text is pasted as a file, so that a whole log does not fill the page
UPLOADS_SECONDS = (3600, 86400)  # how often to look for old uploads, and how old they get
PARTS = Path(__file__).parent / "page"
# The browser itself keeps the page from asking any other machine, whatever a log may bring into an answer.
HEAD = """<meta http-equiv="Content-Security-Policy" content="default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:">
<script>{script}</script>"""
BUTTONS = ("new", "delete", "save_text", "save_bundle", "look", "show_threads", "show_host", "language")
QUIET: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


def with_here(call: str, before: str = "") -> str:
    """The script that sends what the browser knows along, after what else is sent."""
    names = f"{before}, " if before else ""
    return f"({names}_) => [{names}cart.{call}]"


class Page:
    """The components of the page, and what each event does to them."""

    def __init__(self, talks: Conversations, watch: HostWatch) -> None:
        self.talks = talks
        self.watch = watch
        self.first = first_words()

    def build(self) -> Any:
        """The page: its components, then their events."""
        import gradio as gr

        with gr.Blocks(
            title="Crashcart", fill_height=True, analytics_enabled=False, delete_cache=UPLOADS_SECONDS
        ) as page:
            self.here = gr.JSON(visible=False)
            self.file = gr.JSON(visible=False)
            with gr.Sidebar(open=False, elem_id="threads", width="min(20rem, 88vw)") as self.threads_panel:
                self.build_threads()
            with gr.Sidebar(open=False, elem_id="host", position="right", width="min(24rem, 92vw)") as self.host_panel:
                self.build_host()
            with gr.Row(elem_id="top"):
                gr.HTML("<h1>Crashcart</h1>")
                self.to_threads = gr.Button(self.first("show_threads"), size="sm")
                self.to_host = gr.Button(self.first("show_host"), size="sm")
                self.language = gr.Button(self.first("language"), size="sm")
            self.build_talk()
            self.wire_talk()
            self.wire_panels()
            page.load(
                self.open_page,
                self.here,
                [*self.named, self.talk, self.list, self.threads_panel],
                js=with_here("now()"),
                **QUIET,
            )
        return page

    def build_threads(self) -> None:
        """The panel of conversations."""
        import gradio as gr

        self.new = gr.Button(self.first("new"), variant="primary", size="sm")
        self.list = gr.Radio(label=self.first("threads"), elem_id="thread-list")
        self.save_text = gr.Button(self.first("save_text"), size="sm")
        self.save_bundle = gr.Button(self.first("save_bundle"), size="sm")
        self.remove = gr.Button(self.first("delete"), size="sm")

    def build_host(self) -> None:
        """The panel of this host."""
        import gradio as gr

        self.host = gr.HTML(elem_id="findings")
        self.look = gr.Button(self.first("look"), size="sm")
        self.timer = gr.Timer(SAMPLE_SECONDS, active=False)

    def build_talk(self) -> None:
        """The conversation and the box to write in."""
        import gradio as gr

        self.talk = gr.Chatbot(
            elem_id="talk",
            label=self.first("chat"),
            placeholder=str(self.first("welcome")),
            show_label=False,
            scale=1,
            layout="bubble",
            buttons=["copy"],
            line_breaks=False,
            latex_delimiters=[],
            allow_tags=False,
            autoscroll=False,
            feedback_options=None,
        )
        self.box = gr.MultimodalTextbox(
            elem_id="box",
            placeholder=str(self.first("placeholder")),
            show_label=False,
            file_count="multiple",
            max_plain_text_length=LONGEST_TYPED,
            autofocus=True,
        )
        self.named = [
            *(self.box, self.new, self.list, self.remove, self.save_text, self.save_bundle),
            *(self.look, self.to_threads, self.to_host, self.language),
        ]

    def wire_talk(self) -> None:
        """Asking, stopping, asking again, taking back, rating."""
        import gradio as gr

        def chosen(here: Any, event: Any) -> Iterator[tuple[Any, Any, Any]]:
            yield from self.ask({"text": event.value["text"]}, here)

        def pressed(here: Any, event: Any) -> Iterator[tuple[Any, Any, Any]]:
            if event.value == "again":
                yield from self.again(here)
            else:
                yield gr.skip(), self.talks.rate(here_of(here), event.value), gr.skip()

        for call in (chosen, pressed):
            call.__annotations__["event"] = gr.SelectData  # Gradio looks for the type itself, not for its name
        shown = {"outputs": [self.box, self.talk, self.list]}
        begin = with_here("begin()")
        asking = [
            self.box.submit(
                self.ask,
                [self.box, self.here],
                js=with_here("begin()", "box"),
                **shown,
                **QUIET | {"api_visibility": "public", "api_name": "ask"},
            ),
            self.talk.example_select(chosen, self.here, js=begin, **shown, **QUIET),
            self.talk.option_select(pressed, self.here, js=begin, **shown, **QUIET),
            self.talk.retry(self.again, self.here, js=begin, **shown, **QUIET),
        ]
        self.asking = asking
        self.box.stop(self.stop, self.here, js=with_here("now()"), cancels=asking, **shown, **QUIET)
        self.talk.undo(self.undo, self.here, js=with_here("now()"), **shown, **QUIET)
        self.talk.clear(self.delete, self.here, js=with_here("forget()"), **shown, **QUIET)
        self.talk.change(js="() => cart.showQuestion()")

    def wire_panels(self) -> None:
        """The panels of conversations and of this host, and the language."""
        import gradio as gr

        shown = [self.talk, self.list]
        left = {"outputs": [self.box, *shown], "cancels": self.asking, **QUIET}  # the answer goes on, out of sight
        self.list.input(self.open_thread, [self.list, self.here], js="(name, _) => [name, cart.go(name)]", **left)
        self.new.click(self.open_new, self.here, js=with_here("go('')"), **left)
        self.remove.click(self.delete, self.here, [self.box, *shown], js=with_here("forget()"), **QUIET)
        for button, make in ((self.save_text, self.text_file), (self.save_bundle, self.bundle_file)):
            made = button.click(make, self.here, self.file, js=with_here("now()"), **QUIET)
            made.then(None, self.file, None, js="(file) => cart.save(file)", api_visibility="private")
        self.to_threads.click(js="() => cart.toggle('threads')", api_visibility="private")
        self.to_host.click(js="() => cart.toggle('host')", api_visibility="private")
        self.language.click(self.turn, self.here, [*self.named, *shown, self.host], js=with_here("turn()"), **QUIET)
        told = {"inputs": self.here, "outputs": self.host, "js": with_here("now()"), **QUIET}
        self.host_panel.expand(lambda here: say("looking", here_of(here).lang), **told)
        self.host_panel.expand(lambda: gr.Timer(active=True), None, self.timer, **QUIET).then(self.look_host, **told)
        self.host_panel.collapse(lambda: gr.Timer(active=False), None, self.timer, **QUIET)
        self.timer.tick(self.look_host, **told)
        self.look.click(lambda here: self.look_host(here, afresh=True), **told)

    def ask(self, message: dict[str, Any], told: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Ask: the box is emptied and can stop the answer, the list gets the thread, the messages grow."""
        sent = Sent(message.get("text") or "", tuple(message.get("files") or ()))
        yield from self.answering(here_of(told), self.talks.ask(here_of(told), sent))

    def again(self, told: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Ask the last question once more."""
        yield from self.answering(here_of(told), self.talks.again(here_of(told)))

    def answering(self, here: Here, growing: Iterator[Any]) -> Iterator[tuple[Any, Any, Any]]:
        """The page while an answer grows."""
        import gradio as gr

        shown = next(growing)
        yield gr.MultimodalTextbox(value=None, submit_btn=False, stop_btn=True), shown, gr.skip()
        for shown in growing:
            yield gr.skip(), shown, gr.skip()
        yield self.writable(), shown, self.list_of(here)

    def writable(self, text: str | None = None) -> Any:
        """The box as it is between answers; with words in it where some are given."""
        import gradio as gr

        value = {} if text is None else {"value": {"text": text, "files": []}}
        return gr.MultimodalTextbox(submit_btn=True, stop_btn=False, **value)

    def list_of(self, here: Here) -> Any:
        """The threads that this browser began, the open one marked."""
        import gradio as gr

        choices = self.talks.listed(here)
        open_one = here.thread if here.thread in {name for _, name in choices} else None
        return gr.Radio(
            choices=choices,
            value=open_one,
            label=say("threads", here.lang),
            info=None if choices else say("no_threads", here.lang),
        )

    def stop(self, told: Any) -> tuple[Any, Any, Any]:
        here = here_of(told)
        return self.writable(), self.talks.stop(here), self.list_of(here)

    def undo(self, told: Any) -> tuple[Any, Any, Any]:
        text, shown = self.talks.undo(here_of(told))
        return self.writable(text), shown, self.list_of(here_of(told))

    def delete(self, told: Any) -> tuple[Any, Any, Any]:
        import gradio as gr

        here = here_of(told)
        if here.is_kept:
            return gr.skip(), self.talks.show(here), gr.skip()
        self.talks.delete(here)
        return self.writable(), [], self.list_of(here)

    def open_thread(self, _: str, told: Any) -> tuple[Any, Any, Any]:
        here = here_of(told)
        return self.writable(), self.talks.show(here), self.list_of(here)

    def open_new(self, told: Any) -> tuple[Any, Any, Any]:
        return self.writable(), [], self.list_of(here_of(told))

    def look_host(self, told: Any, afresh: bool = False) -> str:
        return render(self.watch.view(afresh), here_of(told).lang)

    def text_file(self, told: Any) -> dict[str, str]:
        """The conversation as a Markdown file."""
        from ui.page.exports import as_markdown

        here = here_of(told)
        return self.file_of(here, "md", "text/markdown", as_markdown(self.talks.asked(here)).encode())

    def bundle_file(self, told: Any) -> dict[str, str]:
        """The masked evidence as a zip file."""
        from ui.page.exports import as_bundle

        here = here_of(told)
        return self.file_of(here, "zip", "application/zip", as_bundle(self.talks.asked(here)))

    def file_of(self, here: Here, ending: str, kind: str, data: bytes) -> dict[str, str]:
        """A file for the browser to keep; a sentence in its place where there is nothing yet."""
        import gradio as gr

        if not self.talks.asked(here):
            raise gr.Error(say("nothing_kept", here.lang), print_exception=False)
        name = f"crashcart-{here.thread[:8]}.{ending}"
        return {"name": name, "type": kind, "base64": base64.b64encode(data).decode()}

    def open_page(self, told: Any) -> tuple[Any, ...]:
        """The page in the browser's language, with the thread in its address."""
        import gradio as gr

        here = here_of(told)
        wide = bool(isinstance(told, dict) and told.get("wide"))
        panel = gr.Sidebar(open=wide)
        return (*self.words(here), self.talk_of(here), self.list_of(here), panel)

    def turn(self, told: Any) -> tuple[Any, ...]:
        """The page in the other language."""
        here = here_of(told)
        host = self.look_host(told) if self.watch.has_looked else ""
        return (*self.words(here), self.talk_of(here), self.list_of(here), host)

    def talk_of(self, here: Here) -> Any:
        """The conversation, and what stands in its place while there is none."""
        import gradio as gr

        return gr.Chatbot(
            value=self.talks.show(here),
            label=say("chat", here.lang),
            placeholder=say("welcome", here.lang),
            examples=[{"text": text} for text in EXAMPLES[here.lang]],
        )

    def words(self, here: Here) -> list[Any]:
        """The words of every component in `named`, in its order."""
        import gradio as gr

        lang: Language = here.lang
        new, *others = (gr.Button(say(key, lang)) for key in BUTTONS)
        return [gr.MultimodalTextbox(placeholder=say("placeholder", lang)), new, gr.skip(), *others]


def first_words() -> Any:
    """The words that the page is first drawn with, in the browser's own language, before it has asked for anything."""
    import gradio as gr

    keys = (*BUTTONS, "threads", "chat", "placeholder", "welcome")
    return gr.I18n(**{lang: {key: say(key, lang) for key in keys} for lang in EXAMPLES})


def build_page_app(assistant: Assistant, index_is_open: Event) -> Any:
    """The page as an ASGI application; with a login set, it asks for it."""
    settings = assistant.settings
    prepare_environment(settings)
    load_gradio()
    import gradio as gr
    from fastapi import FastAPI

    talks = Conversations(assistant, index_is_open.is_set, uploads_folder(settings))
    page = Page(talks, HostWatch(assistant.target, settings.probe_seconds)).build()
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
        theme=gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=MONO),
        css=(PARTS / "page.css").read_text("utf-8"),
        head=HEAD.format(script=(PARTS / "page.js").read_text("utf-8")),
        footer_links=[],
        i18n=first_words(),
        max_file_size=UPLOAD_BYTES,
    )


def uploads_folder(settings: Settings) -> Path:
    """Where attached files are put until they are a day old."""
    return settings.home_folder / "uploads"


def prepare_environment(settings: Settings) -> None:
    """What Gradio reads from the environment: no analytics, uploads under the home folder, no proxy on the way to this machine."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads_folder(settings))
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK]))
