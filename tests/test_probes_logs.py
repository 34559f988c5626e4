from pathlib import Path

from probes.logs import logs
from probes.types import Target

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.70 GiB of which 1.20 GiB is free."


def test_a_known_error_is_critical_and_says_where(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(f"INFO fine\n{OOM}\n")
    result = logs(Target(log_paths=(str(path),), home=str(home)))
    assert result.status == "critical"
    assert f"{path}:2" in result.summary
    assert result.data["matches"][0]["document"] == "gpu-out-of-memory"
    assert result.summary_zh and result.advice and result.advice_zh


def test_a_log_without_known_errors_is_ok(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text("INFO fine\n")
    assert logs(Target(log_paths=(str(path),), home=str(home))).status == "ok"


def test_no_log_is_unknown_and_not_ok() -> None:
    assert logs(Target()).status == "unknown"


def test_a_link_to_another_place_and_a_folder_are_refused(tmp_path: Path) -> None:
    link = tmp_path / "vllm.log"
    link.symlink_to("/etc/passwd")
    result = logs(Target(log_paths=(str(link),)))
    assert result.status == "unknown" and "root" not in str(result.data)
    assert logs(Target(log_paths=(str(tmp_path),))).status == "unknown"
