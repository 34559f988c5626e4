from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kb.types import Signature
from probes.judging import Finding, conclude
from probes.reading.files import Unreadable, resolve
from probes.reading.processes import read_processes
from probes.reading.servers import read_servers
from probes.registry import probe
from probes.types import ProbeResult, Target

if TYPE_CHECKING:
    from probes.scanner import Match, ScanReport

SHOWN = 5


@probe()
def logs(target: Target) -> ProbeResult:
    """Scan the operator's logs, and those of running servers under the log roots, for every known error line. Names the
    fault, how often it was seen, and where first."""
    paths, refused = readable(target)
    if not paths:
        return nothing_to_read(refused)
    from probes.scanner import ScanError, scan_files

    try:
        return judge(scan_files(paths, known_signatures(target.home)), refused)
    except ScanError as error:
        return nothing_to_read([*refused, str(error)])


def readable(target: Target) -> tuple[list[str], list[str]]:
    """The logs that may be read, and a sentence for each that may not."""
    paths, refused = [], []
    roots = [*target.log_roots, *(str(Path(p).parent) for p in target.log_paths)]
    found = [server.log for server in read_servers(read_processes()) if server.log]
    for path in dict.fromkeys([*target.log_paths, *found]):
        try:
            paths.append(str(resolve(path, roots)))
        except Unreadable as error:
            refused.append(str(error))
    return paths, refused


def known_signatures(home: str) -> tuple[Signature, ...]:
    """The signatures of the knowledge base; a probe writes nothing, so what is not in the cache is compiled for this once."""
    from kb.library import load_library

    folder = Path(home)
    return load_library(folder / "cache", folder / "runbooks" if home else None, keep=False).signatures


def nothing_to_read(refused: list[str]) -> ProbeResult:
    """No log is known, or none may be read."""
    why, why_zh = (
        (refused[0], refused[0])
        if refused
        else ("No log of a running server is known here.", "这里没有已知的服务日志。")
    )
    return ProbeResult(
        "logs",
        "unknown",
        why,
        why_zh,
        source="log files",
        advice=("Name the log: CRASHCART_LOG_PATHS=/path/vllm.log, or ask with `crashcart ask … --log FILE`.",),
        advice_zh=("请指定日志：CRASHCART_LOG_PATHS=/path/vllm.log，或用 `crashcart ask … --log 文件` 提问。",),
    )


def judge(report: ScanReport, refused: list[str]) -> ProbeResult:
    """A known cause in a log is critical; a log without any is ok."""
    from probes.scanner import to_json

    causes = [match for match in report.matches if match.role == "cause"]
    findings = [finding(match) for match in causes[:SHOWN]]
    lines = sum(file.lines for file in report.files)
    names = ", ".join(file.path for file in report.files)
    calm = (f"No known error in {lines:,} lines of {names}.", f"{names} 的 {lines:,} 行中没有已知错误。")
    return conclude("logs", calm, findings, {}, {**to_json(report), "refused": refused}, names)


def finding(match: Match) -> Finding:
    """One known error line and where it stands."""
    where = f"{match.first.path}:{match.first.line}"
    text = match.first.text.strip()[:200]
    return Finding(
        "critical",
        f"{match.count}× {match.document} since {where}: {text}",
        f"{match.document} 出现 {match.count} 次，首次在 {where}：{text}",
        f"Ask for the fix: crashcart ask 'what is wrong?' --log {match.first.path}",
        f"查看解决办法：crashcart ask '哪里出了问题？' --log {match.first.path}",
    )
