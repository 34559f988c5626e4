from pathlib import Path

import pytest

from kb.lint import lint, lint_vectors
from tests.test_documents import CHINESE, ENGLISH


def test_the_shipped_documents_are_in_order() -> None:
    assert lint() == {}


def test_every_shipped_chunk_has_its_vector() -> None:
    assert lint_vectors() == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("family: memory", "family: food", "family"),
        ("role: cause", "role: culprit", "role"),
        ("(?P<kv_tokens>\\d+)", "(?P<kv_tokens>\\d+", "not a regular expression"),
        ("'KV cache \\(", "'(?=KV) cache \\(", "look-around"),
        ("(20304)", "(many)", "does not find its example"),
        ("floor(kv_tokens / 16)", "floor(kv_tokenz / 16)", "neither a fact nor a captured group"),
        ("{{fitting|4096}}", "{{fitting}}", "needs a default"),
        ("{{fitting|4096}}", "{{fiting|4096}}", "neither a fact, a captured group nor computed"),
        ("--max-model-len", "--enable-chunked-context --max-model-len", "--enable-chunked-context"),
        ("vllm serve MODEL", "rm -rf /models; vllm serve MODEL", "deletes"),
        ("sources: [https://github.com/vllm-project/vllm/issues/2418]", "sources: []", "no sources"),
        ("\n## Check\n\nIt starts.\n", "\n", "no part 'check'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in ENGLISH
    (tmp_path / "kv.md").write_text(ENGLISH.replace(old, new))
    (tmp_path / "kv.zh.md").write_text(CHINESE)
    assert any(sentence in said for said in lint(tmp_path)["kv"])


def test_a_missing_translation_and_a_fix_too_few_are_said(tmp_path: Path) -> None:
    (tmp_path / "kv.md").write_text(ENGLISH)
    assert "no Chinese file kv.zh.md" in lint(tmp_path)["kv"]
    (tmp_path / "kv.zh.md").write_text(CHINESE.replace("### 另一种\n\n文字。\n", ""))
    assert any("1 fixes, the English file has 2" in said for said in lint(tmp_path)["kv"])


def test_a_corrupt_document_is_named_and_the_others_are_still_checked(tmp_path: Path) -> None:
    (tmp_path / "broken.md").write_text("nothing")
    (tmp_path / "kv.md").write_text(ENGLISH)
    found = lint(tmp_path)
    assert "no front matter" in found["broken"][0] and "kv" in found
