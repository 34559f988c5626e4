"""The language model at work: LangChain's agent with limits, retries and summaries, around any OpenAI-compatible endpoint.

The one home of langchain. It is imported by the model writer alone, in the thread that talks to the model, so that an answer
without a model never waits for it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import httpx
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelCallLimitMiddleware,
    ModelRequest,
    ModelResponse,
    ModelRetryMiddleware,
    SummarizationMiddleware,
    ToolCallLimitMiddleware,
)
from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphRecursionError
from langsmith import tracing_context
from pydantic import BaseModel, ConfigDict, Field, create_model

from assistant.fencing import plain
from assistant.model import OPENAI, Endpoint, Limits, Usage
from assistant.prompts import SUMMARY
from assistant.refusals import CONTEXT_IS_SHORT, TOOLS_ARE_UNKNOWN, is_refused, is_transient
from assistant.tools import Stopped, Tools
from assistant.types import Event, Step

RETRIES = 2
GONE_TRACING = ("LANGCHAIN_TRACING", "LANGCHAIN_HANDLER")  # set for an old LangChain, these make this one raise
ANSWER_TOKENS = 4000
"""The most that one call may write, and at most a quarter of the context: vLLM refuses a call whose prompt leaves less room."""
ROOM = 0.75
"""The share of the model's context above which earlier messages are summed up; the rest is for the answer."""
END_OF_TURN = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|end|endoftext|end_of_text|start_header_id|user|assistant)\|>|</s>|<(?:end|start)_of_turn>"
)
"""Where a turn ends in the templates of Qwen, Llama, Gemma, Mistral and Phi: a model served with another's goes on past it, as the person."""
logging.getLogger("langchain_core").addHandler(logging.NullHandler())  # an answer given up is no news for a terminal
Report = Callable[[Event], None]


class OutOfBudget(Exception):
    """The tokens of an answer are spent."""


class CutOff(Exception):
    """A stream ended before the answer did."""


class Endless(Exception):
    """The model calls tools and does not answer."""


def open_chat(endpoint: Endpoint, limits: Limits) -> tuple[BaseChatModel, httpx.Client]:
    """The chat model of an endpoint and the client that it speaks through, which the caller closes.

    Redirects are not followed, so that the key stays where it belongs. Retries are the agent's.
    """
    client = httpx.Client(
        timeout=limits.seconds,
        follow_redirects=False,
        trust_env=not endpoint.is_local,
        verify=endpoint.url.startswith("https:"),  # loading the certificates takes 29 ms, and plain HTTP has none
    )
    most = min(ANSWER_TOKENS, limits.context_tokens // 4)
    bounded: dict[str, Any] = (
        {"max_completion_tokens": most}
        if endpoint.url == OPENAI
        else {"temperature": 0, "extra_body": {"max_tokens": most}}
    )
    chat = ChatOpenAI(
        model=endpoint.name,
        base_url=endpoint.url,
        api_key=endpoint.key or "none",
        http_client=client,
        max_retries=0,
        timeout=limits.seconds,
        streaming=True,
        stream_usage=True,
        use_responses_api=False,
        **bounded,
    )
    return chat, client


class Meter(BaseCallbackHandler):  # type: ignore[misc]  # langchain_core is not followed
    """Counts tokens of every call, those of summaries and retries too; ends a stream when the answer was given up."""

    raise_error = True

    def __init__(self, usage: Usage, stopped: threading.Event, on_written: Callable[[int], None]) -> None:
        self.usage = usage
        self.stopped = stopped
        self.on_written = on_written
        self._asked = self._written = 0

    def on_chat_model_start(self, serialized: Any, messages: list[list[AnyMessage]], **kwargs: Any) -> None:
        """A call begins."""
        self.usage.model_calls += 1
        self._asked, self._written = sum(len(str(m.content)) for batch in messages for m in batch), 0

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        """A piece of the answer came. Raises Stopped."""
        if self.stopped.is_set():
            raise Stopped
        self._written += len(token) if isinstance(token, str) else 1
        self.on_written(self._written)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        """A call came to its end: the endpoint's count, or a quarter of the characters."""
        message = getattr(response.generations[0][0], "message", None)
        counted = getattr(message, "usage_metadata", None)
        if counted:
            self.usage.tokens_in += counted["input_tokens"]
            self.usage.tokens_out += counted["output_tokens"]
            return
        written = self._written or len(str(getattr(message, "content", "")))
        self.usage.estimated = True
        self.usage.tokens_in += self._asked // 4
        self.usage.tokens_out += written // 4


class Gate(AgentMiddleware[Any, Any, Any]):
    """Every call of the model and of a tool passes here: budget, steps, and what an endpoint cannot do."""

    def __init__(self, usage: Usage, limits: Limits, stopped: threading.Event, report: Report, shorter: str) -> None:
        super().__init__()
        self.usage, self.limits, self.stopped, self.report, self.shorter = usage, limits, stopped, report, shorter
        self.has_tools = True

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Without tools where they are used up, not understood or not paid for. Raises Stopped and OutOfBudget."""
        if self.stopped.is_set():
            raise Stopped
        if self.usage.tokens >= self.limits.tokens:
            raise OutOfBudget
        name = f"model call {self.usage.model_calls + 1}"
        self.report(Event("step_started", Step(name, "running", 0.0)))
        before, start = replace(self.usage), time.perf_counter()
        status = "warning"
        try:
            response = self._called(request, handler)
            status = "ok"
            return response
        finally:
            seconds = time.perf_counter() - start
            self.usage.seconds += seconds
            spent = self.usage.since(before)
            summary = f"{spent.tokens_in + spent.tokens_out:,} tokens"
            self.report(Event("step_finished", Step(name, status, seconds, summary), spent=spent))

    def _called(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        if not self.has_tools or self._is_last():
            request = request.override(tools=[])
        try:
            return handler(request)
        except Exception as error:  # refusals of endpoints have no common class; all but two kinds go on
            if not is_refused(error):
                raise
            if CONTEXT_IS_SHORT.search(str(error)):
                return handler(request.override(tools=[], messages=[HumanMessage(self.shorter)]))
            if request.tools and TOOLS_ARE_UNKNOWN.search(str(error)):
                self.has_tools = False
                return handler(request.override(tools=[]))
            raise

    def _is_last(self) -> bool:
        """Whether the model must answer now: the calls are used up, or most of the tokens are."""
        return (
            self.usage.tool_calls >= self.limits.tool_calls
            or self.usage.model_calls >= self.limits.model_calls - 2
            or self.usage.tokens > ROOM * self.limits.tokens
        )

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """A step for each tool that runs. Raises Stopped."""
        if self.stopped.is_set():
            raise Stopped
        name = plain(str(request.tool_call["name"]))[:40]
        known = request.tool is not None
        self.usage.tool_calls += 1
        start = time.perf_counter()
        if known:
            self.report(Event("step_started", Step(name, "running", 0.0)))
        result = handler(request)
        if known:
            failed = isinstance(result, ToolMessage) and result.status == "error"
            asked = plain(json.dumps(request.tool_call["args"], ensure_ascii=False))[:120]
            seconds = time.perf_counter() - start
            self.report(Event("step_finished", Step(name, "warning" if failed else "ok", seconds, asked)))
        return result


class Whole(AgentMiddleware[Any, Any, Any]):
    """Tells an answer from the beginning of one: a stream that is cut may look as if it had ended."""

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Raises CutOff where neither a reason to finish nor a count of tokens came."""
        response = handler(request)
        said = response.result[-1]
        ended = said.response_metadata.get("finish_reason")
        if said.response_metadata.get("model_provider") == "openai" and not ended and not said.usage_metadata:
            raise CutOff("the connection ended before the answer did")
        return response


class Agent:
    """One answer's exchange with a model. `ask` may be called again: the exchange goes on."""

    def __init__(
        self,
        chat: BaseChatModel,
        system: str,
        tools: Tools,
        limits: Limits,
        usage: Usage,
        stopped: threading.Event,
        report: Report,
        on_written: Callable[[int], None],
        shorter: str = "",
    ) -> None:
        self.messages: list[AnyMessage] = []
        self._meter = Meter(usage, stopped, on_written)
        self._steps = 6 * (limits.model_calls + limits.tool_calls) + 10
        summed = int(ROOM * limits.context_tokens)
        self._graph = create_agent(
            chat,
            offered(tools) if limits.tool_calls else [],
            system_prompt=system,
            middleware=[
                Gate(usage, limits, stopped, report, shorter),
                ToolCallLimitMiddleware(run_limit=max(limits.tool_calls, 1)),
                ModelCallLimitMiddleware(run_limit=limits.model_calls, exit_behavior="error"),
                SummarizationMiddleware(chat, trigger=("tokens", summed), keep=("messages", 4), summary_prompt=SUMMARY),
                ModelRetryMiddleware(
                    max_retries=RETRIES, retry_on=is_transient, on_failure="error", initial_delay=0.3, max_delay=2.0
                ),
                Whole(),
            ],
        )

    def ask(self, text: str) -> str:
        """The model's words to a message. Raises Endless, OutOfBudget, Stopped, and whatever an endpoint leads to."""
        self.messages.append(HumanMessage(text))
        config = {"callbacks": [self._meter], "recursion_limit": self._steps}
        for name in GONE_TRACING:
            os.environ.pop(name, None)
        with tracing_context(enabled=False):
            try:
                state = self._graph.invoke({"messages": self.messages}, config)
            except (ModelCallLimitExceededError, GraphRecursionError) as error:
                raise Endless from error
        self.messages = list(state["messages"])
        return words_of(self.messages[-1])


def words_of(message: AnyMessage) -> str:
    """The text of an answer, without what a model thought aloud."""
    if not isinstance(message, AIMessage):
        return ""
    text = str(message.text)
    ended = END_OF_TURN.search(text)
    if ended:
        text = text[: ended.start()]
    elif message.response_metadata.get("finish_reason") == "length":  # the last paragraph is not whole
        text = text.rpartition("\n\n")[0] or ("" if "```" in text else text.rpartition("\n")[0])
    text = re.sub(r"(?is)<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", "", text)
    return re.sub(r"(?is)\A.*?</(?:think|thinking|reasoning)>", "", text).strip()


class Strict(BaseModel):
    """What a tool takes and nothing beside: a call with more is refused, not run without."""

    model_config = ConfigDict(extra="forbid")


def offered(tools: Tools) -> list[BaseTool]:
    """The tools as LangChain wants them. What a tool needs and nobody gave is not offered."""

    class Search(Strict):
        query: str = Field(description="a few technical words, error text, flag or metric names")

    class Flags(Strict):
        command: str = Field(description="the serving command, as `vllm serve MODEL --flag value`")
        release: str = Field("", description="as 0.11.0; empty: the one that serves")

    found: list[BaseTool] = [
        _tool(tools.search_knowledge, Search),
        _tool(tools.check_flags, Flags),
    ]
    if tools.probes:
        listed = "; ".join(f"{name}: {title}" for name, title in tools.probes.items())
        found.append(_tool(tools.run_probe, _named("Probe", list(tools.probes), listed)))
    if tools.logs:
        schema = _named("Log", list(tools.logs), "an attached log")
        schema = create_model(
            "LogLines", __base__=schema, contains=(str, Field("", description="only lines that hold this text"))
        )
        found.append(_tool(tools.scan_log, schema))
    return found


def _named(title: str, names: Sequence[str], description: str) -> type[BaseModel]:
    """A schema that takes one of some names and nothing else."""
    fields: dict[str, Any] = {"name": (Literal[tuple(names)], Field(description=description))}
    return create_model(title, __base__=Strict, **fields)


def _tool(run: Callable[..., str], schema: type[BaseModel]) -> BaseTool:
    described = " ".join((run.__doc__ or "").split())
    return StructuredTool.from_function(run, name=run.__name__, description=described, args_schema=schema)
