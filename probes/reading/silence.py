"""Why an address gave no answer, or no load, in sentences that say what to do."""

from __future__ import annotations

from typing import NamedTuple

from probes.types import Status


class Silence(NamedTuple):
    """One reason in both languages: how grave it is, what is the matter (said after a name), and what to do."""

    status: Status
    what: str
    what_zh: str
    advice: str
    advice_zh: str


LOADING = Silence(
    "warning",
    "does not listen yet: its process runs, its port is closed",
    "尚未监听：进程在运行，端口未打开",
    "Wait until the weights are loaded; if that takes long, look at the server's log.",
    "等待权重加载完成；若耗时过长，请查看服务日志。",
)
IN_CONTAINER = Silence(
    "unknown",
    "was not reached: its process runs in a container, and its port is closed on this host's loopback",
    "无法访问：进程在容器中运行，本机环回地址上的端口未打开",
    "Set `CRASHCART_URLS` to the address that the container publishes.",
    "把 `CRASHCART_URLS` 设为容器对外发布的地址。",
)
REASONS = {
    "refused": Silence(
        "critical",
        "is not there: nobody listens on its port",
        "无人监听",
        "Start the server, or look in its log why it ended.",
        "启动服务，或在其日志中查看退出原因。",
    ),
    "unreachable": Silence(
        "critical",
        "cannot be reached: no connection came about in time",
        "无法连接：未能及时建立连接",
        "Check host name, route and firewall from this machine.",
        "检查主机名、路由和防火墙。",
    ),
    "silent": Silence(
        "critical",
        "takes connections but does not answer in time",
        "接受连接但没有及时应答",
        "Look at the server's log and CPU: its API process hangs, is overloaded, or a proxy holds the request.",
        "查看服务日志和 CPU：API 进程卡死、过载，或请求被代理扣住。",
    ),
    "broken": Silence(
        "unknown",
        "does not speak HTTP properly, or ended in the middle of an answer",
        "没有正确使用 HTTP，或应答中断",
        "Check that the address and `http` or `https` are right.",
        "检查地址以及 `http`/`https` 是否正确。",
    ),
    "tls": Silence(
        "unknown",
        "could not be asked: its TLS certificate or protocol is not accepted",
        "无法询问：TLS 证书或协议不被接受",
        "Use `http://` for a server without TLS, or make its certificate known to this machine.",
        "没有 TLS 的服务请用 `http://`，否则请让本机信任其证书。",
    ),
    "too-large": Silence(
        "unknown",
        "answers with more than an engine would",
        "返回的内容远超推理引擎应有的大小",
        "Check `CRASHCART_URLS`: this is another service.",
        "检查 `CRASHCART_URLS`：这是其他服务。",
    ),
    "encoded": Silence(
        "unknown",
        "answers compressed although it was asked not to",
        "在被要求不压缩时仍返回压缩内容",
        "Ask the engine itself, not the gateway in front of it.",
        "请直接询问引擎，而不是前面的网关。",
    ),
    "bad-key": Silence(
        "unknown",
        "was not asked: the API key holds characters that no key has",
        "未被询问：API key 含有非法字符",
        "Set `CRASHCART_ENGINE_API_KEY` anew, without spaces and line breaks.",
        "重新设置 `CRASHCART_ENGINE_API_KEY`，不要含空格和换行。",
    ),
}


def no_load(engine: str, status: int | None, no_page: str) -> Silence:
    """Say why a server that answers tells no load: `status` is that of /v1/models, `no_page` what is wrong with /metrics."""
    if not engine and status in (401, 403):
        return Silence(
            "unknown",
            f"but wants an API key (HTTP {status})",
            f"但要求 API key（HTTP {status}）",
            "Set `CRASHCART_ENGINE_API_KEY`, and the address in `CRASHCART_URLS`: only those get the key.",
            "设置 `CRASHCART_ENGINE_API_KEY`，并把地址写入 `CRASHCART_URLS`：只有其中的地址会收到密钥。",
        )
    if not engine:
        return Silence(
            "unknown",
            f"but not like vLLM or SGLang (/v1/models gives {status})",
            f"但不像 vLLM 或 SGLang（/v1/models 返回 {status}）",
            "Check `CRASHCART_URLS`: the address must be the engine's own, not that of another service.",
            "检查 `CRASHCART_URLS`：地址应是推理引擎本身，而不是其他服务。",
        )
    if engine == "sglang" and no_page == "absent":
        return Silence(
            "unknown",
            "but has no /metrics, so its load is not known",
            "但没有 /metrics，无法得知负载",
            "Start SGLang with `--enable-metrics` to see its load.",
            "用 `--enable-metrics` 启动 SGLang 以查看负载。",
        )
    if engine == "vllm" and no_page in ("empty", "foreign"):
        return Silence(
            "unknown",
            "but its /metrics has no reading of a scheduler, so its load is not known",
            "但 /metrics 中没有调度器数据，无法得知负载",
            "Start vLLM without `--disable-log-stats`; a gateway in front of the engine may also answer in its place.",
            "启动 vLLM 时去掉 `--disable-log-stats`；也可能是引擎前面的网关在应答。",
        )
    return Silence(
        "unknown",
        f"but its /metrics {NO_PAGE.get(no_page, NO_PAGE['foreign'])[0]}, so its load is not known",
        f"但 /metrics {NO_PAGE.get(no_page, NO_PAGE['foreign'])[1]}，无法得知负载",
        "Look at the engine's own /metrics; a gateway in front of it may answer in its place.",
        "请查看引擎自身的 /metrics；可能是其前面的网关在应答。",
    )


NO_PAGE = {
    "absent": ("is not there", "不存在"),
    "empty": ("is empty", "为空"),
    "foreign": ("has no reading of a scheduler", "中没有调度器数据"),
    "refused": ("wants another key", "要求其他密钥"),
    "too-large": ("has more than an engine would tell", "的内容远超推理引擎应有的大小"),
    "unanswered": ("did not answer in time", "没有及时应答"),
}
