"""The user's own runbooks: kept as Markdown in a folder, and read into documents like the shipped ones."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from kb.chunking import Block, Section, chunk_markdown, language_of, outline, part_name, slug
from kb.convert import KINDS, load_bytes, to_markdown
from kb.documents import DocumentError
from kb.tokens import line_pattern
from kb.types import Chunk, Command, Document, Kind, Remedy, Risk, Role, Signature

_ENTRY = re.compile(
    r"(?:错误|问题|故障|异常|报错|案例|场景|告警|error|issue|problem|incident|fault|failure|case|symptom|alert)s?\s*"
    r"(?:[#№-]?\s*[\d一二三四五六七八九十]+|[:：])|.*\w(?:Error|Exception)\b|.*\bXid\b|.*out of memory",
    re.I,
)
_NUMBERING = re.compile(
    r"^(?:(?:方案|方法|步骤|办法|第|step|option|solution|fix|method)\s*)?[\d一二三四五六七八九十]+\s*(?:[.、:：)）—-]|步)+\s*",
    re.I,
)
_BULLET = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+(?:\[[ xX]\]\s+)?")
_LABEL = re.compile(
    r"(?:\*\*|__)?(?P<name>[^*:：\n]{1,24}?)(?:[:：](?:\*\*|__)?|(?:\*\*|__)\s*[:：]?)\s*(?P<rest>.*)", re.S
)
_OUTPUT = re.compile(
    r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)\b(?:: |$)|CUDA (?:error|out of memory)|NCCL (?:error|WARN)|\bXid\b|[Oo]ut of memory"
    r"|\b(?:ERROR|CRITICAL|FATAL)\b|\b[Ee]rror: |^(?:Failed|Cannot|Could not|Unable|No available|No such|Kill(?:ed)? process|Aborted"
    r"|Segmentation fault|Bus error)\b|\b(?:failed|refused|tim(?:ed|ing) out|unexpectedly|not found|core dumped|fallen off the bus)\b"
)
_SOURCE = re.compile(
    r"^(?:File \"|print|raise|except|if|elif|else|for|while|with|return|assert|def|class|import|from|try|log(?:ger|ging)?\.|export|echo|grep|cat"
    r"|sudo|curl|docker|kubectl|python3?|pip|vllm|nvidia-smi|journalctl|dmesg|tail)\b(?!.*Error: )|^(?:#|//|\$ |>>>|[-*+] )|^\w+ ?= ?\S"
)
_WRAPPER = re.compile(
    r"Engine core initialization failed|EngineDeadError|worker \w+ died|exit code|See (?:root cause|stack trace)", re.I
)
_SHELL = ("bash", "sh", "shell", "zsh", "console", "shell-session", "terminal")
_LOG = ("", "text", "txt", "log", "logs", "plain", "plaintext", "output", "traceback", "pytb")
_WRONG = re.compile(r"^\W*(?:错误(?![\d一二三四五六七八九])|不要|禁止|请勿|wrong|bad|don't|do not|never)|❌|✗", re.I)
_PROMPT = re.compile(r"^(?:\([\w.-]+\) ?)?(?:\[?[\w.-]+@[^$#]{1,60}[$#]|\$) (?=\S)")
_COMMENT = re.compile(r"(?<=\s)#\s+(?P<words>.*)$")
_TOOLS = r"(?:sudo |[A-Z_][A-Z0-9_]*=\S+ |watch (?:-\w+ \S+ )?|timeout \S+ )*"
_RISKS: tuple[tuple[Risk, re.Pattern[str]], ...] = (
    (
        "destructive",
        re.compile(
            r"\brm\b|\bmkfs|\bdd if=|\bshred\b|\bprune\b|\bdocker rmi?\b|\bkubectl delete (?:pvc?|ns|namespace|node)\b|\bkill(?:all)? -(?:9|KILL)"
            r"|\bpkill\b|\bfuser -k|--gpu-reset|\bnvidia-smi\b.* (?:-r|-mig)\b|\bgit (?:clean|reset --hard)|\bmkswap\b"
        ),
    ),
    ("reboot", re.compile(r"\breboot\b|\bshutdown\b|\bpoweroff\b|\binit 6\b")),
    (
        "reinstall",
        re.compile(
            r"\b(?:pip3?|uv|conda|mamba|apt|apt-get|yum|dnf|npm)\b.*\b(?:install|upgrade|remove|purge|uninstall|sync|update)\b|\bdpkg -i\b"
            r"|\brpm -[iU]|\bdocker (?:pull|build)\b|\bmodprobe\b|\brmmod\b|\bmake install\b"
        ),
    ),
    (
        "read-only",
        re.compile(
            rf"--(?:help|version)$|^{_TOOLS}(?:nvidia-smi|nvcc|ls|cat|z?grep|rg|head|tail|less|df|du|free|ps|pgrep|top|htop|ss|netstat|lsof|lspci|lscpu|dmesg"
            r"|journalctl|uname|env|printenv|echo|which|id|date|uptime|ping|dig|ip (?:a|addr|link|route)|stat|wc|find|sha256sum|dcgmi (?:diag|health)"
            r"|ibstat|ulimit|curl|docker (?:ps|logs|inspect|images|stats|info)|docker compose (?:ps|logs)|kubectl (?:get|describe|logs|top)"
            r"|systemctl (?:status|is-active)|ray status|pip3? (?:list|show|freeze|check)|conda list|hf (?:env|cache)|py-spy|nsys|python3? -c"
            r"|vllm (?:--version|bench|collect-env)|python3? -m (?:torch\.utils\.collect_env|sglang\.(?:check_env|bench_serving)))\b(?!.*\| *(?:xargs|sudo|tee))"
        ),
    ),
)
_ORDER: tuple[Risk, ...] = ("read-only", "restart", "reinstall", "reboot", "destructive")
_RUNS = re.compile(
    rf"^{_TOOLS}(?:vllm|sglang|python3?|pip3?|uv|conda|docker|kubectl|systemctl|export|nvidia-smi|nvcc|curl|wget|huggingface-cli|hf|ray|apt(?:-get)?|yum"
    r"|modprobe|reboot|rm|kill|pkill|mount|ulimit|sysctl|dmesg|journalctl|ls|cat|grep|df|free|ps|ss|lsof|tail|torchrun|git)(?: |$)"
)


def read_runbook(path: Path, name: str = "") -> list[Document]:
    """The documents of one file: first the file itself (`user/<name>`), then one for each fault or procedure in it.

    `name` is made of the file's name where none is given. Raises DocumentError where the file cannot be read.
    """
    name = name or slug(path.stem)
    text = to_markdown(path)
    sections = outline(text)
    summary = _summary(block for section in sections for block in section.blocks)
    whole = Document(
        f"user/{name}", _file_title(sections, name), language_of(text), "howto", summary=summary, path=str(path)
    )
    return [whole, *(_document(entry, str(path)) for entry in _entries(sections, name))]


def runbook_documents(folder: Path) -> list[Document]:
    """The documents of every runbook that add_runbooks keeps in the folder."""
    return [
        document for kept in list_runbooks(folder) for document in read_runbook(kept.path_in(folder), name=kept.name)
    ]


def runbook_chunks(documents: Iterable[Document]) -> list[Chunk]:
    """The chunks of the files that these documents came from, each under the document that its section belongs to."""
    chunks: list[Chunk] = []
    for path, name in {document.path: document.id.split("/")[1] for document in documents}.items():
        text = to_markdown(Path(path))
        sections = outline(text)
        title = _file_title(sections, name)
        owners = {
            section.blocks[0].first: (entry.id, entry.title)
            for entry in _entries(sections, name)
            for section in entry.sections
        }
        chunks += chunk_markdown(text, document=f"user/{name}", title=title, path=path, owners=owners)
    return chunks


def _file_title(sections: Sequence[Section], name: str) -> str:
    return next((section.heading[0] for section in sections if section.heading), name)


@dataclass(slots=True)
class _Entry:
    """A fault or a procedure in a file: the section that opens it and those that belong to it."""

    id: str
    kind: Kind
    sections: list[Section] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.sections[0].heading[-1]


def _entries(sections: Sequence[Section], name: str) -> list[_Entry]:
    """Faults (titled `错误1` or `Issue 2`, or with a printed error, symptoms or causes) and procedures (with commands)."""
    entries: list[_Entry] = []
    current: _Entry | None = None
    for index, section in enumerate(sections):
        title = section.heading[-1] if section.heading else ""
        if current and not _ENTRY.match(title) and (part_name(title) or _belongs(section, current)):
            current.sections.append(section)
            continue
        kind = _kind(section, sections[index + 1 :]) if title else None
        current = (
            _Entry(_free(f"user/{name}/{slug(title)}", {entry.id for entry in entries}), kind, [section])
            if kind
            else None
        )
        if current:
            entries.append(current)
    return entries


def _belongs(section: Section, entry: _Entry) -> bool:
    """Whether a section stands under the heading of a fault; what stands under a procedure is a procedure of its own."""
    heading = entry.sections[0].heading
    return entry.kind == "fault" and section.heading[: len(heading)] == heading


def _kind(section: Section, later: Sequence[Section]) -> Kind | None:
    names: list[str] = []
    for other in later:
        if other.level <= section.level and not part_name(other.heading[-1]):
            break
        names.append(other.heading[-1])
    holds_entries = any(_ENTRY.match(name) for name in names)
    parts = {part_name(name) for name in names} if not holds_entries else set()
    parts |= {_label(block)[0] for block in section.blocks}
    fences = [fence for block in section.blocks for fence in _fences(block)]
    if any(map(_printed, fences)) or (
        not holds_entries and (_ENTRY.match(section.heading[-1]) or parts & {"symptoms", "causes"})
    ):
        return "fault"
    return "howto" if any(map(_is_shell, fences)) or "fixes" in parts else None


def _label(block: Block) -> tuple[str, str]:
    """The part that a block opens (`**原因分析**:` → causes) and the words after the label; two empty strings if none."""
    text = block.code if block.kind == "fence" else block.text
    found = _LABEL.match(_BULLET.sub("", text)) if block.kind in ("prose", "item", "fence") else None
    part = part_name(found["name"]) if found else ""
    return (part, found["rest"].strip()) if found and part else ("", "")


def _fences(block: Block) -> tuple[Block, ...]:
    return (block,) if block.kind == "fence" else block.fences


def _document(entry: _Entry, path: str) -> Document:
    parts = _parts(entry)
    text = "\n\n".join(block.text for section in entry.sections for block in section.blocks)
    summary = _summary(parts.get("", ()))
    engines = tuple(engine for engine in ("vllm", "sglang") if engine in text.lower())
    plain = re.sub(r"^(?:[A-Z]\.)?(?:\d+\.)*\d+\.?\s+|^[^\W\d]{0,12} ?[#№-]?\d+\s*[:：—-]\s*", "", entry.title)
    return Document(
        id=entry.id,
        title=entry.title,
        language=language_of(text),
        kind=entry.kind,
        section=entry.sections[0].heading[:-1],
        engines=engines,
        aliases=(plain,) if plain != entry.title else (),
        symptoms=tuple(_symptoms(parts.get("symptoms", ())))[:5],
        summary=summary,
        signatures=tuple(_signatures(entry)),
        fixes=tuple(_remedies(entry, parts)),
        sections={
            part: "\n\n".join(b.text for b in blocks) for part, blocks in parts.items() if part not in ("", "fixes")
        },
        path=path,
    )


def _parts(entry: _Entry) -> dict[str, list[Block]]:
    """An entry's blocks by part; those before the first label or under an unknown heading come under an empty name."""
    parts: dict[str, list[Block]] = {}
    depth = len(entry.sections[0].heading)
    for number, section in enumerate(entry.sections):
        below = section.heading[depth if section.heading[:depth] == entry.sections[0].heading else -1 :]
        part = next((name for name in map(part_name, reversed(below)) if name), "") if number else ""
        for block in section.blocks:
            part = _label(block)[0] or part
            if block.kind != "rule" and not (block.kind == "heading" and (not number or part_name(block.title))):
                parts.setdefault(part, []).append(block)
    return parts


def _summary(blocks: Iterable[Block]) -> str:
    """The first paragraph that is neither a quotation nor a label."""
    texts = (block.text for block in blocks if block.kind == "prose")
    return next((text for text in texts if not text.startswith(">") and not text.endswith((":", "："))), "")


def _symptoms(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        part, words = _label(block)
        if not part and block.kind in ("prose", "item"):
            words = block.text
        if words:
            yield _BULLET.sub("", words).split("\n")[0].strip()


def _printed(fence: Block) -> list[str]:
    """The lines of a log or of a terminal in which a program reports an error; never commands, comments or source."""
    language = fence.info.split(" ")[0].lower()
    lines = [line.strip() for line in fence.code.split("\n")]
    if _is_shell(fence):
        lines = [line for line in lines if not _PROMPT.match(line)] if any(map(_PROMPT.match, lines)) else []
    elif language not in _LOG and "Traceback (most recent call last)" not in fence.code:
        return []
    return [line for line in lines if _OUTPUT.search(line) and not _SOURCE.match(line) and not _is_chinese(line)]


def _is_chinese(line: str) -> bool:
    return len(re.findall(r"[\u4e00-\u9fff]", line)) > len(re.findall(r"[A-Za-z]{2,}", line))


def _signatures(entry: _Entry) -> Iterator[Signature]:
    patterns: set[str] = set()
    fences = [fence for section in entry.sections for block in section.blocks for fence in _fences(block)]
    for line in (line for fence in fences for line in _printed(fence)):
        pattern = line_pattern(line)
        if pattern and pattern not in patterns:
            patterns.add(pattern)
            role: Role = "consequence" if _WRAPPER.search(line) else "cause"
            yield Signature(entry.id, f"line-{len(patterns)}", role, pattern, line)


def _is_shell(fence: Block) -> bool:
    language = fence.info.split(" ")[0].lower()
    first = next((line for line in fence.code.split("\n") if line.strip() and not line.startswith("#")), "")
    return language in _SHELL or (language in _LOG and _RUNS.match(_PROMPT.sub("", first)) is not None)


@dataclass(slots=True)
class _Draft:
    """A fix while it is read: its title, the lines said about it, its commands, and the lines of the file it spans."""

    title: str
    notes: list[str]
    lines: tuple[int, int]
    commands: list[Command] = field(default_factory=list)

    def finished(self) -> Remedy:
        risks: list[Risk] = [_risk(command.text) for command in self.commands]
        risk = max(risks, key=_ORDER.index) if risks else "restart"
        return Remedy(self.title, "\n".join(self.notes), risk, commands=tuple(self.commands), lines=self.lines)


def _remedies(entry: _Entry, parts: dict[str, list[Block]]) -> Iterator[Remedy]:
    """The fixes under a fix heading; where there is none, the commands outside symptoms, diagnosis and check."""
    is_fix = "fixes" in parts
    drafts: list[_Draft] = []
    for block in parts.get("fixes" if is_fix else "", ()):
        span = (block.first, block.last)
        held = drafts[-1] if drafts and not drafts[-1].commands else None
        words = _label(block)[1] or ("" if _label(block)[0] else block.text)
        if block.kind == "table" and is_fix:
            drafts += _rows(block)
        elif block.kind == "fence" and _is_shell(block):
            groups = list(_groups(block))
            if held and groups and not groups[0].title:
                held.commands, held.notes, held.lines = (
                    groups[0].commands,
                    held.notes + groups[0].notes,
                    (held.lines[0], block.last),
                )
                groups = groups[1:]
            drafts += groups
        elif block.kind == "fence" and is_fix and drafts:
            drafts[-1].notes.append(block.text)
        elif block.kind in ("heading", "item") or (block.kind == "prose" and words):
            title, _, rest = _worded(block.title or words).partition("\n")
            commands = [c for fence in block.fences if _is_shell(fence) for g in _groups(fence) for c in g.commands]
            said = _inline_commands(title, block.first) if not commands else []
            drafts.append(_Draft(title.strip(" :："), [_prose(rest)] if rest.strip() else [], span, commands + said))
    for draft in drafts:
        draft.title = draft.title or _worded(entry.title)
        if draft.commands or (is_fix and draft.title and not _WRONG.search(draft.title)):
            yield draft.finished()


def _worded(text: str) -> str:
    """Words without bullets, numbering and bold."""
    return _NUMBERING.sub("", _BULLET.sub("", text).replace("**", "").strip())


def _prose(text: str) -> str:
    return re.sub(r"^ *(`{3,}|~{3,}).*?^ *\1\s*?$", "", text, flags=re.S | re.M).strip()


def _inline_commands(text: str, line: int) -> list[Command]:
    return [
        Command(code, line=line)
        for code in re.findall(r"`([^`]+)`", text)
        if _RUNS.match(code) and not _WRONG.search(text)
    ]


def _rows(table: Block) -> Iterator[_Draft]:
    for number, row in enumerate(table.text.split("\n")[2:], table.first + 2):
        first, *more = [cell.strip().replace("**", "") for cell in row.strip().strip("|").split("|")]
        yield _Draft(": ".join([first, *more[:1]]), more[1:], (number, number))


def _groups(fence: Block) -> Iterator[_Draft]:
    """The fixes of a shell fence: a comment that opens a paragraph, or a numbered one, is the title of what follows."""
    lines = fence.code.split("\n")
    first = fence.last - len(lines) if fence.text.rstrip().endswith(("```", "~~~")) else fence.last - len(lines) + 1
    is_numbered = any(_NUMBERING.match(line.lstrip("# ")) for line in lines if line.startswith("#"))
    has_prompts = any(map(_PROMPT.match, lines))
    draft = _Draft("", [], (first, first))
    index, is_open = 0, True
    while index < len(lines):
        line, number = lines[index], first + index
        index += 1
        if line.startswith("#") and not _PROMPT.match(line):
            words = line.lstrip("# ")
            if _NUMBERING.match(words) if is_numbered else is_open and not (draft.title and not draft.commands):
                if draft.title or draft.commands:
                    yield draft
                draft = _Draft(_worded(words), [], (number, number))
            elif words:
                draft.notes.append(words)
        elif line.strip():
            index = _end_of_command(lines, index)
            if not has_prompts or _PROMPT.match(line):
                _take(draft, lines[number - first : index], number)
            draft.lines = (draft.lines[0], first + index - 1)
        is_open = not line.strip()
    yield draft


def _end_of_command(lines: Sequence[str], index: int) -> int:
    """The index after the command that began on the line before `index`: continuations, open quotes, here-documents."""
    start = index - 1
    heredoc = re.search(r"<<-?\s*['\"]?(\w+)", lines[start])
    if heredoc:
        return next((i + 1 for i in range(index, len(lines)) if lines[i].strip() == heredoc[1]), len(lines))
    code = _bare(lines[start])[0]
    while index < len(lines) and (code.endswith("\\") or _has_open_quote(code)):
        code += "\n" + _bare(lines[index], code)[0]
        index += 1
    return start + 1 if _has_open_quote(code) else index


def _has_open_quote(code: str) -> bool:
    return bool(re.search(r"['\"]", re.sub(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"", "", code, flags=re.S)))


def _bare(line: str, before: str = "") -> tuple[str, str]:
    """A line of a command without its comment, and the comment's words; `before` is the command so far."""
    found = _COMMENT.search(line)
    if not found or _has_open_quote(before + line[: found.start()]):
        return line.rstrip(), ""
    return line[: found.start()].rstrip(), found["words"]


def _take(draft: _Draft, lines: Sequence[str], number: int) -> None:
    """Add a command to a fix, its comments to the notes; one that the runbook itself calls wrong is left out."""
    text = ""
    comments: list[str] = []
    for line in lines:
        code, words = _bare(line, text)
        text += code + "\n"
        comments += [words] if words else []
    before = draft.notes[-1] if draft.notes and not draft.commands else draft.title
    if any(map(_WRONG.search, comments)) or _WRONG.search(before):
        draft.notes = [note for note in draft.notes if not _WRONG.search(note)]
        return
    draft.notes += comments
    draft.commands.append(Command(_PROMPT.sub("", text).strip(), line=number))


def _risk(command: str) -> Risk:
    """The risk of a command, guessed from its words; what is not known counts as a restart."""
    line = " ".join(command.replace("\\\n", " ").split())
    return next((risk for risk, pattern in _RISKS if pattern.search(line)), "restart")


@dataclass(frozen=True, slots=True)
class Runbook:
    """A runbook that is kept: its name in the folder, the file it came from, that file's SHA-256, when it was added."""

    name: str
    source: str
    sha256: str
    added: str

    def path_in(self, folder: Path) -> Path:
        """The Markdown that is kept of it."""
        return folder / self.name / f"{self.name}.md"


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one file; `detail` is the runbook's name, or the sentence that says why it failed."""

    path: str
    outcome: Literal["added", "replaced", "unchanged", "failed"]
    detail: str = ""


def add_runbooks(paths: Iterable[Path], folder: Path, mask: Callable[[str], str]) -> list[Added]:
    """Keep files as masked Markdown under `folder`, one folder each; of a folder, all files of known kinds in it.

    A file whose content is kept already is left alone, a changed file takes the place of its former version.
    """
    kept = list_runbooks(folder)
    done: list[Added] = []
    for path in paths:
        files = list(_files_in(path, besides=folder)) if path.is_dir() else [path]
        if not files:
            done.append(Added(str(path), "failed", f"{path} holds no file of a known kind ({', '.join(KINDS)})."))
        for file in files:
            try:
                done.append(_keep(file, folder, kept, mask))
            except DocumentError as error:
                done.append(Added(str(file), "failed", str(error)))
    return done


def list_runbooks(folder: Path) -> list[Runbook]:
    """The runbooks kept in a folder, by name; none where the folder does not exist."""
    return [Runbook(**json.loads(path.read_bytes())) for path in sorted(folder.glob("*/runbook.json"))]


def remove_runbook(name: str, folder: Path) -> bool:
    """Forget the runbook of that name, or the one that came from that file; False where there is none."""
    source = str(Path(name).absolute())
    found = next((kept for kept in list_runbooks(folder) if name == kept.name or source == kept.source), None)
    if found is None:
        return False
    (folder / found.name / "runbook.json").unlink()
    shutil.rmtree(folder / found.name)
    return True


def _files_in(folder: Path, besides: Path) -> Iterator[Path]:
    """The readable files under a folder in order, hidden ones and the runbooks' own folder left out."""
    for place, folders, names in os.walk(folder):
        shown = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(name for name in shown if Path(place, name).resolve() != besides.resolve())
        yield from (Path(place, n) for n in sorted(names) if not n.startswith(".") and Path(n).suffix.lower() in KINDS)


def _keep(file: Path, folder: Path, kept: list[Runbook], mask: Callable[[str], str]) -> Added:
    """Keep one file, and write it down in `kept`."""
    source, digest = str(file.absolute()), hashlib.sha256(load_bytes(file)).hexdigest()
    former = next((runbook for runbook in kept if runbook.source == source), None)
    same = next((runbook for runbook in kept if runbook.sha256 == digest), None)
    if same and former in (None, same):
        return Added(str(file), "unchanged", same.name)
    markdown = to_markdown(file)
    name = former.name if former else _free(slug(file.stem), {runbook.name for runbook in kept})
    runbook = Runbook(name, source, digest, datetime.now(UTC).isoformat(timespec="seconds"))
    runbook.path_in(folder).parent.mkdir(parents=True, exist_ok=True)
    _write(runbook.path_in(folder), mask(markdown))
    _write(folder / name / "runbook.json", json.dumps(asdict(runbook), ensure_ascii=False, indent=1))
    if former:
        kept.remove(former)
    kept.append(runbook)
    return Added(str(file), "replaced" if former else "added", name)


def _free(wanted: str, taken: Collection[str]) -> str:
    """The name wanted, or with the first number from 2 that makes it one's own."""
    numbers = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
    return wanted if wanted not in taken else next(name for name in numbers if name not in taken)


def _write(path: Path, text: str) -> None:
    """Write beside, then rename, so that a killed process leaves the former file whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(text, "utf-8")
    beside.replace(path)
