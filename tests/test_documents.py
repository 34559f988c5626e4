from pathlib import Path

import pytest

from kb.chunks import document_chunks
from kb.documents import SHIPPED, DocumentError, load_documents, localize, parse_document

ENGLISH = """---
title: The context needs more KV cache than is left
kind: fault
family: memory
section: [B.1.1]
engines: [vllm]
aliases: [kv cache too small]
symptoms: [it does not start]
signatures:
  - name: seq-len
    role: cause
    pattern: 'KV cache \\((?P<kv_tokens>\\d+)\\)'
    example: "stored in KV cache (20304)"
computed:
  - {name: fitting, formula: floor(kv_tokens / 16) * 16, unit: tokens}
sources: [https://github.com/vllm-project/vllm/issues/2418]
verified: {vllm: 0.4.0-0.33.0}
---

What has happened.

## Causes

- Too long a context.

## Fixes

### Lower the context

Risk: restart · when: kv_tokens > 0

It costs nothing.

```bash vllm>=0.4.0
vllm serve MODEL --max-model-len {{fitting|4096}}
# not a heading
```

### Another

Text.

## Check

It starts.
"""
CHINESE = """---
title: KV cache 不够
aliases: [显存不足]
symptoms: [启动失败]
---

发生了什么。

## 原因

- 上下文太长。

## 解决办法

### 降低上下文长度

没有代价。

### 另一种

文字。

## 验证

能启动。
"""


def test_every_part_of_a_document_is_read() -> None:
    document = parse_document(ENGLISH, "kv.md")
    assert (document.id, document.language, document.summary) == ("kv", "en", "What has happened.")
    assert document.signatures[0].document == "kv"
    first, second = document.fixes
    assert (first.title, first.risk, first.when) == ("Lower the context", "restart", "kv_tokens > 0")
    assert first.text == "It costs nothing."
    assert first.commands[0].releases == "vllm>=0.4.0"
    assert ENGLISH.splitlines()[first.commands[0].line - 1].startswith("```bash")
    assert first.commands[0].text.endswith("# not a heading")
    assert second.commands == ()
    assert document.sections == {"causes": "- Too long a context.", "check": "It starts."}


def test_chinese_prose_stands_over_english_facts() -> None:
    document = localize(parse_document(ENGLISH, "kv.md"), parse_document(CHINESE, "kv.zh.md"))
    assert (document.language, document.title) == ("zh", "KV cache 不够")
    assert document.fixes[0].title == "降低上下文长度"
    assert document.fixes[0].commands[0].text.startswith("vllm serve")
    assert document.signatures and document.sections["check"] == "能启动。"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no front matter", "no front matter"),
        ("---\ntitle: [\n---\n", "not valid YAML"),
        ("---\n- a\n---\n", "must be a mapping"),
        ("---\nkind: fault\n---\n", "`title` is missing"),
        ("---\ntitle: x\nsignatures: [{nam: y}]\n---\n", "signatures"),
        ("---\ntitle: x\naliases: {a: b}\n---\n", "`aliases` must be a list"),
    ],
)
def test_a_corrupt_document_is_named(text: str, sentence: str) -> None:
    with pytest.raises(DocumentError, match=sentence) as error:
        parse_document(text, "broken.md")
    assert "broken.md" in str(error.value)


def test_chunks_are_cited_by_the_lines_they_stand_on(tmp_path: Path) -> None:
    (tmp_path / "kv.md").write_text(ENGLISH)
    chunks = document_chunks(parse_document(ENGLISH, "kv.md"), tmp_path)
    lines = ENGLISH.splitlines()
    by_heading = {c.heading: c for c in chunks}
    fix = by_heading["Fixes", "Lower the context"]
    assert lines[fix.lines[0] - 1].startswith("Risk") and lines[fix.lines[1] - 1] == "```"
    assert fix.text == "\n".join(lines[fix.lines[0] - 1 : fix.lines[1]])
    assert "kv cache too small" in by_heading[()].text


def test_every_shipped_document_has_both_languages() -> None:
    languages: dict[str, set[str]] = {}
    for document in load_documents():
        languages.setdefault(document.id, set()).add(document.language)
    assert languages and all(found == {"en", "zh"} for found in languages.values())


def test_the_appendix_is_covered_section_by_section() -> None:
    sections = {s for document in load_documents() for s in document.section}
    wanted = {f"B.1.{i}" for i in range(1, 6)} | {f"B.2.{i}" for i in range(1, 5)} | {f"B.3.{i}" for i in range(1, 5)}
    assert wanted <= sections


def test_shipped_documents_lie_where_they_are_looked_for() -> None:
    assert SHIPPED.is_dir()
