"""Every sentence of the offline writer, in both languages."""

from __future__ import annotations

from kb.types import Language

WORDING: dict[str, dict[Language, str]] = {
    "diagnosis": {"en": "Diagnosis", "zh": "诊断"},
    "howto": {"en": "How to", "zh": "操作指南"},
    "confidence": {"en": "confidence {percent} %", "zh": "置信度 {percent}%"},
    "evidence_for": {"en": "What speaks for it", "zh": "依据"},
    "evidence_against": {"en": "What speaks against it", "zh": "反面证据"},
    "folded": {"en": "Only its consequence: {titles}.", "zh": "以下只是它引发的后果：{titles}。"},
    "fixes": {"en": "Fixes, in this order", "zh": "解决办法（按顺序）"},
    "steps": {"en": "Steps", "zh": "步骤"},
    "risk": {"en": "risk: {risk}", "zh": "风险：{risk}"},
    "patched": {"en": "Your command with this fix", "zh": "改好的启动命令"},
    "check": {"en": "How to see that it worked", "zh": "如何确认已解决"},
    "computed": {"en": "Computed: {name} = {how}", "zh": "计算：{name} = {how}"},
    "old_advice": {"en": "Advice to leave alone", "zh": "不要照搬的旧说法"},
    "tell_apart": {"en": "Similar faults", "zh": "相似故障的区分"},
    "others": {"en": "Also possible", "zh": "其他可能"},
    "ruled_out": {"en": "Ruled out", "zh": "已排除"},
    "sources": {"en": "Sources", "zh": "来源"},
    "from_log": {"en": "read from the log", "zh": "取自日志"},
    "insufficient": {
        "en": "I cannot tell the cause from this. What would settle it:",
        "zh": "仅凭这些信息无法判断原因。以下信息可以帮助定位：",
    },
    "candidates": {"en": "Closest to what you describe, none of them confirmed:", "zh": "与描述最接近（均未证实）："},
    "out_of_scope": {
        "en": "This is not about serving language models (vLLM, SGLang, their GPUs and hosts), which is all that I know. Ask me about a server that is down or slow, and attach its log.",
        "zh": "这个问题与大模型推理服务（vLLM、SGLang 及其 GPU、主机）无关，超出了我的知识范围。请描述服务故障或变慢的现象，并附上日志。",
    },
    "healthy": {
        "en": "Nothing is wrong in what I was shown.",
        "zh": "从提供的信息来看，没有发现故障。",
    },
    "send_log": {
        "en": "the server's log from its start to the failure (`--log FILE`): the first error matters, not the last",
        "zh": "服务从启动到出错的完整日志（`--log 文件`）：关键是第一个错误，不是最后一个",
    },
    "send_command": {"en": "the serving command (`--command '…'`)", "zh": "启动命令（`--command '…'`）"},
    "send_versions": {
        "en": "the installed versions: run `crashcart checkup` on the serving host",
        "zh": "已安装的版本：在推理主机上运行 `crashcart checkup`",
    },
    "send_probe": {"en": "the reading of `crashcart probe run {probe}`", "zh": "`crashcart probe run {probe}` 的结果"},
    "release_unknown": {
        "en": "The installed release is not known, so each command says for which releases it holds.",
        "zh": "未能确定已安装的版本，因此每条命令都注明了适用的版本范围。",
    },
    "release_known": {
        "en": "Commands are checked against {engine} {release}.",
        "zh": "命令已按 {engine} {release} 核对。",
    },
    "any_release": {"en": "any release", "zh": "任意版本"},
    "struck": {
        "en": "Left out, because nothing read here accounts for it: {what}",
        "zh": "已删去缺乏依据的内容：{what}",
    },
    "lexical_only": {"en": "Search was lexical alone: {why}", "zh": "仅使用了关键词检索：{why}"},
    "required_title": {"en": "Install what {release} requires: {what}", "zh": "安装 {release} 要求的版本：{what}"},
    "required": {"en": "- {release} requires `{name}{said}`.", "zh": "- {release} 要求 `{name}{said}`。"},
    "required_lowest": {
        "en": "The command takes the lowest version of an open range: newer ones came out after the release and may not fit it.",
        "zh": "没有上限的范围取最低版本：更新的版本晚于该引擎版本发布，未必兼容。",
    },
    "required_but": {
        "en": "- `{name}` {version} is installed, {release} requires `{name}{said}`.",
        "zh": "- 已安装的 `{name}` 是 {version}，{release} 要求 `{name}{said}`。",
    },
    "refused_title": {"en": "{what}", "zh": "{what}"},
    "refused_not_yet": {
        "en": "`{name}` needs {since} or newer: upgrade, or drop it",
        "zh": "`{name}` 需要 {since} 或更新版本：升级，或去掉它",
    },
    "refused_replace": {"en": "write `{replacement}` for `{name}`", "zh": "把 `{name}` 改为 `{replacement}`"},
    "refused_drop": {"en": "drop `{name}`", "zh": "去掉 `{name}`"},
    "refused_never": {
        "en": "`{name}`: no recorded release of {engine} has a flag of this name.",
        "zh": "`{name}`：已收录的 {engine} 版本都没有这个名字的参数。",
    },
    "refused_span": {
        "en": "`{name}`: in {engine} since {since}{until}.",
        "zh": "`{name}`：{engine} 自 {since} 起提供{until}。",
    },
    "refused_until": {"en": ", last in {until}", "zh": ",最后见于 {until}"},
    "closest": {
        "en": "No document of mine knows this error line, so this is no finding: the nearest ones follow, as leads. Check each against the line before you change anything.",
        "zh": "我的文档里没有这条报错，因此这不是结论：下面是最接近的几篇，仅供参考。修改之前请先与报错逐一核对。",
    },
    "closest_words": {
        "en": "Nothing that you gave names the cause for certain, so this is no finding: the nearest documents follow, as leads. Check each before you change anything.",
        "zh": "您提供的内容没有明确指出原因，因此这不是结论：下面是最接近的几篇，仅供参考。修改之前请先逐一核对。",
    },
    "stopped": {
        "en": "The log ends without an error and without a server that is ready. Its last milestone: {stage}.",
        "zh": "日志结束时没有报错，服务也没有就绪。最后到达的阶段：{stage}。",
    },
    "stage ray": {"en": "waiting for Ray", "zh": "等待 Ray"},
    "stage nccl": {"en": "connecting the GPUs (NCCL)", "zh": "连接各 GPU(NCCL)"},
    "stage weights": {"en": "loading the weights", "zh": "加载权重"},
    "stage loaded": {"en": "weights loaded", "zh": "权重加载完成"},
    "stage compile": {"en": "compiling", "zh": "编译"},
    "stage memory": {"en": "sizing the KV cache", "zh": "分配 KV cache"},
    "stage graphs": {"en": "capturing CUDA graphs", "zh": "捕获 CUDA graph"},
    "stage warm-up": {"en": "warming up", "zh": "预热"},
    "root": {"en": "The error: {text} ({place})", "zh": "报错：{text}（{place}）"},
    "tried": {
        "en": "You tried {titles}; here is what comes next.",
        "zh": "您已尝试过{titles}；下面是接下来的办法。",
    },
    "all_tried": {
        "en": "Every fix that I know for this was tried in this conversation. Check that each took effect (the server restarted, the flag in its command line); a log from after the change would show what is left.",
        "zh": "本次对话中已试过我知道的全部办法。请确认每一项都已生效（服务已重启、命令行中有该参数）；修改之后的日志能说明还剩什么问题。",
    },
    "solved": {
        "en": "Good. Keep the change where the server is started (unit, manifest, script), so that it survives a restart.",
        "zh": "很好。请把这项改动写进启动方式（unit、清单、脚本），以免重启后丢失。",
    },
    "changed": {"en": "Since before", "zh": "与之前相比"},
    "unchanged": {"en": "What the probes read is the same as before.", "zh": "探测结果与之前相同。"},
    "gone": {"en": "no longer in the log: {title}", "zh": "日志中不再出现：{title}"},
    "appeared": {"en": "new in the log: {title}", "zh": "日志中新出现：{title}"},
    "not_kept": {
        "en": "This exchange could not be kept in its thread: {why}",
        "zh": "本次问答未能保存到会话中：{why}",
    },
    "no_tracing": {
        "en": "No trace was sent to {endpoint}: the extra is missing, install it with `pip install 'crashcart[tracing]'`.",
        "zh": "追踪未发送到 {endpoint}：缺少扩展，请用 `pip install 'crashcart[tracing]'` 安装。",
    },
    "no_collector": {
        "en": "No trace was sent: {endpoint!r} is no address of a collector, as http://127.0.0.1:4318 is one.",
        "zh": "追踪未发送：{endpoint!r} 不是采集器地址，正确的形式如 http://127.0.0.1:4318。",
    },
    "question_line": {"en": "the question", "zh": "问题"},
    "command_source": {"en": "serving command", "zh": "启动命令"},
    "destructive": {
        "en": "This deletes or replaces something; read it before you run it.",
        "zh": "此操作会删除或替换内容，执行前请仔细确认。",
    },
}

# What a computed value is, where its name is not a word.
VALUES: dict[str, dict[Language, str]] = {
    "fitting_model_len": {"en": "longest context that fits", "zh": "能容纳的最长上下文"},
    "sized_model_len": {"en": "longest context that fits", "zh": "能容纳的最长上下文"},
    "sized_kv_tokens": {"en": "tokens that fit in the KV cache", "zh": "KV 缓存能容纳的 token 数"},
    "sized_weights_gib": {"en": "weights per GPU", "zh": "每张 GPU 的权重"},
    "sized_tensor_parallel": {"en": "fewest GPUs on which it fits", "zh": "至少需要的 GPU 数"},
}

RISKS: dict[str, dict[Language, str]] = {
    "read-only": {"en": "read-only", "zh": "只读"},
    "restart": {"en": "restarts the server", "zh": "需要重启服务"},
    "reinstall": {"en": "reinstalls packages", "zh": "需要重装软件包"},
    "reboot": {"en": "reboots the host", "zh": "需要重启主机"},
    "destructive": {"en": "destructive", "zh": "有破坏性"},
}


def say(key: str, lang: Language, **values: object) -> str:
    """The sentence, with its values put in."""
    return WORDING[key][lang].format(**values)
