"""The API: questions, streams, probes, scans, flags, documents and threads over HTTP; described at /api/v1/openapi.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.sse import EventSourceResponse, ServerSentEvent

from assistant.assistant import Assistant
from assistant.input import check_question
from assistant.threads import NAME
from assistant.types import Answer, Event, Question
from kb.errors import InputError
from ui import operations
from ui.measures import Measures

Lang = Literal["en", "zh"]
ThreadName = Annotated[str, Path(pattern=f"^{NAME.pattern}$", description="A thread's name.")]
BEARER = HTTPBearer(auto_error=False)
DOCUMENTED_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request cannot be used; `detail` is one sentence that says why."},
    401: {"description": "The token is missing or wrong."},
    404: {"description": "There is no such thing."},
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A question. `logs` are texts by name; `host` is a recorded host (`crashcart checkup --json`) in place of the server's."""

    question: str = ""
    logs: dict[str, str] = field(default_factory=dict)
    command: str = ""
    host: dict[str, Any] | None = None
    lang: Literal["auto", "en", "zh"] = "auto"
    use_probes: bool = True
    thread: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A serving command, and the release to check it against, e.g. `vllm==0.11.0`."""

    command: str
    release: str = ""


@dataclass(frozen=True, slots=True)
class Rating:
    """Whether an answer helped; `place` counts a thread's questions from 1, the last one when absent."""

    helped: bool
    place: int | None = None


def question_of(body: Ask) -> Question:
    """The question that a request brings; raises InputError where it cannot be asked."""
    from assistant.threads import check_thread

    if body.thread:
        check_thread(body.thread)
    question = Question(
        body.question,
        body.logs,
        command=body.command,
        host=body.host,
        lang=body.lang,
        use_probes=body.use_probes,
        thread=body.thread,
    )
    check_question(question)
    return question


def event_data(event: Event) -> dict[str, Any]:
    """An event's payload as JSON values."""
    held = {"step": event.step, "text": event.text or None, "answer": event.answer}
    return {name: msgspec.to_builtins(value) for name, value in held.items() if value is not None}


def sent(events: Iterable[Event]) -> Iterator[ServerSentEvent]:
    """Events as a browser's EventSource or curl -N reads them."""
    for event in events:
        yield ServerSentEvent(event=event.kind, data=event_data(event))


def build_router(assistant: Assistant, measures: Measures) -> APIRouter:
    """Every route under /api/v1."""
    api = APIRouter(prefix="/api/v1", responses=DOCUMENTED_ERRORS)
    route_questions(api, assistant, measures)
    route_readings(api, assistant)
    route_documents(api, assistant)
    route_threads(api, assistant)
    return api


def route_questions(api: APIRouter, assistant: Assistant, measures: Measures) -> None:
    """Asking, whole or as a stream."""

    @api.post("/ask", summary="Ask, and wait for the whole answer")
    def ask(body: Ask) -> Answer:
        question = question_of(body)
        *_, last = measures.watched(assistant.ask(question), "api")
        assert last.answer is not None
        return last.answer

    @api.post(
        "/ask/stream",
        summary="Ask, and get steps, text and answer as server-sent events",
        response_class=EventSourceResponse,
    )
    def ask_stream(body: Ask, question: Annotated[Question, Depends(question_of)]) -> Iterator[ServerSentEvent]:
        yield from sent(measures.watched(assistant.ask(question), "api"))


def route_readings(api: APIRouter, assistant: Assistant) -> None:
    """Probes, logs and flags."""

    @api.get("/checkup", summary="Run every passive probe")
    def checkup() -> dict[str, Any]:
        return operations.run_checkup(assistant)

    @api.get("/probes", summary="The probes by name")
    def probes() -> dict[str, str]:
        from probes.registry import probe_descriptions

        return probe_descriptions()

    @api.post("/probes/{name}", summary="Run one passive probe")
    def run_probe(name: str) -> dict[str, Any]:
        return operations.run_one_probe(assistant, name)

    @api.post("/scan", summary="Find every known error line in logs")
    def scan(logs: dict[str, str]) -> dict[str, Any]:
        return operations.scan_logs(assistant, logs)

    @api.post("/flags/check", summary="Check a serving command against a release")
    def check_flags(body: Command) -> Any:
        return msgspec.to_builtins(operations.check_flags(body.command, body.release))


def route_documents(api: APIRouter, assistant: Assistant) -> None:
    """What is known."""

    @api.get("/search", summary="Search the documents")
    def search(
        q: str, lang: Lang | None = None, limit: Annotated[int, Query(ge=1, le=operations.SHOWN_LIMIT)] = 5
    ) -> list[dict[str, Any]]:
        return operations.search_documents(assistant, q, lang, limit)

    @api.get("/documents", summary="Every document")
    def documents(lang: Lang = "en") -> list[dict[str, Any]]:
        return operations.list_documents(assistant, lang)

    @api.get("/documents/{name}", summary="One document")
    def document(name: str, lang: Lang = "en") -> dict[str, Any]:
        if name not in assistant.library.by_id:
            raise HTTPException(404, f"there is no document {name[:60]!r}.")
        return operations.read_document(assistant, name, lang)


def route_threads(api: APIRouter, assistant: Assistant) -> None:
    """Conversations that are kept."""

    @api.get("/threads", summary="Conversations, newest first")
    def threads(limit: Annotated[int, Query(ge=1, le=200)] = 50) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(thread) for thread in assistant.threads.list(limit)]

    @api.get("/threads/{thread}", summary="One conversation")
    def thread_read(thread: ThreadName) -> list[dict[str, Any]]:
        asked = assistant.threads.read(thread)
        if not asked:
            raise HTTPException(404, f"there is no thread {thread[:60]!r}.")
        return [msgspec.to_builtins(each) for each in asked]

    @api.delete("/threads/{thread}", summary="Forget a conversation", status_code=204)
    def thread_delete(thread: ThreadName) -> None:
        if not assistant.threads.delete(thread):
            raise HTTPException(404, f"there is no thread {thread[:60]!r}.")

    @api.post("/threads/{thread}/feedback", summary="Say whether an answer helped; keeps a case to label")
    def feedback(thread: ThreadName, body: Rating) -> dict[str, str]:
        return {"case": operations.rate(assistant, thread, body.place, body.helped)}


def build_app(assistant: Assistant, measures: Measures, is_ready: Callable[[], bool]) -> FastAPI:
    """The API with its readiness and metrics pages. With a token set, /api asks for it."""
    guards = [Depends(bearer(assistant.settings.token))] if assistant.settings.token else []
    app = FastAPI(
        title="Crashcart",
        description="Why an LLM server (vLLM, SGLang) is down or slow: logs, GPUs, versions and flags joined in one grounded diagnosis.",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its page loads scripts from another machine
        redoc_url=None,
    )
    app.include_router(build_router(assistant, measures), dependencies=guards)
    include_surfaces(app, assistant, measures)

    @app.get("/readyz", include_in_schema=False)
    def readyz(response: Response) -> dict[str, bool]:
        response.status_code = 200 if is_ready() else 503
        return {"ready": is_ready()}

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        text, kind = measures.page()
        return Response(text, media_type=kind)

    @app.exception_handler(InputError)
    def told(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    return app


def include_surfaces(app: FastAPI, assistant: Assistant, measures: Measures) -> None:
    """MCP; Slack and the webhook, each where it is set up."""
    from ui import webhook
    from ui.mcp_http import build_router as build_mcp_router
    from ui.slack_events import is_configured

    settings = assistant.settings
    app.include_router(build_mcp_router(assistant, measures))
    if is_configured(settings):
        from ui import slack

        app.include_router(slack.build_router(assistant, measures))
    if settings.webhook_token:
        app.include_router(webhook.build_router(assistant, measures))


def bearer(token: str) -> Callable[..., None]:
    """A guard that lets pass who sends `Authorization: Bearer TOKEN`; the comparison takes the same time for any token."""
    import secrets

    def guard(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        if sent is None or not secrets.compare_digest(sent.credentials.encode(), token.encode()):
            raise HTTPException(401, "the token is missing or wrong.", {"WWW-Authenticate": "Bearer"})

    return guard


if __name__ == "__main__":  # python -m ui.api > ui/openapi.json
    import json

    from assistant.settings import Settings

    print(
        json.dumps(build_app(Assistant(Settings()), Measures(), lambda: True).openapi(), indent=2, ensure_ascii=False)
    )
