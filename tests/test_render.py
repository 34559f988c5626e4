"""What a scan looks like: a verdict, causes before consequences, lines that can be searched, in both languages."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. "
    "GPU 0 has a total capacity of 23.70 GiB of which 1.20 GiB is free."
)
DEAD = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause."


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "vllm.log"
    path.write_text(f"INFO vLLM is using nccl==2.18.1\n{DEAD}\n{OOM}\nINFO fine\n{OOM}\n")
    return path


def test_the_verdict_comes_first_and_causes_before_consequences(crashcart: Run, log: Path) -> None:
    code, out, err = crashcart("scan", str(log), "--lang", "en")
    lines = out.splitlines()
    assert code == 2 and err == ""
    assert lines[0] == f"1 known fault in {log} (5 lines, {log.stat().st_size} bytes)"
    assert lines[1].startswith("came first   torch.OutOfMemoryError: CUDA out of memory.")
    assert lines[2].startswith("cause        2× ") and lines[2].endswith("[gpu-out-of-memory]")
    assert lines[3] == f"             {log}:3: {OOM}" and lines[4] == f"             last {log}:5: {OOM}"
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        "1", "came", "cause", "consequence", "→", "→",
    ] or lines[-3].startswith("context")  # fmt: skip
    assert lines[-2] == f"→ crashcart ask 'what is wrong?' --log {log}"
    assert lines[-1] == "→ crashcart kb show gpu-out-of-memory"


def test_the_report_is_chinese_where_asked(crashcart: Run, log: Path) -> None:
    _, out, _ = crashcart("scan", str(log), "--lang", "zh")
    assert out.startswith(f"{log} 中有 1 个已知故障（5 行") and "原因         2× " in out
    assert not any(word in out for word in ("known fault", "cause  ", "what is wrong"))


def test_a_calm_log_is_said_to_be_calm(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "fine.log"
    path.write_text("INFO fine\n")
    assert crashcart("scan", str(path), "--lang", "en")[:2] == (0, f"No known fault in {path} (1 lines, 10 bytes)\n")


def test_standard_input_is_scanned(log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from ui.cli import main; main()", "scan", "-", "--lang", "en"],
        input=log.read_bytes(),
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2 and done.stdout.startswith(b"1 known fault in <stdin> (5 lines") and not done.stderr


def test_standard_input_is_scanned_alone(crashcart: Run, log: Path) -> None:
    code, _, err = crashcart("scan", "-", str(log))
    assert code == 64 and "standard input is scanned alone" in err
