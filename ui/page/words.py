"""Every sentence of the page, in both languages."""

from __future__ import annotations

from kb.types import Language
from ui.render import STATUS_WORDS

SAID: dict[str, dict[Language, str]] = {
    "empty": {"en": "Say what is wrong, or attach a log.", "zh": "请描述故障现象，或附上日志。"},
    "step": {"en": "What was looked at: 1 step", "zh": "检查过程：1 步"},
    "steps": {"en": "What was looked at: {n} steps", "zh": "检查过程：{n} 步"},
    "only_read": {"en": "All of this only reads.", "zh": "以上步骤只读取，不做任何改动。"},
    "first_search": {
        "en": "The first search builds its index; that takes some seconds, once.",
        "zh": "首次检索需要建立索引，只需几秒，仅此一次。",
    },
    "diagnosed": {"en": "Diagnosed", "zh": "已诊断"},
    "possible": {"en": "A possible cause", "zh": "可能的原因"},
    "howto": {"en": "How to", "zh": "操作指南"},
    "healthy": {"en": "Healthy", "zh": "正常"},
    "insufficient": {"en": "Not enough to tell", "zh": "信息不足"},
    "out_of_scope": {"en": "Not about serving", "zh": "与推理服务无关"},
    "sure": {"en": "confidence {percent} %", "zh": "置信度 {percent}%"},
    "evidence": {"en": "Evidence with its sources ({n})", "zh": "依据与来源（{n}）"},
    "others": {"en": "Fixes of the other candidates ({n})", "zh": "其他可能原因的解决办法（{n}）"},
    "ruled_out": {"en": "What was ruled out ({n})", "zh": "已排除的原因（{n}）"},
    "ruled_out_why": {"en": "{title}, because {why}", "zh": "{title}：因为 {why}"},
    "helped": {"en": "This helped", "zh": "有帮助"},
    "failed": {"en": "It did not", "zh": "没有帮助"},
    "again": {"en": "Ask again", "zh": "重新提问"},
    "is_helped": {"en": "You said that this helped.", "zh": "您已标记：有帮助。"},
    "is_failed": {"en": "You said that this did not help.", "zh": "您已标记：没有帮助。"},
    "case_kept": {
        "en": "Kept as a case that anyone can check: `{path}`",
        "zh": "已存为案例，可供核对：`{path}`",
    },
    "no_answer": {
        "en": "No answer came to this: it was stopped, or the server was. The question is kept.",
        "zh": "这个问题没有得到答复：回答被停止，或服务中断。问题已保留。",
    },
    "in_progress": {
        "en": "This is still being answered; reload the page to see it.",
        "zh": "这个问题还在回答中；刷新页面即可查看。",
    },
    "unknown_thread": {
        "en": "There is no conversation of this name here any more. Ask, and one begins.",
        "zh": "这里没有这个名称的对话（可能已删除）。直接提问即可开始新的对话。",
    },
    "nothing_kept": {"en": "There is nothing to save yet: ask first.", "zh": "还没有可保存的内容：请先提问。"},
    "welcome": {
        "en": "## Why is your LLM server down or slow?\n\nSay what is wrong with your vLLM or SGLang server, and attach its log. "
        "Crashcart looks at this host, finds the cause and gives commands that your release takes. Nothing leaves this machine.",
        "zh": "## 大模型推理服务为什么不可用、为什么慢？\n\n描述 vLLM 或 SGLang 服务的故障现象，并附上日志。"
        "Crashcart 会检查本机、找出原因，并给出适用于您所用版本的命令。数据不会离开本机。",
    },
    "placeholder": {
        "en": "What is wrong? Drop or paste logs here.",
        "zh": "出了什么问题？可拖入或粘贴日志。",
    },
    "chat": {"en": "Conversation", "zh": "对话"},
    "new": {"en": "New conversation", "zh": "新对话"},
    "threads": {"en": "Conversations", "zh": "历史对话"},
    "no_threads": {"en": "Conversations that you begin are listed here.", "zh": "您发起的对话会列在这里。"},
    "questions": {"en": "{when} · {n} questions", "zh": "{when} · {n} 个问题"},
    "question": {"en": "{when} · 1 question", "zh": "{when} · 1 个问题"},
    "delete": {"en": "Delete this one", "zh": "删除当前对话"},
    "save_text": {"en": "Save as Markdown", "zh": "保存为 Markdown"},
    "save_bundle": {"en": "Save the evidence, masked", "zh": "保存证据包（已脱敏）"},
    "language": {"en": "中文", "zh": "English"},
    "show_threads": {"en": "Conversations", "zh": "历史对话"},
    "show_host": {"en": "This host", "zh": "本机状态"},
    "host": {"en": "This host", "zh": "本机状态"},
    "look": {"en": "Look again", "zh": "重新检查"},
    "looking": {"en": "Looking …", "zh": "正在检查…"},
    "looked": {"en": "{n} probes · {ago} s ago", "zh": "{n} 个探针 · {ago} 秒前"},
    "findings": {"en": "What the probes find", "zh": "探测结果"},
    "calm": {"en": "Nothing wrong found.", "zh": "未发现问题。"},
    "fine": {"en": "In order ({n})", "zh": "正常（{n}）"},
    "unread": {"en": "Could not be read ({n})", "zh": "未能读取（{n}）"},
    "last_minutes": {"en": "The last minutes", "zh": "最近几分钟"},
    "no_gpu": {"en": "No GPU is drawn: {why}", "zh": "没有 GPU 曲线：{why}"},
    "no_engine": {"en": "No engine is drawn: {why}", "zh": "没有引擎曲线：{why}"},
    "gpu_memory": {"en": "GPU memory", "zh": "显存"},
    "gpu_utilization": {"en": "GPU utilisation", "zh": "GPU 利用率"},
    "kv": {"en": "KV cache in use", "zh": "KV cache 占用"},
    "queue": {"en": "Requests", "zh": "请求数"},
    "running": {"en": "running", "zh": "运行"},
    "waiting": {"en": "waiting", "zh": "排队"},
    "ttft": {"en": "Time to first token", "zh": "首 token 延迟"},
    **STATUS_WORDS,
    "swells": {
        "en": "{name} unpacks to more than {gib} GiB, which no page reads: run `crashcart ask --log {name}` on the host.",
        "zh": "{name} 解压后超过 {gib} GiB，网页无法读取：请在主机上运行 `crashcart ask --log {name}`。",
    },
    "no_log": {
        "en": "{name} unpacks to {times} times its size, which no log does: attach the log itself.",
        "zh": "{name} 解压后是原来的 {times} 倍，不像日志：请附上日志本身。",
    },
}
EXAMPLES: dict[Language, tuple[str, ...]] = {
    "en": (
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (20304).",
        "Time to first token is 8 seconds. How do I bring it down?",
        "vllm: error: unrecognized arguments: --swap-space 4",
        "NCCL hangs at start-up with several GPUs. What now?",
    ),
    "zh": (
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (20304). 怎么解决？",
        "首个 token 要等 8 秒，怎么优化？",
        "升级后报错 vllm: error: unrecognized arguments: --swap-space 4，怎么办？",
        "多卡启动时 NCCL 一直卡住，怎么办？",
    ),
}


def say(key: str, lang: Language, **values: object) -> str:
    """The sentence, with its values put in."""
    return SAID[key][lang].format(**values)
