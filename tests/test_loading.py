"""Gradio is imported without its development aid."""

from __future__ import annotations

import os
import subprocess
import sys

TOUCHED = """
import gc, sys
from ui.page.loading import load_gradio, WithoutStubs
touched = []
sys.addaudithook(lambda event, args: touched.append(args[0]) if event == "open" and str(args[0]).endswith(".pyi") else None)
load_gradio()
import gradio
gradio.Textbox(), gradio.Blocks(), gradio.HTML()
print(touched, gc.isenabled(), [finder for finder in sys.meta_path if isinstance(finder, WithoutStubs)])
"""


def test_no_stub_is_read_or_written() -> None:
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    run = subprocess.run(
        [sys.executable, "-c", TOUCHED], capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    assert run.stdout.strip() == "[] True []"
