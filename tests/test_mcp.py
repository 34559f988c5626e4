"""The official MCP client against Crashcart: over standard input and output, and over HTTP at a running server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import jsonschema
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.serving import COMMAND, serving

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
TOOLS = {"investigate", "search_knowledge", "run_probe", "scan_log", "check_flags", "size_model"}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    (folder / "vllm.log").write_text(f"INFO start\n{OOM}\n", "utf-8")
    (folder.parent / "outside.log").write_text(OOM, "utf-8")
    return folder


@pytest.fixture(scope="module")
def served(home: Path, logs: Path) -> Iterator[str]:
    with serving(home, token="right", log_roots=str(logs), probe_seconds="3") as url:
        yield url


@asynccontextmanager
async def over_http(url: str, token: str = "right") -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        yield client


@asynccontextmanager
async def over_stdio(home: Path, logs: Path) -> AsyncIterator[Client]:
    environment = {"CRASHCART_HOME": str(home), "CRASHCART_LOG_ROOTS": str(logs), "CRASHCART_PROBE_SECONDS": "3"}
    server = StdioServerParameters(command=sys.executable, args=[*COMMAND[1:-1], "mcp"], env=environment)
    async with Client(stdio_client(server)) as client:
        yield client


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


async def call(client: Client, tool_name: str, /, **arguments: Any) -> dict[str, Any]:
    """The structured content of a call, held against the schema that the tool publishes."""
    result = await client.call_tool(tool_name, arguments)
    assert not result.is_error, result.content
    (tool,) = [t for t in (await client.list_tools()).tools if t.name == tool_name]
    assert tool.output_schema and result.structured_content is not None
    jsonschema.validate(result.structured_content, tool.output_schema)
    return result.structured_content


async def use_everything(client: Client, logs: Path) -> None:
    """List and call every tool, read documents, get every prompt."""
    tools = (await client.list_tools()).tools
    assert {t.name for t in tools} == TOOLS
    for tool in tools:
        assert tool.annotations and tool.annotations.read_only_hint and tool.output_schema and tool.description
        assert tool.output_schema["type"] == "object" and tool.output_schema["properties"]
    answer = await call(client, "investigate", question="why?", log=OOM, use_probes=False)
    assert answer["diagnoses"][0]["id"] == "gpu-out-of-memory" and answer["schema"] == 1
    scanned = await call(client, "scan_log", text=OOM)
    assert scanned["matches"][0]["document"] == "gpu-out-of-memory"
    assert (await call(client, "scan_log", path=str(logs / "vllm.log")))["root"]["line"] == 2
    checked = await call(client, "check_flags", command="vllm serve m --swap-space 4", release="vllm==0.20.2")
    assert checked["items"][0]["status"] == "removed" and checked["patched_command"] == "vllm serve m"
    size = await call(client, "size_model", model="Qwen/Qwen2.5-32B-Instruct", gpu="H100", gpus=2)
    assert size["weights_bytes_per_gpu"] > 30e9 and size["max_concurrency"] > 1
    assert (await call(client, "run_probe", name="disk"))["status"] in ("ok", "warning", "critical", "unknown")
    found = await call(client, "search_knowledge", query="CUDA out of memory", limit=3)
    assert len(found["result"]) == 3
    (index,) = (await client.read_resource("kb://index")).contents
    listed = json.loads(index.text)  # type: ignore[union-attr]
    assert len(listed) > 50
    (document,) = (await client.read_resource("kb://zh/gpu-out-of-memory")).contents
    assert "```bash" in document.text  # type: ignore[union-attr]
    prompts = (await client.list_prompts()).prompts
    assert {p.name for p in prompts} == {"diagnose_dead_server", "diagnose_slow_server", "preview_upgrade"}
    prompt = await client.get_prompt("preview_upgrade", {"command": "vllm serve m", "release": "vllm==0.20.2"})
    assert "check_flags" in prompt.messages[0].content.text  # type: ignore[union-attr]


async def be_refused(client: Client, logs: Path) -> None:
    """What cannot be done is one sentence."""
    refused = [
        ("investigate", {"question": " "}, "question is empty"),
        ("investigate", {"question": "x", "thread": "../x"}, "cannot name a thread"),
        ("scan_log", {"path": str(logs.parent / "outside.log")}, "lies outside"),
        ("scan_log", {"path": "/proc/self/environ"}, "kernel file"),
        ("run_probe", {"name": "engine_speed"}, "puts load"),
        ("run_probe", {"name": "none"}, "There is no probe"),
        ("check_flags", {"command": "ls"}, "no serving command"),
        ("size_model", {"model": "/etc/hostname"}, "lies outside"),
        ("size_model", {"model": "no/such-model", "gpu": "H100"}, "is no config.json"),
    ]
    for name, arguments, sentence in refused:
        result = await client.call_tool(name, arguments)
        assert result.is_error and sentence in result.content[0].text, (name, result.content)  # type: ignore[union-attr]
        assert "Traceback" not in result.content[0].text  # type: ignore[union-attr]
    with pytest.raises(MCPError):
        await client.read_resource("kb://en/no-such-document")


def test_everything_works_over_http(served: str, logs: Path) -> None:
    async def go() -> None:
        async with over_http(served) as client:
            await use_everything(client, logs)
            await be_refused(client, logs)

    run(go())


def test_everything_works_over_standard_input_and_output(home: Path, logs: Path) -> None:
    async def go() -> None:
        async with over_stdio(home, logs) as client:
            await use_everything(client, logs)
            await be_refused(client, logs)

    run(go())


def test_the_token_is_asked_for_and_pages_of_other_sites_are_refused(served: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"Accept": "application/json, text/event-stream"}
    assert httpx.post(f"{served}/mcp", json=body, headers=headers).status_code == 401
    wrong = headers | {"Authorization": "Bearer wrong"}
    assert httpx.post(f"{served}/mcp", json=body, headers=wrong).status_code == 401
    right = headers | {"Authorization": "Bearer right"}
    assert httpx.post(f"{served}/mcp", json=body, headers=right | {"Origin": "https://evil.example"}).status_code == 403
    assert httpx.post(f"{served}/mcp", json=body, headers=right | {"Host": "evil.example"}).status_code == 421


def test_a_conversation_goes_on_in_its_thread(served: str) -> None:
    async def go() -> None:
        async with over_http(served) as client:
            first = await call(client, "investigate", question="it dies", log=OOM, use_probes=False, thread="mcp-1")
            again = "I did that, it still fails"
            second = await call(client, "investigate", question=again, use_probes=False, thread="mcp-1")
            assert second["diagnoses"][0]["fixes"][0]["place"] != first["diagnoses"][0]["fixes"][0]["place"]

    run(go())
