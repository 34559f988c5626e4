"""NVML is only read: what the code names, and what a library that marks every changing call sees of a whole checkup."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from probes.reading.nvml_devices import ask

ROOT = Path(__file__).parent.parent
HOSTS = Path(__file__).parent / "fixtures" / "hosts"
READING = re.compile(r"nvml(?:Init\w*|Shutdown|ErrorString|(?:System|Device)Get\w*)")
FORMS = {"nvmlMemory_v2", "nvmlReturn"}
"""The version of a structure and a field of one, which are no functions."""


def functions() -> set[str]:
    """Name every function of NVML that the Python binding can call."""
    return set(re.findall(r'_nvmlGetFunctionPointer\("(nvml\w+)"', Path(pynvml.__file__).read_text("utf-8")))


def changing() -> set[str]:
    return {name for name in functions() if not READING.fullmatch(name)}


def named(path: Path) -> set[str]:
    """Collect what a module says that looks like a function of NVML: attributes, imported names, and strings."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return {name for name in found if re.fullmatch(r"nvml[A-Z]\w*", name)} - FORMS


def test_only_reading_calls_of_nvml_are_named() -> None:
    calls = {name for path in ROOT.glob("probes/**/*.py") for name in named(path)}
    assert len(calls) > 40
    assert {name for name in calls if not READING.fullmatch(name)} == set()


def test_a_call_that_changes_something_is_refused_before_it_is_made() -> None:
    with pytest.raises(ValueError, match="nvmlDeviceSetPowerManagementLimit is not a call that reads"):
        ask(pynvml, "nvmlDeviceSetPowerManagementLimit", None, 100_000)


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the fake library with every changing function of NVML added, each of which writes its name to a file."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler, so no fake libnvidia-ml.so.1 to read from")
    folder = tmp_path_factory.mktemp("trap")
    lines = ["#include <stdio.h>", "#include <stdlib.h>"]
    lines += ["static int mark(const char *name) {", '  FILE *file = fopen(getenv("FAKE_NVML_MARK"), "a");']
    lines += ['  fprintf(file, "%s\\n", name);', "  return fclose(file);", "}"]
    lines += [f'int {name}(void) {{ return mark("{name}"); }}' for name in sorted(changing())]
    (folder / "changes.c").write_text("\n".join(lines) + "\n")
    sources = [str(Path(__file__).parent / "fake_nvml" / "nvml.c"), str(folder / "changes.c")]
    output = str(folder / "libnvidia-ml.so.1")
    subprocess.run([compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-pthread", "-o", output, *sources], check=True)
    return folder


def run(trap: Path, host: str, mark: Path, code: str) -> str:
    variables = {"LD_LIBRARY_PATH": str(trap), "FAKE_NVML_HOST": str(HOSTS / host / "nvml.txt")}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables, "FAKE_NVML_MARK": str(mark), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return ran.stdout


def test_the_trap_springs(trap: Path, tmp_path: Path) -> None:
    code = "import pynvml; pynvml.nvmlInit(); pynvml.nvmlDeviceSetPowerManagementLimit(None, 1)"
    run(trap, "t4-idle", tmp_path / "mark", code)
    assert (tmp_path / "mark").read_text() == "nvmlDeviceSetPowerManagementLimit\n"
    assert len(changing()) > 50
    assert {"nvmlDeviceSetGpuLockedClocks", "nvmlDeviceSetMigMode", "nvmlDeviceClearEccErrorCounts"} <= changing()


CHECKUP = """
import json
from probes.registry import checkup
from probes.types import Target
print(json.dumps({result.probe: result.status for result in checkup(Target(), 30)}))
"""


@pytest.mark.parametrize("host", ["h100x8-straggler", "h100x2-lost", "a100-mig", "a100x2-modes"])
def test_a_whole_checkup_changes_nothing(trap: Path, tmp_path: Path, host: str) -> None:
    seen = json.loads(run(trap, host, tmp_path / "mark", CHECKUP))
    assert {seen[name] for name in ("gpu_memory", "gpu_health", "gpu_links", "gpu_differences")} <= {
        "ok",
        "warning",
        "critical",
    }
    assert not (tmp_path / "mark").exists()
