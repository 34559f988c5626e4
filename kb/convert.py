"""A user's file, whatever its kind, as Markdown text."""

from __future__ import annotations

import io
import logging
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.documents import DocumentError

KINDS = {
    ".md": "text",
    ".markdown": "text",
    ".txt": "text",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
}
MAX_BYTES = 50 * 1024 * 1024
_MAX_UNPACKED_BYTES = 8 * MAX_BYTES
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_MONOSPACED = re.compile(r"mono|courier|consol|menlo|typewriter|nimbusmon|cmtt|code|inconsolata", re.I)
_FIXED_PITCH = 1
_STYLES = "\n".join(rf"p[style-name='{name}'] => pre:separator('\n')" for name in ("Code", "HTML Preformatted"))
# pypdf and mammoth check little of what they read: a damaged file ended in each of these in a trial with random damage.
_DAMAGED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    SyntaxError,
    AssertionError,
    RecursionError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def to_markdown(path: Path) -> str:
    """Return the file's content as Markdown, lines ending in `\\n`. Raises DocumentError; never uses the network."""
    kind = _kind(path)
    data = load_bytes(path)
    if kind == "text":
        text = _decode(data, path)
    elif kind == "html":
        text = _from_html(data, path)
    elif kind == "docx":
        text = _from_docx(data, path)
    else:
        text = _from_pdf(data, path)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    if not text.strip():
        raise DocumentError(f"{path} has no text in it: add a file with content.")
    return text if text.endswith("\n") else text + "\n"


def _kind(path: Path) -> str:
    if path.is_dir():
        raise DocumentError(f"{path} is a folder: name a file in it.")
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise DocumentError(f"{path} is of a kind that cannot be read: save it as one of {', '.join(KINDS)}.")
    return kind


def load_bytes(path: Path) -> bytes:
    """The file's content; raises DocumentError where it is missing, unreadable, empty or larger than 50 MiB."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            limit = MAX_BYTES // 1024**2
            raise DocumentError(
                f"{path} is {size // 1024**2} MiB and the limit is {limit} MiB: split it and add the parts."
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise DocumentError(f"{path} does not exist: check the path.") from None
    except OSError as error:
        raise DocumentError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
    if not data.strip():
        raise DocumentError(f"{path} is empty: add a file with content.")
    return data


def _decode(data: bytes, path: Path) -> str:
    """UTF-8, or UTF-16 and GB18030 where the bytes say so; other 8-bit encodings cannot be told apart and are refused."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _decode_as(data, encoding, path)
    try:
        text = data.decode()
        bad = None
    except UnicodeDecodeError as error:
        text, bad = "", error
    if bad is None and "\0" not in text:
        return text
    from charset_normalizer import from_bytes

    encodings = ["utf_16_le", "utf_16_be"] if b"\0" in data else ["gb18030"]
    best = from_bytes(data, cp_isolation=encodings, threshold=0.3, enable_fallback=False).best()
    if best is not None:
        return str(best)
    if bad is None or b"\0" in data:
        raise DocumentError(f"{path} is binary, not text: save it as one of {', '.join(KINDS)}.")
    line = data.count(b"\n", 0, bad.start) + 1
    raise DocumentError(
        f"{path} is not valid UTF-8 (byte 0x{data[bad.start]:02x} in line {line}): save it as UTF-8 and add it again."
    )


def _decode_as(data: bytes, encoding: str, path: Path) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is not valid {encoding.upper()}: save it as UTF-8 and add it again.") from None


def _from_html(data: bytes | str, path: Path) -> str:
    from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning
    from markdownify import MarkdownConverter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(data, "html.parser")
    for tag in soup(
        ["script", "style", "nav", "footer", "aside", "noscript", "template", "img", "svg", "button", "form"]
    ):
        tag.decompose()
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    body = soup.find("main") or soup.find("article") or soup.body or soup
    has_heading = body.find("h1") is not None
    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        code_language_callback=_code_language,
        escape_asterisks=False,
        escape_underscores=False,
    )
    try:
        markdown = re.sub(r"[ \t]+\n", "\n", str(converter.convert_soup(body)))
    except RecursionError:
        raise DocumentError(f"{path} is nested too deeply to read: save it as plain text or Markdown.") from None
    markdown = re.sub(r"\n{3,}", "\n\n", markdown).strip()
    return f"# {title}\n\n{markdown}" if title and markdown and not has_heading else markdown


def _code_language(pre: Any) -> str:
    """The language that highlighters write into class names (`language-bash`, `highlight-source-shell`, `brush: bash`)."""
    tags = [pre, *pre.find_all("code", limit=1), *list(pre.parents)[:2]]
    marks = " ".join(
        " ".join([*(tag.get("class") or []), tag.get("data-syntaxhighlighter-params") or ""]) for tag in tags
    )
    found = re.search(r"(?:language-|lang-|highlight-source-|highlight-text-|highlight-|brush: ?)([\w+-]+)", marks)
    name = found.group(1) if found else ""
    return (
        "bash" if name in ("shell", "sh", "zsh") else "" if name in ("default", "none", "plain", "plaintext") else name
    )


def _from_docx(data: bytes, path: Path) -> str:
    import mammoth  # type: ignore[import-untyped]

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED_BYTES:
                raise DocumentError(f"{path} unpacks to more than {_MAX_UNPACKED_BYTES // 1024**2} MiB: split it.")
        html = mammoth.convert_to_html(
            io.BytesIO(data),
            style_map=_STYLES,
            convert_image=mammoth.images.img_element(lambda image: {"src": ""}),
        ).value
    except _DAMAGED as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"{path} is not a readable .docx file ({error}): save it again as .docx.") from None
    return _from_html(html, path)


@dataclass(slots=True)
class _Line:
    """A printed line of a PDF page: its text, the size of its letters in points, and whether all are of one width."""

    text: str = ""
    size: float = 0.0
    monospaced: bool = True
    y: float = 0.0


def _from_pdf(data: bytes, path: Path) -> str:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it reports oddities that it then reads all the same
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError(f"{path} is protected by a password: save it without one.")
        pages = [_page_lines(page) for page in reader.pages]
    except DependencyError:
        raise DocumentError(f"{path} is encrypted: save it without encryption.") from None
    except (PyPdfError, *_DAMAGED) as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"{path} is not a readable PDF ({error}): export it again.") from None
    if not any(line.text.strip() for page in pages for line in page):
        raise DocumentError(f"{path} has no text in it, only pictures: run text recognition (OCR) on it first.")
    return _lay_out([line for page in pages for line in page])


def _page_lines(page: Any) -> list[_Line]:
    lines = [_Line()]

    def visit(text: str, cm: list[float], tm: list[float], font: Any, size: float) -> None:
        y = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
        points = size * (abs(tm[3] * cm[3]) or 1.0)
        for number, part in enumerate(text.split("\n")):
            moved = bool(lines[-1].text.strip()) and abs(y - lines[-1].y) > points / 2 and bool(part.strip())
            if number or moved:
                lines.append(_Line())
            if part:
                line = lines[-1]
                line.text += part
            if part.strip():
                line.size, line.y = max(line.size, points), y
                line.monospaced = line.monospaced and _is_monospaced(font)

    page.extract_text(visitor_text=visit)
    return [line for line in lines if line.text.strip()]


def _is_monospaced(font: Any) -> bool:
    if not font:
        return False
    flags = font.get("/FontDescriptor", {}).get("/Flags", 0)
    return bool(flags & _FIXED_PITCH) or _MONOSPACED.search(str(font.get("/BaseFont", ""))) is not None


def _lay_out(lines: list[_Line]) -> str:
    """Larger letters become headings, runs of monospaced lines become code fences, the rest paragraphs."""
    body = _body_size(lines)
    sizes = sorted({round(line.size) for line in lines if _is_heading(line, body)}, reverse=True)
    parts: list[str] = []
    in_fence = False
    last: _Line | None = None
    for line in lines:
        if line.monospaced != in_fence:
            parts.append("```" if in_fence else "\n```")
            in_fence = line.monospaced
        if line.monospaced:
            # pypdf puts a space where the pen moves to a new block; deeper indentation is the author's.
            text = line.text[1:] if parts[-1].endswith("\n```") and re.match(r" \S", line.text) else line.text
            parts.append(text.rstrip())
        elif _is_heading(line, body):
            parts.append(f"\n{'#' * min(sizes.index(round(line.size)) + 1, 6)} {line.text.strip()}\n")
        else:
            if last and (last.y < line.y or last.y - line.y > 1.7 * line.size):
                parts.append("")
            parts.append(line.text.strip())
        last = line
    return "\n".join([*parts, "```"] if in_fence else parts).strip() + "\n"


def _body_size(lines: Iterable[_Line]) -> float:
    """The size that most letters of running text have; of all text where everything is monospaced."""
    sizes: Counter[int] = Counter()
    for line in lines:
        sizes[round(line.size)] += 1 if line.monospaced else 1000 * len(line.text)
    return float(sizes.most_common(1)[0][0])


def _is_heading(line: _Line, body: float) -> bool:
    return not line.monospaced and round(line.size) > body and len(line.text) <= 120
