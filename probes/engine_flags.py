from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from probes.judging import Finding, conclude
from probes.reading.environments import read_environments
from probes.reading.flag_sources import ENGINES, Installation, find_installations, read_installed
from probes.reading.processes import read_processes
from probes.reading.servers import Server, read_servers
from probes.registry import probe
from probes.types import ProbeResult, Target

if TYPE_CHECKING:  # what the flag record imports takes 50 ms, and most hosts that are looked at have no engine
    from kb.catalog.installed import Installed
    from kb.flags import FlagStatus

SHOWN = 8
WRONG = ("refused", "removed", "renamed", "never", "not-yet", "no-op")


@dataclass(frozen=True, slots=True)
class Engine:
    """An installed engine with what it has more and fewer than its recorded release; `read` is None where it was not read,
    because its files are those of that release, or because of `trouble`."""

    installation: Installation
    flags: int
    read: Installed | None = None
    trouble: str = ""


@probe()
def engine_flags(target: Target) -> ProbeResult:
    """Read which flags the installed vLLM or SGLang really has, from its files without running it. Says where it differs
    from the record of its release, and which flags of running servers it removed, renamed or ignores."""
    processes = read_processes()
    environments = read_environments(target.environments, processes, os.environ)
    found = [installation for environment in environments for installation in find_installations(environment)]
    return judge([read_engine(installation) for installation in found], read_servers(processes))


def read_engine(installation: Installation) -> Engine:
    """Read one engine, or take the record's word for it where its files are those of a recorded release."""
    from kb.catalog.history import load

    history = load(installation.engine)
    if installation.state == "as released" and installation.release in history.releases:
        return Engine(installation, len(history.names(history.index(installation.release))))
    try:
        read = read_installed(installation)
    except (ValueError, FileNotFoundError) as error:
        return Engine(installation, 0, trouble=str(error))
    names = history.names(history.index(read.base)) - {*read.removed}
    return Engine(installation, len(names | {name for option in read.added for name in option.names}), read)


def judge(installed: Sequence[Engine], servers: Iterable[Server]) -> ProbeResult:
    """Judge the installed engines, and the commands of running servers against theirs. The first engine is the one that counts."""
    servers = [server for server in servers if server.engine in ENGINES]
    data: dict[str, Any] = {"engines": [shown(engine) for engine in installed], "commands": []}
    if not installed:
        return ProbeResult(
            "engine_flags",
            "unknown",
            "No installed vLLM or SGLang was found.",
            "没有找到已安装的 vLLM 或 SGLang。",
            data=data,
            source="site-packages",
            advice=("Run Crashcart inside the engine's environment or container, or name its site-packages folder.",),
            advice_zh=("请在引擎所在的环境或容器中运行 Crashcart，或指定其 site-packages 目录。",),
        )
    findings = [finding for engine in installed for finding in _of_engine(engine)]
    wrong = 0
    for server in servers:
        if engine := engine_of(server, installed):
            statuses = check(server.command, engine)
            data["commands"].append({"pid": server.pid, "items": [asdict(status) for status in statuses]})
            wrong += sum(status.status in WRONG for status in statuses)
            findings += [_of_flag(server, engine, status) for status in statuses if status.status in WRONG]
    facts = facts_of(installed[0]) | ({"engine_flags_wrong": wrong} if data["commands"] else {})
    return conclude("engine_flags", _figures(installed[0]), findings, facts, data, installed[0].installation.root)


def facts_of(engine: Engine) -> dict[str, Any]:
    """Gather the facts of the engine that counts."""
    state = engine.installation.state
    facts: dict[str, Any] = {"engine_is_recorded": is_recorded(engine.installation)}
    if not engine.trouble:
        facts["engine_flag_count"] = engine.flags
        facts["engine_is_changed"] = state == "changed" or bool(
            engine.read and engine.read.differs and _is_same(engine)
        )
    return facts


def is_recorded(installation: Installation) -> bool:
    """Whether the catalogue holds this release."""
    from kb.catalog.history import load

    return installation.release in load(installation.engine).releases


def engine_of(server: Server, installed: Sequence[Engine]) -> Engine | None:
    """The installation that a server runs from: that of its own process, else the only one of its engine."""
    of_kind = [each for each in installed if each.installation.engine == server.engine]
    own = [each for each in of_kind if each.installation.origin.endswith(f"(pid {server.pid})")]
    return own[0] if own else of_kind[0] if len(of_kind) == 1 else None


def check(command: str, engine: Engine) -> list[FlagStatus]:
    """The status of everything in a command, by what is installed where that was read, else by the record."""
    from kb.flags import check_command, with_installed

    with with_installed([engine.read] if engine.read else []):
        return check_command(command, engine.installation.engine, engine.installation.release)


def shown(engine: Engine) -> dict[str, Any]:
    """An engine as data. `differences` is what `kb.flags.with_installed` takes, and is there where it says something new."""
    from kb.catalog.installed import is_news, to_json

    news = engine.read is not None and is_news(engine.read)
    return {
        **asdict(engine.installation),
        "flags": engine.flags,
        "read_from": "source" if engine.read else "" if engine.trouble else "record",
        "trouble": engine.trouble,
        "differences": to_json(engine.read) if engine.read and (news or engine.read.differs) else None,
    }


def _is_same(engine: Engine) -> bool:
    return engine.read is not None and engine.read.is_recorded


def _of_engine(engine: Engine) -> Iterator[Finding]:
    installation = engine.installation
    name = f"{installation.engine} {installation.release}"
    if engine.trouble:
        yield Finding(
            "unknown",
            f"The flags of {name} could not be read: {engine.trouble}.",
            f"无法读取 {name} 的参数：{engine.trouble}。",
            f"See them with `{_help_command(installation.engine)}`.",
            f"用 `{_help_command(installation.engine)}` 查看。",
        )
    if installation.state == "changed":
        yield Finding(
            "warning",
            f"{name} was changed after it was installed ({installation.changed_file}{_differing(engine)}).",
            f"{name} 安装后被改动过（{installation.changed_file}{_differing_zh(engine)}）。",
            f"Install it again where that is not wanted: `pip install --force-reinstall --no-deps {installation.engine}=={installation.release}`.",
            f"若非有意，请重新安装：`pip install --force-reinstall --no-deps {installation.engine}=={installation.release}`。",
        )
    elif engine.read and engine.read.differs and engine.read.is_recorded:
        yield Finding(
            "warning",
            f"{name} here has other flags than the release of that number{_differing(engine)}.",
            f"这里的 {name} 与同版本号的发布版参数不同{_differing_zh(engine)}。",
            "Documentation and reports about that release need not hold for it; name the build when you report a fault.",
            "该版本的文档和经验不一定适用；报告问题时请注明构建来源。",
        )


def _differing(engine: Engine) -> str:
    parts = [(word, names) for word, names in _differences(engine) if names]
    return "".join(f"; {word} {', '.join(names[:SHOWN])}" for word, names in parts)


def _differing_zh(engine: Engine) -> str:
    words = {"more:": "多出", "fewer:": "缺少", "other values:": "取值不同"}
    parts = [(words[word], names) for word, names in _differences(engine) if names]
    return "".join(f"；{word} {'、'.join(names[:SHOWN])}" for word, names in parts)


def _differences(engine: Engine) -> list[tuple[str, list[str]]]:
    read = engine.read
    if read is None:
        return []
    added = [option.names[0] for option in read.added]
    return [("more:", added), ("fewer:", list(read.removed)), ("other values:", list(read.choices or {}))]


STATES: Mapping[str, tuple[str, str]] = {
    "no-op": ("has no effect in", "在 {release} 中不起作用"),
    "renamed": ("was renamed in", "在 {release} 中已改名"),
    "refused": ("is refused by", "会被 {release} 拒绝"),
    "removed": ("was removed from", "在 {release} 中已移除"),
    "not-yet": ("does not exist yet in", "在 {release} 中尚不存在"),
    "never": ("does not exist in", "在 {release} 中不存在"),
}


def _of_flag(server: Server, engine: Engine, status: FlagStatus) -> Finding:
    release = f"{engine.installation.engine} {engine.installation.release}"
    said, said_zh = STATES[status.status]
    instead, instead_zh = "Leave it out.", "请去掉它。"
    if status.replacement:
        instead, instead_zh = f"Use `{status.replacement}` in its place.", f"请改用 `{status.replacement}`。"
    return Finding(
        "warning",
        f"{status.name} of the running server (pid {server.pid}) {said} {release}.",
        f"运行中的服务（pid {server.pid}）使用的 {status.name} {said_zh.format(release=release)}。",
        instead,
        instead_zh,
    )


def _help_command(engine: str) -> str:
    return "vllm serve --help=all" if engine == "vllm" else "python3 -m sglang.launch_server --help"


def _figures(engine: Engine) -> tuple[str, str]:
    installation, read = engine.installation, engine.read
    name = f"{installation.engine} {installation.release}"
    if read is None:
        return (
            f"{name} takes {engine.flags} flags; its files are those of the release.",
            f"{name} 有 {engine.flags} 个参数，文件与发布版一致。",
        )
    from kb.catalog.releases import release_key

    if read.is_recorded:
        return (
            f"{name} takes {engine.flags} flags, as the record says.",
            f"{name} 有 {engine.flags} 个参数，与记录一致。",
        )
    newer = "after" if release_key(installation.release) > release_key(read.base) else "beside"
    return (
        f"{name} takes {engine.flags} flags ({newer} {read.base}: {len(read.added)} more, {len(read.removed)} fewer).",
        f"{name} 有 {engine.flags} 个参数（与 {read.base} 相比多 {len(read.added)} 个，少 {len(read.removed)} 个）。",
    )
