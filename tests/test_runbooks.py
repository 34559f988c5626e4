"""A user's runbooks: what is read out of them, and how they are kept."""

import re
from pathlib import Path

import pytest

from kb.chunking import slug
from kb.runbooks import add_runbooks, list_runbooks, read_runbook, remove_runbook, runbook_chunks, runbook_documents
from kb.types import Command, Document, Remedy

RUNBOOKS = Path(__file__).parent / "fixtures/runbooks"
APPENDIX = Path(__file__).parent.parent.parent / "shared/reference/appendix-b.zh.md"
CHINESE = RUNBOOKS / "推理平台值班手册.md"
KEY = "sk-proj-4Zt0pQw8Lr2Nv6Xy1Bc3Df5Gh7Jk9Mn0"


def masked(text: str) -> str:
    return text.replace(KEY, "<key>")


def by_title(documents: list[Document]) -> dict[str, Document]:
    return {document.title: document for document in documents}


def commands(fix: Remedy) -> list[str]:
    return [command.text for command in fix.commands]


def read(folder: Path, text: str) -> dict[str, Document]:
    path = folder / "notes.md"
    path.write_text(text, "utf-8")
    return by_title(read_runbook(path))


@pytest.fixture(scope="module")
def appendix() -> list[Document]:
    if not APPENDIX.exists():
        pytest.skip("appendix-b.zh.md is not beside this checkout")
    return read_runbook(APPENDIX, name="appendix-b")


def test_the_appendix_gives_a_document_for_each_bold_entry(appendix: list[Document]) -> None:
    found = by_title(appendix)
    assert [d.title for d in appendix if d.section[-1:] == ("B.1.1 CUDA相关错误",)] == [
        "错误1: CUDA out of memory",
        "错误2: CUDA error: invalid configuration argument",
        "错误3: CUDA error: no kernel image is available for execution",
    ]
    assert len([d for d in appendix if d.section[-1:] == ("B.1.3 性能问题",)]) == 3
    assert len([d for d in appendix if d.section[-1:] == ("B.1.4 模型加载失败",)]) == 3
    assert found["B.1.2 显存不足 (OOM)"].kind == found["B.1.5 推理速度慢"].kind == "fault"
    assert found["B.2.1 日志分析"].kind == found["B.3.2 软件层面"].kind == "howto"
    assert found["错误1: CUDA out of memory"].id == "user/appendix-b/错误1-cuda-out-of-memory"
    assert len({d.id for d in appendix}) == len(appendix)
    assert all(d.language == "zh" for d in appendix)


def test_the_appendix_gives_signatures_of_printed_lines_alone(appendix: list[Document]) -> None:
    examples = {s.example for d in appendix for s in d.signatures}
    assert examples == {
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: CUDA error: invalid configuration argument",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "torch.cuda.OutOfMemoryError: CUDA out of memory",
        "Kill process or sacrifice child",
        "OSError: meta-llama/Llama-3-8B is not a local folder",
        "OSError: You are trying to access a gated repo.",
        "ValueError: Checkpoint shards have conflicting tensor names",
    }
    first = by_title(appendix)["错误1: CUDA out of memory"].signatures[0]
    assert re.search(first.pattern, "CUDA out of memory. Tried to allocate 512.00 MiB")
    assert first.role == "cause"


def test_the_appendix_gives_fixes_with_their_commands_and_lines(appendix: list[Document]) -> None:
    lines = APPENDIX.read_text("utf-8").split("\n")
    first = by_title(appendix)["错误1: CUDA out of memory"]
    assert [fix.title for fix in first.fixes] == [
        "减少max_model_len",
        "降低GPU内存利用率",
        "减少并发请求",
        "启用KV Cache量化",
        "使用量化模型",
    ]
    assert commands(first.fixes[0]) == ["vllm serve meta-llama/Llama-3-8B \\\n  --max-model-len 4096"]
    assert first.fixes[0].text == "从8192降到4096"
    assert {fix.risk for fix in first.fixes} == {"restart"}
    assert "max_model_len设置过大" in first.sections["causes"]
    for document in appendix:
        for fix in document.fixes:
            for command in fix.commands:
                assert lines[command.line - 1].startswith(command.text.split("\n")[0].rstrip("\\ "))
                assert fix.lines[0] <= command.line <= fix.lines[1]


def test_a_command_that_the_appendix_calls_wrong_is_no_fix(appendix: list[Document]) -> None:
    second = by_title(appendix)["错误2: CUDA error: invalid configuration argument"]
    given = [text for fix in second.fixes for text in commands(fix)]
    assert given == ["nvidia-smi --list-gpus", "vllm serve meta-llama/Llama-3-70B \\\n  --tensor-parallel-size 1"]
    assert [fix.risk for fix in second.fixes] == ["read-only", "restart"]


def test_risks_parts_and_tables_of_the_appendix(appendix: list[Document]) -> None:
    found = by_title(appendix)
    third = {
        fix.title: fix.risk for fix in found["错误3: CUDA error: no kernel image is available for execution"].fixes
    }
    assert third == {
        "检查CUDA版本": "read-only",
        "检查GPU架构": "read-only",
        "升级CUDA": "reinstall",
        "或使用conda": "reinstall",
    }
    mismatch = {fix.title: fix.risk for fix in found["错误3: Checkpoint mismatch"].fixes}
    assert mismatch["重新下载模型"] == "destructive"
    matrix = found["B.1.2 显存不足 (OOM)"].fixes
    assert [fix.title for fix in matrix][:2] == ["模型太大: 量化", "序列太长: 减少max_model_len"]
    assert matrix[0].lines == (139, 139)
    assert found["问题1: TTFT过长"].symptoms == ("首个token返回时间 > 5秒",)
    assert "VLLM_USE_TRACING" in found["问题1: TTFT过长"].sections["diagnosis"]
    assert "减少prompt长度" in [fix.title for fix in found["问题1: TTFT过长"].fixes]


def test_the_appendix_survives_its_own_issue_template(appendix: list[Document]) -> None:
    titles = [d.title for d in appendix]
    assert titles[-3:] == ["B.3.1 硬件层面", "B.3.2 软件层面", "B.3.3 配置层面"]
    assert not {"问题描述", "错误信息", "环境信息"} & set(titles)
    template = next(c for c in runbook_chunks(appendix) if "## 实际行为" in c.text)
    assert template.heading[-1] == "B.2.4 社区求助技巧"
    assert template.text.count("## ") >= 7


def test_an_english_runbook() -> None:
    found = by_title(read_runbook(RUNBOOKS / "serving-oncall.md"))
    assert list(found) == [
        "Serving on-call",
        "Issue 1: Engine dies while capturing CUDA graphs",
        "Issue 2: One GPU is gone",
        "Rotating the API key",
    ]
    graphs = found["Issue 1: Engine dies while capturing CUDA graphs"]
    assert graphs.id == "user/serving-oncall/issue-1-engine-dies-while-capturing-cuda-graphs"
    assert graphs.aliases == ("Engine dies while capturing CUDA graphs",)
    assert graphs.engines == ("vllm",)
    assert [(s.role, s.example.split(":")[0]) for s in graphs.signatures][1] == ("consequence", "RuntimeError")
    assert "(EngineCore_DP0 pid=411)" not in graphs.signatures[0].pattern
    assert [fix.title for fix in graphs.fixes][:2] == [
        "Give memory back to the graphs",
        "If the sidecar has to stay, move it",
    ]
    assert commands(graphs.fixes[1])[1].startswith("docker run -d --name embed-sidecar")
    assert graphs.fixes[2].risk == "destructive"
    assert "sidecar" in graphs.sections["causes"]
    assert "answers 200" in graphs.sections["check"]


def test_prompts_are_taken_off_and_what_was_printed_is_no_command() -> None:
    gone = by_title(read_runbook(RUNBOOKS / "serving-oncall.md"))["Issue 2: One GPU is gone"]
    (fix,) = gone.fixes
    assert commands(fix) == ["kubectl drain gpu-host-17 --ignore-daemonsets", "ssh gpu-host-17 sudo reboot"]
    assert fix.risk == "reboot"
    (signature,) = gone.signatures
    assert re.search(
        signature.pattern, "NVRM: Xid (PCI:0000:9b:00): 79, pid=1, name=python3, GPU has fallen off the bus."
    )


def test_a_chinese_runbook() -> None:
    found = by_title(read_runbook(CHINESE))
    hang = found["问题1：请求全部超时"]
    assert hang.language == "zh"
    assert hang.symptoms == ("网关返回 504，`/health` 仍然是 200，GPU 利用率为 0。",)
    assert [fix.title for fix in hang.fixes] == ["重启这一组副本", "指定网卡，避免走到管理网"]
    assert not any("pkill" in text for fix in hang.fixes for text in commands(fix))
    assert "504" in hang.sections["check"]
    assert [s.example[:8] for s in hang.signatures] == ["[rank3]:", "torch.di"]
    assert found["扩容前检查"].kind == "howto"
    assert found["扩容前检查"].fixes[0].risk == "read-only"
    assert found["扩容前检查"].section == ("二、日常操作",)


def test_an_html_export_and_a_pdf() -> None:
    gateway = by_title(read_runbook(RUNBOOKS / "gateway.html"))["Problem 1: 502 after a rollout"]
    assert re.search(
        gateway.signatures[0].pattern,
        "2025/04/01 01:02:03 [error] 7#7: *1 connect() failed (111: Connection refused) while connecting to upstream, "
        'client: 10.9.9.9, upstream: "http://10.1.1.1:9000/v1/completions"',
    )
    assert [fix.title for fix in gateway.fixes] == ["Wait until the server is ready", "Take the host out of the pool"]
    driver = by_title(read_runbook(RUNBOOKS / "spare-node.pdf"))["Error 1: the driver does not match"]
    assert driver.signatures[0].example == "Failed to initialize NVML: Driver/library version mismatch"
    assert driver.fixes == (
        Remedy("Reload by a reboot", "", "reboot", commands=(Command("sudo reboot", line=19),), lines=(18, 19)),
    )


def test_python_source_and_comments_are_no_signatures(tmp_path: Path) -> None:
    text = (
        "# Error 1: none\n\n```python\nprint('CUDA error: none')\nraise ValueError('failed to load it')\n```\n\n"
        "```\nprint('CUDA out of memory: none here')\nraise RuntimeError('failed to find it here')\n# ERROR: failed here it says\n"
        "INFO 07-11 12:00:00 started server process\n```\n\n```bash\n# if it says: CUDA error: device-side assert triggered\n"
        "grep 'CUDA error: device-side assert' vllm.log\n```\n"
    )
    assert all(not document.signatures for document in read(tmp_path, text).values())


def test_the_last_line_of_a_traceback_in_a_python_fence_is_a_signature(tmp_path: Path) -> None:
    text = (
        '# Error 1: keys\n\n```python\nTraceback (most recent call last):\n  File "/a/loader.py", line 3, in load\n'
        "    raise KeyError(name)\nKeyError: 'layers.0.mlp.experts.w13_weight'\n```\n"
    )
    (signature,) = read(tmp_path, text)["Error 1: keys"].signatures
    assert signature.example.startswith("KeyError: ")


def test_commands_over_several_lines_stay_together(tmp_path: Path) -> None:
    text = (
        '# Issue 1: x\n\n## Fix\n\n```bash\ncat > a.json <<\'EOF\'\n{"a": 1}\nEOF\n\n# Try again\npython -c "\nimport vllm\n'
        "print('it is')\n\"  # prints it\necho it's over\nls\n```\n"
    )
    first, second = read(tmp_path, text)["Issue 1: x"].fixes
    assert commands(first) == ["cat > a.json <<'EOF'\n{\"a\": 1}\nEOF"]
    assert commands(second) == ["python -c \"\nimport vllm\nprint('it is')\n\"", "echo it's over", "ls"]
    assert second.text == "prints it"


@pytest.mark.parametrize(
    ("command", "risk"),
    [
        ("nvidia-smi", "read-only"),
        ("sudo dmesg -T | grep -i xid", "read-only"),
        ("curl -s localhost:8000/metrics", "read-only"),
        ("vllm serve --help", "read-only"),
        ("vllm serve m --port 8000", "restart"),
        ("systemctl restart vllm", "restart"),
        ("pip list | xargs pip uninstall -y", "reinstall"),
        ("uv pip install -U vllm", "reinstall"),
        ("sudo apt-get install -y cuda", "reinstall"),
        ("docker pull vllm/vllm-openai:v0.11.0", "reinstall"),
        ("sudo reboot", "reboot"),
        ("rm -rf ~/.cache/vllm", "destructive"),
        ("kill -9 1234", "destructive"),
        ("nvidia-smi --gpu-reset -i 0", "destructive"),
        ("ps aux | grep vllm | xargs kill -9", "destructive"),
    ],
)
def test_risks(tmp_path: Path, command: str, risk: str) -> None:
    (fix,) = read(tmp_path, f"# Issue 1: x\n\n## Fix\n\n```bash\n{command}\n```\n")["Issue 1: x"].fixes
    assert (commands(fix), fix.risk) == ([command], risk)


def test_entries_of_one_title_have_ids_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "My Notes.md"
    path.write_text("# A\n\n## Issue 1: x\n\na\n\n# B\n\n## Issue 1: x\n\nb\n", "utf-8")
    assert [d.id for d in read_runbook(path)] == [
        "user/my-notes",
        "user/my-notes/issue-1-x",
        "user/my-notes/issue-1-x-2",
    ]


def test_a_folder_is_added_and_added_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = add_runbooks([RUNBOOKS], kept, masked)
    assert {result.outcome for result in first} == {"added"}
    assert [runbook.name for runbook in list_runbooks(kept)] == [
        "gateway",
        "serving-oncall",
        "spare-node",
        "推理平台值班手册",
    ]
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    assert {result.outcome for result in add_runbooks([RUNBOOKS], kept, masked)} == {"unchanged"}
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before


def test_a_changed_file_takes_the_place_of_its_former_version(tmp_path: Path) -> None:
    path, kept = tmp_path / "a.md", tmp_path / "kept"
    path.write_text("# Old\n", "utf-8")
    add_runbooks([path], kept, masked)
    path.write_text("# New\n", "utf-8")
    (result,) = add_runbooks([path], kept, masked)
    assert (result.outcome, result.detail) == ("replaced", "a")
    (runbook,) = list_runbooks(kept)
    assert runbook.path_in(kept).read_text("utf-8") == "# New\n"
    assert sorted(p.name for p in kept.rglob("*") if p.is_file()) == ["a.md", "runbook.json"]


def test_files_of_one_name_are_kept_side_by_side(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "README.md").write_text(f"# {folder}\n", "utf-8")
    results = add_runbooks([tmp_path], tmp_path / "kept", masked)
    assert [(r.outcome, r.detail) for r in results] == [("added", "readme"), ("added", "readme-2")]


def test_the_same_content_is_kept_once(tmp_path: Path) -> None:
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text("# x\n", "utf-8")
    results = add_runbooks([tmp_path], tmp_path / "kept", masked)
    assert [(r.outcome, r.detail) for r in results] == [("added", "a"), ("unchanged", "a")]


def test_hidden_and_unknown_files_and_the_kept_folder_are_passed_over(tmp_path: Path) -> None:
    for name in (".git/a.md", ".hidden.md", "b.py", "c.md", "kept/old/old.md", "deep/er/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# x " + name, "utf-8")
    results = add_runbooks([tmp_path], tmp_path / "kept", masked)
    assert [Path(r.path).name for r in results] == ["c.md", "d.txt"]


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("# x\n", "utf-8")
    (tmp_path / "bad.md").write_bytes(b"\x00\x01\x02\xff")
    (tmp_path / "empty").mkdir()
    results = add_runbooks(
        [tmp_path / "bad.md", tmp_path / "none.md", tmp_path / "empty", tmp_path / "good.md"], tmp_path / "k", masked
    )
    assert [r.outcome for r in results] == ["failed", "failed", "failed", "added"]
    assert all(r.detail.endswith(".") for r in results[:3])


def test_secrets_are_masked_before_they_are_kept(tmp_path: Path) -> None:
    add_runbooks([RUNBOOKS / "serving-oncall.md"], tmp_path, masked)
    assert all(KEY not in path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file())
    fixes = [fix for d in runbook_documents(tmp_path) for fix in d.fixes]
    assert "export GATEWAY_KEY=<key>" in [text for fix in fixes for text in commands(fix)]


def test_documents_and_chunks_of_kept_runbooks_belong_together(tmp_path: Path) -> None:
    add_runbooks([RUNBOOKS], tmp_path, masked)
    documents = runbook_documents(tmp_path)
    chunks = runbook_chunks(documents)
    ids = {document.id for document in documents}
    assert {chunk.document for chunk in chunks} <= ids
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    titles = {document.id: document.title for document in documents}
    for chunk in chunks:
        assert chunk.title == titles[chunk.document]
        lines = Path(chunk.path).read_text("utf-8").split("\n")
        assert chunk.text == "\n".join(lines[chunk.lines[0] - 1 : chunk.lines[1]])
    causes = next(c for c in chunks if "The sidecar that computes embeddings" in c.text)
    assert causes.document.endswith("issue-1-engine-dies-while-capturing-cuda-graphs")


def test_a_runbook_is_forgotten_by_name_or_by_file(tmp_path: Path) -> None:
    add_runbooks([RUNBOOKS], tmp_path, masked)
    assert remove_runbook("gateway", tmp_path)
    assert remove_runbook(str(CHINESE), tmp_path)
    assert not remove_runbook("gateway", tmp_path)
    assert [runbook.name for runbook in list_runbooks(tmp_path)] == ["serving-oncall", "spare-node"]
    assert not (tmp_path / slug(CHINESE.stem)).exists()


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert list_runbooks(tmp_path / "none") == []
    assert runbook_documents(tmp_path / "none") == []
