"""Files of each kind become Markdown; files that cannot are refused in one sentence."""

import io
import socket
import zipfile
from pathlib import Path

import pytest

from kb.convert import MAX_BYTES, to_markdown
from kb.documents import DocumentError

RUNBOOKS = Path(__file__).parent / "fixtures/runbooks"
CHINESE = "推理平台值班手册：显存不足时先降低并发，再看日志。\n"


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def word_file(paragraphs: list[tuple[str, str]]) -> bytes:
    """The smallest .docx that says these (style, text) paragraphs."""
    types = "http://schemas.openxmlformats.org/package/2006/content-types"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{identifier}"><w:name w:val="{name}"/></w:style>'
        for identifier, name in (("Heading1", "heading 1"), ("Heading2", "heading 2"), ("Code", "Code"))
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{types}"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package'
            '.relationships+xml"/><Override PartName="/word/document.xml" ContentType="application/vnd'
            '.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="r1" Type="{office}" Target="word/document.xml"/>'
            "</Relationships>",
        )
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{word}"><w:body>{body}</w:body></w:document>')
        archive.writestr("word/styles.xml", f'<w:styles xmlns:w="{word}">{styles}</w:styles>')
    return content.getvalue()


def test_markdown_stays_as_it_is() -> None:
    path = RUNBOOKS / "serving-oncall.md"
    assert to_markdown(path) == path.read_text("utf-8")


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_lines_end_in_newlines(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, "a.txt", f"one{ending}two".encode())
    assert to_markdown(path) == "one\ntwo\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk"])
def test_chinese_text_is_decoded(tmp_path: Path, encoding: str) -> None:
    assert to_markdown(written(tmp_path, "a.md", (CHINESE * 2).encode(encoding))) == CHINESE * 2


def test_html_keeps_headings_fences_and_tables_and_drops_the_page_around_them() -> None:
    markdown = to_markdown(RUNBOOKS / "gateway.html")
    assert "## Problem 1: 502 after a rollout" in markdown
    assert "```bash\n# Wait until the server is ready\ncurl --retry 60" in markdown
    assert "```text\n2025/03/18 09:12:44 [error]" in markdown
    assert "| proxy_read_timeout | 600s |" in markdown
    assert "| max_num_seqs * 2 | keepalive |" in markdown
    for dropped in ("analytics", "Platform wiki", "Printed by", "Home", "diagram"):
        assert dropped not in markdown


def test_the_title_of_an_html_page_without_a_heading_is_its_heading(tmp_path: Path) -> None:
    page = b"<title>Notes</title><body><h2>One</h2><p>text</p></body>"
    assert to_markdown(written(tmp_path, "a.htm", page)).startswith("# Notes\n\n## One\n")


def test_html_in_a_chinese_encoding(tmp_path: Path) -> None:
    page = '<head><meta charset="gb2312"></head><body><h1>显存不足</h1></body>'.encode("gb2312")
    assert to_markdown(written(tmp_path, "a.html", page)) == "# 显存不足\n"


def test_a_pdf_gets_its_headings_and_fences_back() -> None:
    markdown = to_markdown(RUNBOOKS / "spare-node.pdf")
    assert markdown.startswith("# Spare node runbook\n")
    assert "\n## Error 1: the driver does not match\n" in markdown
    assert "驱动与内核模块版本不一致。" in markdown
    assert (
        "```\nFailed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.120\n```"
        in markdown
    )
    assert "```\n# Reload by a reboot\nsudo reboot\n```" in markdown


def test_a_word_file_gets_its_headings_and_code(tmp_path: Path) -> None:
    content = word_file(
        [("Heading1", "值班手册"), ("", "先看日志"), ("Code", "docker logs -f"), ("Code", "  vllm_chat")]
    )
    markdown = to_markdown(written(tmp_path, "a.docx", content))
    assert markdown == "# 值班手册\n\n先看日志\n\n```\ndocker logs -f\n  vllm_chat\n```\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.xlsx", b"x", "is of a kind that cannot be read"),
        ("noending", b"x", "is of a kind that cannot be read"),
        ("a.md", b" \n\t\n", "is empty"),
        ("a.html", b"<html><body><img src='x.png'></body></html>", "has no text in it"),
        ("a.md", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is binary, not text"),
        ("a.txt", b"# Notes\n\ncaf\xe9 au lait\n", "is not valid UTF-8 (byte 0xe9 in line 3)"),
        ("a.txt", "好".encode("utf-16") + b"\x00", "is not valid UTF-16"),
        ("a.pdf", b"no PDF at all", "is not a readable PDF"),
        ("a.docx", b"no Word file at all", "is not a readable .docx file"),
        ("a.html", b"<div>" * 5000 + b"x", "is nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(DocumentError) as error:
        to_markdown(path)
    assert str(error.value).startswith(f"{path} {says}")
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"does not exist: check the path\.$"):
        to_markdown(tmp_path / "none.md")
    with pytest.raises(DocumentError, match="is a folder"):
        to_markdown(tmp_path)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DocumentError, match="50 MiB"):
        to_markdown(path)


def test_a_scanned_pdf_and_a_locked_pdf_are_refused(tmp_path: Path) -> None:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    writer.write(tmp_path / "scan.pdf")
    with pytest.raises(DocumentError, match="only pictures"):
        to_markdown(tmp_path / "scan.pdf")
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    with pytest.raises(DocumentError, match="password"):
        to_markdown(tmp_path / "locked.pdf")


@pytest.mark.parametrize("name", ["spare-node.pdf", "gateway.html", "serving-oncall.md"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    whole = (RUNBOOKS / name).read_bytes()
    path = tmp_path / name
    for cut in range(1, len(whole), len(whole) // 40):
        for damaged in (whole[:cut], whole[: cut - 1] + b"\xff\x00" + whole[cut + 1 :]):
            path.write_bytes(damaged)
            assert read_or_refused(path).strip()


def read_or_refused(path: Path) -> str:
    try:
        return to_markdown(path)
    except DocumentError as error:
        return str(error)


def test_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    page = b'<base href="http://192.0.2.1/"><link rel="stylesheet" href="a.css"><img src="b.png"><iframe src="c"></iframe>text'
    assert to_markdown(written(tmp_path, "a.html", page)).strip() == "text"
