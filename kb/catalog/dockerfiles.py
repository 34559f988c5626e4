"""The serving command of a Dockerfile: its last `ENTRYPOINT` and `CMD`, the variables of `ENV`, the image of `FROM`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kb.catalog.command import IMAGE
from kb.catalog.forms import ASSIGNED, Edit, Environment, Item, Listed, Script, Setting, exports
from kb.catalog.shellwords import simple_commands
from kb.catalog.yaml_text import documents, item

LINE = re.compile(r"(?mi)^[ \t]*(?P<key>FROM|ENV|CMD|ENTRYPOINT)[ \t]+(?P<value>(?:[^\n\\]|\\[^\n]|\\\n)*)")
STAND_IN = "container/vllm-sglang"


def read_dockerfile(text: str) -> list[tuple[str, int, Script | Listed]]:
    """The command of the last stage, where it is written as words or as a shell's text; at most one."""
    lines = list(LINE.finditer(text))
    stage = max((i for i, line in enumerate(lines) if line["key"].upper() == "FROM"), default=0)
    held = {line["key"].upper(): line for line in lines[stage:]}
    image = re.sub(r"@sha256:\w+", "", (held["FROM"]["value"].split() or [""])[0]) if "FROM" in held else ""
    image = image if IMAGE.fullmatch(image) else STAND_IN
    parts = [held[key] for key in ("ENTRYPOINT", "CMD") if key in held]
    environment = environment_of(
        [line for line in lines[stage:] if line["key"].upper() == "ENV"], parts[0].start() if parts else 0
    )
    words: list[Item] = []
    for part in parts:
        found = list(words_of(text, part))
        if not found:
            said = part["value"].rstrip()
            start = part.start("value")
            given = Script(said, range(start, start + len(said) + 1), str, environment, exports(environment, image))
            return [(part["key"].upper(), part.start(), given)]
        words += found
    return [(parts[-1]["key"].upper(), parts[0].start(), Listed(tuple(words), environment, image))] if words else []


def words_of(text: str, line: re.Match[str]) -> Iterator[Item]:
    """The words of a command that is written as a JSON list; none of one that is not."""
    if not line["value"].startswith("["):
        return
    start, end = line.span("value")
    flat = re.sub(r"\\\n", "  ", text[start:end])
    for node in documents(" " * start + flat)[:1]:
        yield from (item(text, node, at) for at in range(len(node.value)))


def environment_of(lines: list[re.Match[str]], at: int) -> Environment:
    """The variables of `ENV` lines; a further one gets a line before the command."""

    def settings() -> Iterator[Setting]:
        for line in lines:
            words = next(iter(simple_commands(line["value"], line.start("value"))), [])
            for word in words:
                found = ASSIGNED.fullmatch(word.text)
                if found:
                    whole = (line.start(), line.end() + 1) if len(words) == 1 else (word.start - 1, word.end)
                    yield Setting(found[1], found[2], (word.start, word.end), whole, writer(found[1]))

    return Environment(tuple(settings()), lambda name, value: Edit(at, at, f"ENV {writer(name)(value)}\n"))


def writer(name: str):  # type: ignore[no-untyped-def]
    import shlex

    return lambda new: f"{name}={shlex.quote(new)}"
