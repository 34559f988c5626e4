"""Dead flags in people's own runbooks, by the line on which they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kb.runbook_lint import dead_flags

Run = Callable[..., tuple[int, str, str]]

CHINESE = """# 线上推理服务重启手册

服务起不来时,先看日志,再按下面的命令重启。

```bash
# 不要忘记先停旧进程
vllm serve Qwen/Qwen2.5-7B-Instruct \\
  --swap-space 4 \\
  --max-model-len 8192
```

如果用容器:

```yaml
services:
  vllm:
    image: vllm/vllm-openai:v0.8.5
    command: --model Qwen/Qwen3-8B --swap-space 4 --enable-chunked-context
```

行内写法:`vllm serve m --use-v2-block-manager`。

1. 也可以直接执行:

    $ python3 -m sglang.launch_server --model-path m --enable-overlap-schedule
"""


@pytest.fixture
def runbook(tmp_path: Path) -> Path:
    path = tmp_path / "restart.md"
    path.write_text(CHINESE, "utf-8")
    return path


def test_every_kind_of_block_is_read_with_its_lines(runbook: Path) -> None:
    found = [(each.line, each.release, each.status.name, each.status.status) for each in dead_flags(runbook)]
    assert found == [
        (8, "vllm==0.33.0", "--swap-space", "removed"),
        (18, "vllm==0.8.5", "--enable-chunked-context", "never"),
        (21, "vllm==0.33.0", "--use-v2-block-manager", "removed"),
        (25, "sglang==0.5.23", "--enable-overlap-schedule", "removed"),
    ]


def test_a_release_that_is_asked_for_counts_and_the_other_engine_does_not(runbook: Path) -> None:
    found = [(each.line, each.status.name) for each in dead_flags(runbook, "vllm", "0.8.5")]
    assert found == [(18, "--enable-chunked-context")]
    assert [each.line for each in dead_flags(runbook, "vllm", "0.20.2")] == [8, 18, 18, 21]


def test_a_plain_manifest_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(
        "services:\n  a:\n    image: vllm/vllm-openai:v0.20.2\n    command:\n    - --model=m\n    - --swap-space=4\n"
    )
    assert [(each.line, each.status.name) for each in dead_flags(path)] == [(6, "--swap-space")]


def test_the_command_line_names_file_line_and_release(crashcart: Run, runbook: Path) -> None:
    code, out, _ = crashcart("kb", "lint", str(runbook), "--release", "vllm==0.20.2", "--lang", "en")
    assert code == 1 and "line 8, vllm==0.20.2: removed" in out and "1 documents to mend." in out
    code, out, _ = crashcart("kb", "lint", str(runbook), "--release", "vllm==0.8.5", "--lang", "zh")
    assert code == 1 and "第 18 行，vllm==0.8.5：从未有过" in out and "第 8 行" not in out


def test_runbooks_that_were_added_are_checked_by_name(crashcart: Run, runbook: Path) -> None:
    assert crashcart("kb", "add", str(runbook))[0] == 0
    code, out, _ = crashcart("kb", "lint", "restart", "--lang", "en")
    assert code == 1 and "--swap-space" in out
    assert crashcart("kb", "remove", "restart")[0] == 0
