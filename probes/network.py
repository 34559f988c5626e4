from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from probes.judging import Finding, conclude
from probes.reading.files import Unreadable
from probes.reading.processes import Process, engine_of_tree, read_processes, select_variables
from probes.reading.servers import Server, read_servers
from probes.reading.sockets import Listener, infiniband_ports, interfaces, reaches, read_listeners
from probes.registry import probe
from probes.types import ProbeResult, Target

USUAL_PORTS = (8000, 30000)
HERE = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})
VARIABLES = (
    *(
        "NCCL_",
        "GLOO_",
        "MASTER_",
        "VLLM_HOST_IP",
        "VLLM_PORT",
        "RAY_ADDRESS",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
    ),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
ON = frozenset({"1", "ON", "YES", "TRUE"})
"""What huggingface_hub takes for true, in capitals."""
INTERFACE_VARIABLES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


@probe()
def network(target: Target) -> ProbeResult:
    """Read who listens on the servers' ports, and the variables for NCCL and proxies. Says when nobody listens, when
    something else holds the port, when a variable names an interface that is not there, and when the operator's hub does
    not answer."""
    processes = read_processes()
    servers = read_servers(processes)
    ports = wanted_ports(target.urls, servers)
    try:
        listeners = read_listeners(ports, processes)
    except Unreadable as error:
        return ProbeResult(
            "network", "unknown", str(error), "无法读取监听端口（/proc/net/tcp）。", source="/proc/net/tcp"
        )
    environ = "\0".join(f"{name}={value}" for name, value in os.environ.items())
    variables = select_variables(environ, VARIABLES)
    variables = {**variables, **_of_servers(servers)}
    hub = read_hub(target.hub_url, variables)
    return judge(target.urls, servers, listeners, processes, variables, interfaces(), infiniband_ports(), hub)


def read_hub(url: str, variables: Mapping[str, str]) -> bool | None:
    """Try the operator's hub; None where none is given, or where a proxy stands between, past which nothing can be told."""
    try:
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return None
    is_proxied = any(variables.get(name) for name in PROXIES)
    return reaches(parts.hostname, port) if parts.hostname and not is_proxied else None


def wanted_ports(urls: tuple[str, ...], servers: tuple[Server, ...]) -> tuple[int, ...]:
    """List the ports that matter: of the operator's URLs on this host, of the running servers, else the usual ones."""
    given = [port for url in urls if (port := local_port(url))]
    return tuple(dict.fromkeys([*given, *(server.port for server in servers if server.port)])) or USUAL_PORTS


def local_port(url: str) -> int | None:
    """Tell the port of a URL of this host; None for another host's."""
    parts = urlsplit(url)
    return (parts.port or (443 if parts.scheme == "https" else 80)) if parts.hostname in HERE else None


def judge(
    urls: tuple[str, ...],
    servers: tuple[Server, ...],
    listeners: tuple[Listener, ...],
    processes: Mapping[int, Process],
    variables: Mapping[str, str],
    names: list[str],
    adapters: Mapping[str, str] | None = None,
    hub: bool | None = None,
) -> ProbeResult:
    """Judge who listens and what the variables say, with the names of the interfaces and the states of fast adapters.

    `hub` tells whether the operator's hub was reached, None where it was not tried.
    """
    held = {listener.port: listener for listener in listeners}
    rows = [{**asdict(listener), **_holder(listener, processes)} for listener in listeners]
    data: dict[str, Any] = {"listeners": rows, "variables": dict(variables), "interfaces": names}
    data["infiniband"] = dict(adapters or {})
    facts = facts_of(wanted_ports(urls, servers), set(held), variables, adapters)
    if hub is not None:
        facts["hub_reachable"] = data["hub_reachable"] = hub
    asked = [port for url in urls if (port := local_port(url))]
    findings: list[Finding | None] = [_silent(port) for port in asked if port not in held]
    findings += [_foreign(held[port], processes) for port in asked if port in held]
    findings += [
        _not_listening(server) for server in servers if _is_ours(server) and server.port not in {*held, *asked}
    ]
    findings += [_missing_interface(name, variables, names) for name in INTERFACE_VARIABLES]
    findings += [_proxied(variables), _unreached(hub, variables)]
    if not any(findings) and not listeners:
        said = "No server's port is known, and nobody listens on the usual ones."
        said_zh = "没有已知的服务端口，常用端口也无人监听。"
        return ProbeResult("network", "unknown", said, said_zh, facts, data, "/proc/net/tcp")
    return conclude("network", _calm(listeners, processes), findings, facts, data, "/proc/net/tcp")


def facts_of(
    ports: tuple[int, ...], held: set[int], variables: Mapping[str, str], adapters: Mapping[str, str] | None
) -> dict[str, Any]:
    """Gather the facts; a port counts as listening when one of those that matter does."""
    set_here = {name.lower() for name, value in variables.items() if value}
    facts: dict[str, Any] = {
        "port_listening": bool(held & set(ports)),
        "proxy_set": bool(set_here & {"http_proxy", "https_proxy", "all_proxy"}),
        "hub_offline": _is_offline(variables),
        "nccl_socket_ifname": variables.get("NCCL_SOCKET_IFNAME") or "unset",
        "nccl_debug": variables.get("NCCL_DEBUG") or "unset",
    }
    if adapters:
        facts["infiniband_ports_active"] = sum(state == "ACTIVE" for state in adapters.values())
        facts["infiniband_ports_down"] = sum(state != "ACTIVE" for state in adapters.values())
    return facts


def _is_ours(server: Server) -> bool:
    """Tell whether a server's port would show here: one in a container mostly has a network of its own."""
    return bool(server.port) and not server.container


def _holder(listener: Listener, processes: Mapping[int, Process]) -> dict[str, str]:
    if listener.pid is None:
        return {"engine": "", "command": ""}
    return {"engine": engine_of_tree(listener.pid, processes), "command": processes[listener.pid].command}


def _calm(listeners: tuple[Listener, ...], processes: Mapping[int, Process]) -> tuple[str, str]:
    parts = [
        f"{each.address}:{each.port} ({_holder(each, processes)['engine'] or each.pid or '?'})" for each in listeners
    ]
    return f"Listening: {', '.join(parts)}.", f"正在监听：{'，'.join(parts)}。"


def _silent(port: int) -> Finding:
    return Finding(
        "critical",
        f"Nobody listens on port {port} of this host.",
        f"本机端口 {port} 无人监听。",
        "See whether the server still starts or has ended: its process, then the end of its log.",
        "确认服务是仍在启动还是已经退出：先看进程，再看日志末尾。",
    )


def _foreign(listener: Listener, processes: Mapping[int, Process]) -> Finding | None:
    if listener.pid is None or engine_of_tree(listener.pid, processes):
        return None
    name = processes[listener.pid].command[:100]
    return Finding(
        "warning",
        f"Port {listener.port} is held by pid {listener.pid} ({name}), which is no inference engine.",
        f"端口 {listener.port} 被 pid {listener.pid}（{name}）占用，它不是推理引擎。",
        "Start the server on another port with `--port`, or stop what holds this one; a proxy in front is fine.",
        "用 `--port` 换一个端口启动服务，或停止占用者；若它是前置代理则没有问题。",
    )


def _not_listening(server: Server) -> Finding:
    return Finding(
        "warning",
        f"{server.engine} (pid {server.pid}) does not listen on port {server.port} yet.",
        f"{server.engine}（pid {server.pid}）尚未监听端口 {server.port}。",
        "It listens only after the model is loaded; read its log if that takes longer than usual.",
        "模型加载完成后才会监听；若比平时更久，请查看日志。",
    )


def _missing_interface(variable: str, variables: Mapping[str, str], names: list[str]) -> Finding | None:
    """Warn of a variable none of whose interfaces is there. NCCL takes prefixes, `=` for an exact name, `^` to leave out."""
    value = variables.get(variable, "")
    wanted = [name for name in re.split(r"[,\s]+", value.removeprefix("=")) if name]
    exact = value.startswith("=") or variable.startswith("GLOO")
    there = any(name == one if exact else one.startswith(name) for name in wanted for one in names)
    if not wanted or value.startswith("^") or there:
        return None
    return Finding(
        "critical",
        f"{variable} is {value}, but there is no such network interface (there are {', '.join(names)}).",
        f"{variable} 设为 {value}，但没有这个网络接口（现有 {', '.join(names)}）。",
        f"Set `{variable}` to the interface that reaches the other nodes (`ip -br addr`), or unset it.",
        f"把 `{variable}` 设为能连通其他节点的接口（用 `ip -br addr` 查看），或取消该变量。",
    )


def _proxied(variables: Mapping[str, str]) -> Finding | None:
    lower = {name.lower(): value for name, value in variables.items()}
    excepted = lower.get("no_proxy", "")
    if not lower.get("http_proxy") or "*" in excepted or ("localhost" in excepted and "127.0.0.1" in excepted):
        return None
    return Finding(
        "warning",
        "http_proxy is set and no_proxy does not name localhost and 127.0.0.1: requests to a local server go to the proxy.",
        "设置了 http_proxy，但 no_proxy 没有包含 localhost 和 127.0.0.1：发往本机服务的请求会走代理。",
        "Set `no_proxy=localhost,127.0.0.1` (and the addresses of the other nodes) for server and clients.",
        "为服务端和客户端设置 `no_proxy=localhost,127.0.0.1`（以及其他节点的地址）。",
    )


def _unreached(hub: bool | None, variables: Mapping[str, str]) -> Finding | None:
    if hub is not False:
        return None
    offline = " It is set offline already." if _is_offline(variables) else ""
    offline_zh = "当前已设为离线。" if _is_offline(variables) else ""
    return Finding(
        "warning",
        f"The model hub (CRASHCART_HUB_URL) cannot be connected to from here.{offline}",
        f"从这里无法连接模型仓库（CRASHCART_HUB_URL）。{offline_zh}",
        "Put the models on this machine and set `HF_HUB_OFFLINE=1`, or set `HF_ENDPOINT` to a mirror that answers.",
        "把模型放到本机并设置 `HF_HUB_OFFLINE=1`，或把 `HF_ENDPOINT` 设为可用的镜像。",
    )


def _is_offline(variables: Mapping[str, str]) -> bool:
    return any(variables.get(name, "").upper() in ON for name in OFFLINE_VARIABLES)


def _of_servers(servers: tuple[Server, ...]) -> dict[str, str]:
    """Gather the variables of running servers; they count before those of this shell."""
    return {name: value for server in servers for name, value in server.variables.items() if name.startswith(VARIABLES)}
