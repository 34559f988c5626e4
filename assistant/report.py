"""A whole problem report as Markdown, to paste into an issue: environment, command, error, readings, what was tried.

Its size is bounded part by part, below what GitHub takes (65,536 characters); of a log it holds what the scanner found,
never the whole. Secrets and the names of home folders are masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from assistant.incident import Incident
from kb.types import Language
from probes.judging import GRAVITY
from probes.registry import facts_of
from probes.scanner import Hit, Match, ScanReport, Traceback

LIMIT = 60_000
LONGEST = {"text": 4_000, "traceback": 12_000, "matches": 10_000, "start": 4_000, "sentence": 600, "list": 6_000}
"""The most characters of one part; all parts at their most stay below LIMIT."""
MATCHES = 12
NEIGHBOURS = 3
ROLES = ("cause", "consequence", "context")
HOME = re.compile(r"((?:/home|/Users|[A-Za-z]:\\+Users)[/\\]+)(?!USER\b)[^/\\\s:'\"`|,;)<>]+")
WORDS: dict[str, dict[Language, str]] = {
    "title": {"en": "Problem report", "zh": "故障报告"},
    "problem": {"en": "What happens", "zh": "问题描述"},
    "expected": {"en": "What was expected", "zh": "预期行为"},
    "environment": {"en": "Environment", "zh": "环境信息"},
    "command": {"en": "Command", "zh": "启动命令"},
    "error": {"en": "Error", "zh": "错误信息"},
    "start": {"en": "How the log begins", "zh": "日志开头"},
    "found": {"en": "Known error lines, first and last", "zh": "已知错误行（首次与末次）"},
    "readings": {"en": "What probes read", "zh": "探针读数"},
    "release": {"en": "Release told by log or command", "zh": "日志或命令中的版本"},
    "facts": {"en": "All readings", "zh": "全部读数"},
    "packages": {"en": "Installed packages", "zh": "已安装的软件包"},
    "tried": {"en": "What was tried", "zh": "已尝试的方案"},
    "guess": {"en": "Known fault that fits best", "zh": "最吻合的已知故障"},
    "none": {"en": "_Not told._", "zh": "_未提供。_"},
    "calm": {"en": "ok: {names}", "zh": "正常：{names}"},
    "no_error": {"en": "No known error line and no exception was found.", "zh": "没有找到已知错误行或异常。"},
    "left_out": {"en": "… {n} characters left out …", "zh": "…… 省略 {n} 个字符 ……"},
    "foot": {
        "en": "Written by `crashcart report`. Secrets and home folders are masked; host names and addresses are not: read it before you post it.",
        "zh": "由 `crashcart report` 生成。敏感信息与用户目录已隐去，主机名和地址未隐去：发布前请通读。",
    },
    "want_question": {"en": "what happens, in a sentence (--question TEXT)", "zh": "一句话描述问题（--question 文字）"},
    "want_log": {"en": "the server's log (--log FILE)", "zh": "服务日志（--log 文件）"},
    "want_command": {"en": "the serving command (--command TEXT)", "zh": "启动命令（--command 文字）"},
    "want_tried": {"en": "what was tried and what it changed (--tried TEXT)", "zh": "尝试过什么、结果如何（--tried 文字）"},
    "want_versions": {"en": "the engine's environment (run it where the server runs)", "zh": "引擎所在环境的版本（请在服务主机上运行）"},
}  # fmt: skip
FACTS = (
    ("vLLM", "vllm_version"),
    ("SGLang", "sglang_version"),
    ("PyTorch", "torch_version"),
    ("CUDA (PyTorch)", "torch_cuda"),
    ("NVIDIA driver", "driver_version"),
    ("CUDA (driver)", "driver_cuda"),
    ("transformers", "transformers_version"),
    ("Python", "python_version"),
    ("Compute capability", "gpu_compute_capability"),
    ("RAM, GiB", "host_total_gib"),
    ("/dev/shm, GiB", "shm_total_gib"),
)


def write_report(incident: Incident, lang: Language) -> str:
    """The report in Markdown, at most LIMIT characters, masked."""
    from probes.reading.mask import mask

    parts = [part for part in _parts(incident, lang) if part]
    text = mask_homes(mask("\n\n".join(parts))) + "\n"
    return text if len(text) <= LIMIT else clip(text, LIMIT - 100, lang)


def missing(incident: Incident, lang: Language) -> list[str]:
    """What would make the report better, each with the option that brings it."""
    facts = facts_of(incident.results)
    wanted = {
        "want_question": not incident.question.strip(),
        "want_log": not incident.scan.files,
        "want_command": not incident.command.strip(),
        "want_tried": not incident.tried,
        "want_versions": "vllm_version" not in facts and "sglang_version" not in facts and not incident.release,
    }
    return [WORDS[key][lang] for key, is_missing in wanted.items() if is_missing]


def mask_homes(text: str) -> str:
    """Replace the name of a person in a path: `/home/ada/models` becomes `/home/USER/models`."""
    return HOME.sub(r"\g<1>USER", text)


def clip(text: str, most: int, lang: Language) -> str:
    """A text of at most about `most` characters: its start and its end, which for a traceback tells most."""
    if len(text) <= most:
        return text
    start, end = text[: most * 2 // 5], text[-(most * 3 // 5) :]
    note = WORDS["left_out"][lang].format(n=f"{len(text) - len(start) - len(end):,}")
    return f"{start}\n{note}\n{end}"


def fence(text: str, kind: str = "text") -> str:
    """A block of code around a text, whatever fences stand in it."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{ticks}{kind}\n{text.rstrip()}\n{ticks}"


def _parts(incident: Incident, lang: Language) -> Iterator[str]:
    yield f"# {_title(incident, lang)}"
    yield _section("problem", clip(incident.question.strip(), LONGEST["text"], lang), lang)
    yield _section("expected", clip(incident.expected.strip(), LONGEST["text"], lang), lang)
    yield _section("environment", _environment(incident, lang), lang)
    command = clip(incident.command.strip(), LONGEST["text"], lang)
    yield _section("command", fence(command, "bash") if command else "", lang)
    yield _section("error", _error(incident, lang), lang)
    if incident.guess:
        title, confidence = incident.guess
        yield _section("guess", f"{title} ({confidence:.0%})", lang)
    yield _section("readings", _readings(incident, lang), lang)
    tried = "\n".join(f"- {_line(text, LONGEST['sentence'])}" for text in incident.tried)
    yield _section("tried", clip(tried, LONGEST["text"], lang), lang)
    yield f"---\n{WORDS['foot'][lang]}"


def _section(key: str, body: str, lang: Language) -> str:
    """A heading and its text; what was not told is said to be so, for the reader to ask."""
    return f"## {WORDS[key][lang]}\n\n{body or WORDS['none'][lang]}"


def _title(incident: Incident, lang: Language) -> str:
    root = incident.scan.root
    said = f"{root.exception}: {root.message}" if root else incident.question
    return _line(said, 160) or WORDS["title"][lang]


def _environment(incident: Incident, lang: Language) -> str:
    """The versions and the hardware as a table, and the packages folded away."""
    facts = facts_of(incident.results)
    rows = [(label, facts[name]) for label, name in FACTS if name in facts]
    if incident.release:
        rows.insert(0, (WORDS["release"][lang], incident.release))
    if facts.get("gpu_count"):
        memory = f", {facts['gpu_total_gib']:g} GiB" if "gpu_total_gib" in facts else ""
        rows.insert(0, ("GPU", f"{facts['gpu_count']} × {facts.get('gpu_name', 'GPU')}{memory}"))
    data = {result.probe: result.data for result in incident.results}
    versions = data.get("versions", {})
    rows += [(label, versions[key]) for label, key in (("System", "os"), ("Kernel", "kernel"), ("glibc", "glibc")) if versions.get(key)]  # fmt: skip
    if not rows:
        return ""
    table = "\n".join(["| | |", "|---|---|", *(f"| {label} | {_cell(value)} |" for label, value in rows)])
    packages = _packages(versions)
    listed = "\n".join(f"{name}=={version}" for name, version in sorted(packages.items()))
    return table + (f"\n\n{_folded('packages', listed, lang)}" if packages else "")


def _packages(versions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The packages of the environment that the versions probe took to be the engine's."""
    environments = [e for e in versions.get("environments") or [] if isinstance(e, Mapping)]
    used = [e for e in environments if e.get("path") == versions.get("used")]
    packages = used[0].get("packages") if used else None
    return packages if isinstance(packages, Mapping) else {}


def _error(incident: Incident, lang: Language) -> str:
    """The exception that came first with its traceback, the known lines, and how the log begins."""
    scan = incident.scan
    if not scan.files:
        return ""
    parts = []
    traceback = _root_traceback(scan)
    if scan.root:
        root = scan.root
        where = f"{root.path}:{root.line}"
        told = traceback.text if traceback else f"{root.exception}: {root.message}"
        parts.append(f"`{where}`\n\n{fence(clip(told, LONGEST['traceback'], lang))}")
    matches = _matches(scan)
    if matches:
        lines = "\n".join(line for match in matches for line in _match(match))
        parts.append(f"### {WORDS['found'][lang]}\n\n{fence(clip(lines, LONGEST['matches'], lang))}")
    if not parts:
        parts.append(WORDS["no_error"][lang])
    if incident.start.strip():
        parts.append(_folded("start", incident.start, lang))
    return "\n\n".join(parts)


def _root_traceback(scan: ScanReport) -> Traceback | None:
    root = scan.root
    if root is None:
        return None
    inside = (t for t in scan.tracebacks if t.path == root.path and t.line <= root.line <= t.end_line)
    return next(inside, None)


def _matches(scan: ScanReport) -> list[Match]:
    """The first known lines that may be causes, then their consequences; a line that several signatures know stands once."""
    by_line: dict[tuple[str, str, int], Match] = {}
    for match in scan.matches:
        by_line.setdefault((match.document, match.first.path, match.first.line), match)
    ordered = sorted(by_line.values(), key=lambda m: ROLES.index(m.role))
    return ordered[:MATCHES]


def _match(match: Match) -> Iterator[str]:
    """A known line: how often, then its first occurrence with what stands around it, and its last."""
    yield f"{match.count}× {match.document} ({match.role})"
    yield from (f"      {_line(text, 300)}" for text in match.first.before[-NEIGHBOURS:])
    yield f"first {_where(match.first)}"
    yield from (f"      {_line(text, 300)}" for text in match.first.after[:NEIGHBOURS])
    if match.count > 1:
        yield f"last  {_where(match.last)}"


def _where(hit: Hit) -> str:
    time = f" {hit.time}" if hit.time and hit.time not in hit.text else ""
    return f"{hit.path}:{hit.line}{time}: {_line(hit.text, LONGEST['sentence'])}"


def _readings(incident: Incident, lang: Language) -> str:
    """What is not calm, worst first, each with its sentence; the calm ones by name; every fact folded away."""
    if not incident.results:
        return ""
    order = sorted(incident.results, key=lambda r: (GRAVITY.index(r.status), r.probe))
    said: dict[tuple[str, str], list[str]] = {}
    for result in (r for r in order if r.status != "ok"):
        sentence = result.summary_zh if lang == "zh" and result.summary_zh else result.summary
        said.setdefault((result.status, _line(sentence, LONGEST["sentence"])), []).append(result.probe)
    lines = [f"- **{status}** {', '.join(names)}: {sentence}" for (status, sentence), names in said.items()]
    calm = [r.probe for r in order if r.status == "ok"]
    lines += [f"- {WORDS['calm'][lang].format(names=', '.join(calm))}"] if calm else []
    facts = "\n".join(f"{name} = {value}" for name, value in sorted(facts_of(incident.results).items()))
    body = clip("\n".join(lines), LONGEST["list"], lang)
    return body + (f"\n\n{_folded('facts', facts, lang)}" if facts else "")


def _folded(key: str, text: str, lang: Language) -> str:
    """A block that a reader unfolds."""
    most = LONGEST["start"] if key == "start" else LONGEST["list"]
    return f"<details><summary>{WORDS[key][lang]}</summary>\n\n{fence(clip(text, most, lang))}\n\n</details>"


def _line(text: str, most: int) -> str:
    """A text on one line, cut at its end."""
    joined = " ".join(text.split())
    return joined if len(joined) <= most else joined[: most - 1] + "…"


def _cell(value: object) -> str:
    return _line(str(value), 200).replace("|", "\\|")
