"""Gradio imported in 2.3 s instead of 4.4, and without writing into its own folder."""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

STUB_WRITER = "gradio.component_meta"


class WithoutStubs(importlib.abc.MetaPathFinder):
    """Takes from Gradio what it does at the import of each of its 80 components: parse its source and write a .pyi beside it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != STUB_WRITER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return spec
        run = spec.loader.exec_module

        def run_and_replace(module: ModuleType) -> None:
            run(module)
            module.create_or_modify_pyi = lambda *_: None  # type: ignore[attr-defined]

        spec.loader.exec_module = run_and_replace  # type: ignore[method-assign]
        return spec


def load_gradio() -> None:
    """Import it; the collector of garbage, which finds none in modules, waits meanwhile (0.4 s)."""
    finder = WithoutStubs()
    sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        import gradio  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
        sys.meta_path.remove(finder)
