"""Sections and chunks: exact lines, whole fences, headings of every kind."""

from pathlib import Path

import pytest

from kb.chunking import FENCE_CHARACTERS, PROSE_CHARACTERS, chunk_markdown, language_of, outline, part_name, slug
from kb.types import Chunk

RUNBOOKS = Path(__file__).parent / "fixtures/runbooks"
APPENDIX = Path(__file__).parent.parent.parent / "shared/reference/appendix-b.zh.md"
SOURCES = [*sorted(RUNBOOKS.glob("*.md")), APPENDIX]


def chunks_of(text: str) -> list[Chunk]:
    return chunk_markdown(text, document="user/notes", title="Notes", path="notes.md")


def headings_of(text: str) -> list[tuple[str, ...]]:
    return [section.heading for section in outline(text)]


def source(path: Path) -> str:
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout")
    return path.read_text("utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_chunk_is_exactly_its_lines(path: Path) -> None:
    lines = source(path).split("\n")
    for chunk in chunks_of(source(path)):
        first, last = chunk.lines
        assert chunk.text == "\n".join(lines[first - 1 : last])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_fence_is_cut_and_no_line_is_lost(path: Path) -> None:
    text = source(path)
    chunks = chunks_of(text)
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    held = {line for chunk in chunks for line in range(chunk.lines[0], chunk.lines[1] + 1)}
    for section in outline(text):
        for block in section.blocks:
            lines = set(range(block.first, block.last + 1))
            if block.kind not in ("heading", "rule"):
                assert lines <= held
            if block.kind == "fence":
                assert sum(lines <= set(range(c.lines[0], c.lines[1] + 1)) for c in chunks) == 1


def test_bold_lines_are_headings_one_level_below() -> None:
    text = "# Book\n\n## Part\n\n**错误1: CUDA out of memory**\n\na\n\n**Step 2 — restart**\nb\n\n### Real\n\nc\n\n**问题3：**\n\nd\n"
    assert headings_of(text) == [
        ("Book",),
        ("Book", "Part"),
        ("Book", "Part", "错误1: CUDA out of memory"),
        ("Book", "Part", "Step 2 — restart"),
        ("Book", "Part", "Real"),
        ("Book", "Part", "Real", "问题3"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "**原因分析**:",
        "**解决方案**",
        "**Root cause**",
        "**This is a sentence.**",
        "**see [the page](x.md)**",
        "**bold** and more",
        "**" + "long " * 20 + "**",
    ],
)
def test_labels_and_sentences_in_bold_are_no_headings(line: str) -> None:
    assert headings_of(f"# Book\n\n{line}\n\ntext\n") == [("Book",)]


def test_setext_headings_count_and_comments_in_fences_do_not() -> None:
    text = "Book\n====\n\nPart\n----\n\n```bash\n# a comment\nls\n```\n\n~~~\n## another\n~~~\n\n    # indented\n"
    assert headings_of(text) == [("Book",), ("Book", "Part")]


def test_front_matter_is_no_part_of_the_text() -> None:
    text = "---\ntitle: x\n# comment\n---\n\n# Book\n\nwords\n"
    assert headings_of(text) == [("Book",)]
    (chunk,) = chunks_of(text)
    assert chunk.lines == (6, 8)


def test_fences_inside_a_markdown_fence_do_not_end_it() -> None:
    text = (
        "# Book\n\n```markdown\n## Environment\n```bash\n# comment\nvllm serve m\n```\n\n## Error\n```\nout of memory\n```\n"
        "- tried\n```\n\n## After\n\nwords\n"
    )
    assert headings_of(text) == [("Book",), ("Book", "After")]
    fence = next(block for block in outline(text)[0].blocks if block.kind == "fence")
    assert (fence.first, fence.last) == (3, 15)


def test_a_fence_stays_with_the_sentence_that_introduces_it() -> None:
    filler = "Some words about it. " * 40
    text = f"# Book\n\n{filler}\n\nRun this:\n\n```bash\n{'nvidia-smi -q  # look' * 10}\n```\n"
    chunks = chunks_of(text)
    assert [chunk.lines for chunk in chunks] == [(1, 3), (5, 9)]
    assert chunks[1].text.startswith("Run this:")


def test_long_prose_is_split_at_sentence_ends() -> None:
    paragraph = "".join(f"第{number}条说明显存不足时应当怎样处理。" for number in range(200))
    chunks = chunks_of(f"# 手册\n\n{paragraph}\n")
    heading = "# 手册\n\n"
    assert len(chunks) > 2
    assert all(len(chunk.text) <= PROSE_CHARACTERS + len(heading) and chunk.text.endswith("。") for chunk in chunks)
    assert "".join(chunk.text for chunk in chunks) == heading + paragraph
    assert [chunk.lines for chunk in chunks] == [(1, 3)] + [(3, 3)] * (len(chunks) - 1)


def test_an_overlong_fence_is_split_at_line_ends_and_says_so() -> None:
    lines = [f"ERROR {number:05d} something went wrong here" for number in range(300)]
    text = "# Book\n\nThe log:\n\n```log\n" + "\n".join(lines) + "\n```\n"
    intro, *parts = chunks_of(text)
    assert intro.lines == (1, 3)
    assert len(parts) == 3
    assert all(part.text.startswith("```log\nERROR") and len(part.text) < FENCE_CHARACTERS + 100 for part in parts)
    assert parts[0].text.endswith("\n```\n(part 1 of 3)")
    assert [part.lines[0] for part in parts[1:]] == [part.lines[1] + 1 for part in parts[:-1]]
    assert (parts[0].lines[0], parts[-1].lines[1]) == (5, 306)
    assert all(any(line in part.text for part in parts) for line in lines)


def test_tables_stay_whole() -> None:
    rows = "\n".join(f"| case {number} | what to do in this case, in some words |" for number in range(40))
    table = f"| case | remedy |\n|---|---|\n{rows}"
    assert any(table in chunk.text for chunk in chunks_of(f"# Book\n\n{'words ' * 100}\n\nMatrix:\n\n{table}\n"))


def test_ids_depend_on_document_heading_place_and_content() -> None:
    text = "# Book\n\n## Options\n\na\n\n## Other\n\n### Options\n\na\n"
    first = chunks_of(text)
    assert [chunk.id for chunk in first] == [chunk.id for chunk in chunks_of("\n\n" + text)]
    assert first[0].id.startswith("user/notes#options.0.")
    changed = chunks_of(text.replace("## Options\n\na", "## Options\n\nb", 1))
    assert changed[0].id != first[0].id
    assert changed[1].id == first[1].id


@pytest.mark.parametrize(
    "text", ["", "\n", "```", "```bash\nunclosed\n\n# not a heading", "# only a heading", "---\n", "- \n"]
)
def test_odd_texts_are_taken(text: str) -> None:
    for chunk in chunks_of(text):
        assert 1 <= chunk.lines[0] <= chunk.lines[1] <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("vLLM 启动时报 OOM 怎么办", "zh"),
        ("The server prints 显存不足 and then it stops after a while without a word", "en"),
        ("```\n显存显存显存\n```\nplain English words here", "en"),
        ("", "en"),
    ],
)
def test_language(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("title", "part"),
    [
        ("**原因分析**:", "causes"),
        ("Root cause", "causes"),
        ("🔧 Fix:", "fixes"),
        ("解决方案矩阵", "fixes"),
        ("诊断步骤", "diagnosis"),
        ("How to verify", "check"),
        ("现象", "symptoms"),
        ("Fixtures", ""),
        ("原因不明的重启", ""),
    ],
)
def test_part_names(title: str, part: str) -> None:
    assert part_name(title) == part


def test_slugs_keep_chinese() -> None:
    assert slug("错误1: CUDA out of memory!") == "错误1-cuda-out-of-memory"
    assert slug("***") == "untitled"
