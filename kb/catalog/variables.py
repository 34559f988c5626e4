"""The environment variables that a release declares or reads."""

from __future__ import annotations

import ast
import re

from kb.catalog.wheel import Sources

READ = r"(?:environ(?:\.get|\.setdefault|\.pop)?|getenv|get_bool_env_var|get_int_env_var)\s*[\[(]\s*[\"']({name})[\"']"


def declared_in_dict(sources: Sources, module: str) -> set[str]:
    """The keys of `environment_variables` in vLLM's envs.py (0.4.2 and later)."""
    found = sources.module(module)
    table = found.assigned.get("environment_variables") if found else None
    if not isinstance(table, ast.Dict):
        return set()
    return {key.value for key in table.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def declared_in_class(sources: Sources, module: str, prefix: str) -> set[str]:
    """The attributes of the `Envs` class in SGLang's environ.py (0.5.5 and later)."""
    found = sources.module(module)
    nodes = [node for owner in found.classes.values() for node in owner.body] if found else []
    targets = [t for node in nodes if isinstance(node, ast.Assign) for t in node.targets]
    return {t.id for t in targets if isinstance(t, ast.Name) and re.match(prefix, t.id)}


def read_anywhere(sources: Sources, prefix: str) -> set[str]:
    """The variables whose names start with `prefix` (a pattern) and that some file reads by name."""
    pattern = re.compile(READ.format(name=prefix + "[A-Z0-9_]+"))
    return {name for path in sources.paths for name in pattern.findall(sources.files[path])}


def read_variables(sources: Sources, engine: str) -> set[str]:
    """The variables of a release: those that its table or class declares, and those of its prefix that some file reads."""
    if engine == "vllm":
        return declared_in_dict(sources, "vllm.envs") | read_anywhere(sources, "VLLM_")
    return declared_in_class(sources, "sglang.srt.environ", "SGL(ANG)?_") | read_anywhere(sources, "SGL(?:ANG)?_")
