"""What may account for a language model's words, and whether it does: deterministic, claim by claim."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from assistant.claims import CONTROLS, FLAG, METRIC, MODEL, NUMBER, PATH, PROMPT, VARIABLE, Claim, Piece
from assistant.types import Evidence

RECORD = "flag record"
"""Where an evidence's source begins so, a model's own words came back in it: they account for nothing."""
# Right in every release, and never to be advised but by a document or repeated from the user.
SENSITIVE = frozenset(
    [
        "--trust-remote-code", "--allow-credentials", "--allowed-local-media-path", "--allowed-media-domains", "--allowed-origins", "--host",
        "--enable-request-id-headers", "--api-key", "--admin-api-key", "--enable-log-requests", "--log-requests", "--tool-parser-plugin",
        "--reasoning-parser-plugin", "--middleware", "--chat-template", "--download-dir", "--load-format", "--hf-overrides", "--model-impl",
        "--enable-custom-logit-processor", "--logits-processors", "--worker-cls", "--worker-extension-cls", "--hf-token",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """What may account for a model's words. `authority` are documents, fixes and the user's own words: commands come from there alone.

    `brought` is what else was read and computed; `worded` the offline answer, grounded before; `links` are addresses that may be named; `diagnosed` are the ids of the evidence of the
    offline answer, `cited` those that the text cites; engine and release may be empty.
    """

    evidence: Mapping[str, Evidence]
    authority: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    worded: str = ""
    links: frozenset[str] = frozenset()
    diagnosed: tuple[str, ...] = ()
    cited: tuple[str, ...] = ()
    engine: str = ""
    release: str = ""

    @cached_property
    def authorities(self) -> tuple[str, ...]:
        """The authority with the documents of the diagnosis and those that are cited; what a search brought up besides is none."""
        counted = {*self.diagnosed, *self.cited}
        documents = [e for e in self.evidence.values() if e.kind == "document" and e.id in counted]
        texts = [e.text for e in documents if not e.source.startswith(RECORD)]
        return tuple(unicodedata.normalize("NFKC", text) for text in (*self.authority, *texts))

    @cached_property
    def known(self) -> str:
        """All text that was read."""
        read = [f"{e.source}\n{e.text}" for e in self.evidence.values() if not e.source.startswith(RECORD)]
        return "\n".join(
            [*self.authorities, *(unicodedata.normalize("NFKC", t) for t in (*read, *self.brought, self.worded))]
        )

    @cached_property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """The words of each line of the authority, continued lines joined."""
        joined = re.sub(r"\\\s*\n\s*", " ", "\n".join(self.authorities)).replace("`", " ")
        return tuple(words for line in joined.splitlines() if (words := bare_words(line)))

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word of the authority."""
        return frozenset(word for line in self.lines for word in line)

    @cached_property
    def names(self) -> frozenset[str]:
        """Flags, variables, metrics, model ids and paths that were read."""
        return frozenset(names_in(self.known))

    @cached_property
    def authority_names(self) -> frozenset[str]:
        """Those that the authority names."""
        return frozenset(names_in("\n".join(self.authorities)))

    @cached_property
    def worded_names(self) -> frozenset[str]:
        """Those that the offline answer names; it may quote a log, so that they may be spoken of and not put into commands."""
        return frozenset(names_in(self.worded))

    @cached_property
    def numbers(self) -> frozenset[str]:
        return frozenset(plain_number(n) for n in NUMBER.findall(self.known))

    def tokens(self, cites: Sequence[str]) -> frozenset[str]:
        """The words of the diagnosis and of what is cited. What else was read in passing counts only where it is cited."""
        from kb.tokens import tokenize

        read = [self.evidence[i] for i in dict.fromkeys((*self.diagnosed, *cites)) if i in self.evidence]
        return frozenset(
            tokenize("\n".join([*self.authority, *self.brought, self.worded, *(f"{e.source}\n{e.text}" for e in read)]))
        )

    def text_of(self, cites: Sequence[str]) -> str:
        """What those pieces of evidence say, and the documents of the diagnosis, and the user; all evidence where none is named."""
        ids = [i for i in cites if i in self.evidence] or list(self.evidence)
        texts = [self.evidence[i].text for i in ids if not self.evidence[i].source.startswith(RECORD)]
        return "\n".join([*texts, *self.authorities])


def is_accounted(claim: Claim, piece: Piece, sources: Sources) -> bool:
    """Whether something that was read accounts for a claim."""
    match claim.kind:
        case "citation":
            return claim.text in sources.evidence
        case "quote":
            return squeezed(claim.text) in squeezed(sources.text_of(piece.cites or piece.above) + sources.worded)
        case "code":
            return squeezed(claim.text) in squeezed(sources.known)
        case "command":
            return is_command_accounted(claim.text, sources)
        case "flag" | "variable":
            return is_name_accounted(claim.text, piece, sources)
        case "metric" | "model" | "path":
            return claim.text.rstrip("/") in sources.names
        case "html":  # a placeholder of a document, as `<commit>`
            return bool(re.fullmatch(r"<[a-z_-]+>", claim.text)) and any(claim.text in t for t in sources.authorities)
        case "url":
            return is_link_accounted(claim.text, sources)
        case "number":
            return is_number_accounted(claim.text, sources)
        case _:
            return False


def is_name_accounted(name: str, piece: Piece, sources: Sources) -> bool:
    """A flag or variable: named by a document or the user, alive in the release, or in the log or reading that is cited."""
    if name in sources.authority_names | sources.worded_names or is_alive(name, sources.engine, sources.release):
        return True
    return any(name in names_in(sources.evidence[i].text) for i in piece.cites if i in sources.evidence) and (
        name in sources.names
    )


def is_command_accounted(command: str, sources: Sources) -> bool:
    """A command of a document, a fix or the user, whole or a part of one; or a serving command made of accounted parts."""
    command = unicodedata.normalize("NFKC", command)
    words = bare_words(PROMPT.sub("", re.sub(r"\\\s*\n\s*", " ", command)).replace("`", " "))
    if not words:
        return True
    return any(holds(line, words) for line in sources.lines) or is_serving_accounted(command, sources)


def is_serving_accounted(command: str, sources: Sources) -> bool:
    """Whether a command does nothing but start a server, with options that the release takes and values that were read."""
    from kb.catalog.command import ASSIGNMENT, calls_in
    from kb.catalog.status import DEAD
    from kb.flags import check_command

    command = PROMPT.sub("", re.sub(r"\\\s*\n\s*", " ", command)).strip()
    calls = calls_in(command) if not CONTROLS.search(command) and "\n" not in command else ()
    if len(calls) != 1 or not calls[0].serving or calls[0].container:
        return False
    call = calls[0]
    before = command[: call.launch[0].start].split()
    if (sources.engine and call.engine != sources.engine) or not all(ASSIGNMENT.match(word) for word in before):
        return False
    if any(s.status in (*DEAD, "refused") for s in check_command(command, call.engine, sources.release)):
        return False
    names = [o.name for o in call.options] + [v.name for v in call.variables]
    if not all(is_option_accounted(name, call.engine, sources) for name in names):
        return False
    values = [w.text for w in call.leading] + [v.value for v in call.variables]
    values += [value for o in call.options for value in (o.inline, *(w.text for w in o.trail)) if value is not None]
    return all(is_value_accounted(value, sources) for value in values)


def is_option_accounted(name: str, engine: str, sources: Sources) -> bool:
    """An option to put into a command: the release takes it and it is harmless, or a document or the user names it."""
    return name in sources.authority_names or (name not in SENSITIVE and is_alive(name, engine, sources.release))


def is_value_accounted(value: str, sources: Sources) -> bool:
    """A value to put into a command: a number that was read, or a word of a document or the user."""
    bare = value.strip("'\"")
    return bare in sources.words or (bool(NUMBER.fullmatch(bare)) and is_number_accounted(bare, sources))


def is_link_accounted(link: str, sources: Sources) -> bool:
    """An address that a shipped document or the user gives; what a runbook or a log names is not made clickable."""
    bare = link.rstrip("/.,;:")
    shipped = [e.text for e in sources.evidence.values() if e.source.startswith("kb/docs/")]
    return bare in {each.rstrip("/") for each in sources.links} or any(
        re.search(rf"(?<![\w.-]){re.escape(bare)}/?(?![\w/.?=&-]*[\w/=&])", text)
        for text in (*sources.authority, *shipped)
    )


def is_number_accounted(number: str, sources: Sources) -> bool:
    """A number that was read, or one that a number read rounds to (4.5 of 4.54, 49 of 49.3)."""
    plain = plain_number(number)
    if plain in sources.numbers:
        return True
    if plain.count(".") > 1 or (("." not in plain) and len(plain) < 2):
        return False
    digits = len(plain.partition(".")[2])
    return any(n.count(".") == 1 and f"{float(n):.{digits}f}" == plain for n in sources.numbers)


@cache
def is_alive(name: str, engine: str, release: str) -> bool:
    """Whether the release takes a flag or variable; where the release or the engine is not known, whether any does."""
    from kb.flags import check_name, missing_releases, releases_of

    for each in (engine,) if engine in ("vllm", "sglang") else ("vllm", "sglang"):
        status = check_name(each, release, name).status if release and engine else "unknown-release"
        if status in ("ok", "deprecated", "no-op"):
            return True
        if status == "unknown-release" and len(missing_releases(each, name)) < len(releases_of(each)):
            return True
    return False


def names_in(text: str) -> Iterable[str]:
    """Every flag, variable, metric, model id and path of a text."""
    for pattern in (FLAG, VARIABLE, METRIC, MODEL, PATH):
        for found in pattern.finditer(text):
            yield found[0].rstrip(".-/")


def plain_number(number: str) -> str:
    """`20,304` as `20304`."""
    return number.replace(",", "")


def bare_words(line: str) -> tuple[str, ...]:
    """The words of a line without the stops at their ends."""
    words = (word.rstrip(",;:。，；：").rstrip(".") for word in PROMPT.sub("", line).split())
    return tuple(word for word in words if word)


def holds(line: tuple[str, ...], words: tuple[str, ...]) -> bool:
    """Whether the words stand in the line, one after the other."""
    return any(line[i : i + len(words)] == words for i in range(len(line) - len(words) + 1))


def squeezed(text: str) -> str:
    """Without white space, quotation marks and citations, for comparing quotations."""
    return re.sub(r"\s+|[`'\"‘’“”]|\[[KPLC]\d+\]|\*\*", "", unicodedata.normalize("NFKC", text))
