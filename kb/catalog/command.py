"""Command lines that start an inference server: which engine, with which options and variables, and where each one stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from kb.catalog.shellwords import Word, nested, script_of, simple_commands, without_prompts

ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
OPTION = re.compile(r"--?[A-Za-z]")
IMAGE = re.compile(r"(?:[\w.:-]+/)*(?P<name>[\w.-]*(?:vllm|sglang)[\w.-]*)(?::(?P<tag>[\w.-]+))?(?:@sha256:\w+)?")
# Images whose command starts a server; others of such a name do where a model is named to them.
KNOWN = re.compile(r"vllm-openai(?:-\w+)?|vllm|sglang")
PYTHON = re.compile(r"python(\d(\.\d+)?)?")
MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "sglang.launch_server": "sglang",
}
TAG = re.compile(r"(?:^v?|(?:vllm|sglang)[_-]v?)(\d+\.\d+\.\d+(?:[.-]?(?:post|rc)\d+)?)")
RUNNERS = ("docker", "podman", "nerdctl")
CLUSTERS = ("kubectl", "oc")
# Options of `docker run` that take no value; every other one does.
BARE = {"--detach", "--interactive", "--tty", "--rm", "--init", "--privileged", "--read-only", "--publish-all"} | {
    "--no-healthcheck",
    "--oom-kill-disable",
    "--sig-proxy",
    "--quiet",
    "--disable-content-trust",
}
BARE_LETTERS = set("ditPq")


@dataclass(frozen=True, slots=True)
class Option:
    """One option as written. `inline` is what follows `=`; `trail` the words up to the next option, which may be its values."""

    name: str
    word: Word
    inline: str | None
    trail: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that is set for the server. `words` is what setting it takes, `-e` or `export` included."""

    name: str
    value: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A use of an engine's command. Only a call with `serving` starts a server; of others nothing but the engine is read.

    `form` is `vllm serve`, `sglang serve`, `python -m MODULE`, or `image` for a container that starts the server itself; `tag`
    is the image's. `launch` are the words of the form, `leading` those between it and the first option; `first` is the first
    word of the shell command, `container` the image.
    """

    engine: str
    serving: bool
    form: str
    launch: tuple[Word, ...]
    leading: tuple[Word, ...] = ()
    options: tuple[Option, ...] = ()
    variables: tuple[Variable, ...] = ()
    tag: str = ""
    first: Word | None = None
    container: Word | None = None

    @property
    def end(self) -> int:
        """Where a further option can be put."""
        words = [*self.launch, *self.leading, *(w for o in self.options for w in (o.word, *o.trail))]
        return words[-1].end


def calls_in(text: str) -> tuple[Call, ...]:
    """Every use of an engine's command in a script, in order."""
    exported: list[Variable] = []
    found: list[Call] = []
    for words, around in _unfolded(without_prompts(text), 0):
        if words[0].text == "export":
            exported += [_variable(word, words if len(words) == 2 else (word,)) for word in words[1:] if _assigns(word)]
            continue
        call = read_call(words, (*exported, *_prefixed(around)))
        found += [call] if call else []
        image = _image([word.text for word in around])
        if call and image and not call.tag:
            found[-1] = replace(call, tag=image[1])
    return tuple(found)


def _unfolded(text: str, offset: int, around: Sequence[Word] = ()) -> Iterator[tuple[Sequence[Word], Sequence[Word]]]:
    """Simple commands, with the script of `bash -c '…'` in place of what runs it; that then comes beside each."""
    for words in simple_commands(text, offset):
        script = script_of(words)
        inner = nested(script) if script else None
        if script and inner:
            yield from _unfolded(*inner, [*around, *words[: words.index(script)]])
        else:
            yield words, around


def _assigns(word: Word) -> bool:
    return bool(ASSIGNMENT.match(word.text))


def _variable(word: Word, words: Sequence[Word]) -> Variable:
    name, _, value = word.text.partition("=")
    return Variable(name.rstrip("+"), value, tuple(words))


def read_call(words: Sequence[Word], exported: tuple[Variable, ...] = ()) -> Call | None:
    """The engine's command among the words of one simple command, wherever wrappers such as `nohup` or `docker` put it."""
    texts = [word.text for word in words]
    image = _image(texts)
    start = image[0] + 1 if image else 0
    found = next((known for i in range(start, len(words)) if (known := _launch(texts, i))), None)
    if found is None and image:
        found = _container(words, image[0], image[2])
    if found is None:
        return None
    first, after, engine, form, serving = found
    tag = image[1] if image else ""
    if not serving:
        return Call(engine, False, form, tuple(words[first:after]), tag=tag)
    leading, options = _options(words[after:])
    variables = (*exported, *_prefixed(words[:first]))
    container = words[image[0]] if image else None
    launch = tuple(words[first:after])
    return Call(engine, True, form, launch, leading, options, variables, tag, _start(words), container)


def _container(words: Sequence[Word], at: int, name: str) -> tuple[int, int, str, str, bool] | None:
    """What an image starts by itself: vLLM's a server. One that is only pulled tells the engine."""
    texts = [word.text for word in words]
    engine = "sglang" if "sglang" in name else "vllm"
    if "pull" in texts[:at]:
        return at, at + 1, engine, "image", False
    entered = any(text.startswith("--entrypoint") for text in texts[:at]) or script_of(words[at:]) is not None
    starts = KNOWN.fullmatch(name) or any(text.startswith("--model") for text in texts[at:])
    return (at, at + 1, engine, "image", True) if engine == "vllm" and starts and not entered else None


def _start(words: Sequence[Word]) -> Word:
    """The first word that is not a prompt."""
    return next((word for word in words if word.text not in ("$", "#", "%")), words[0])


def _launch(texts: Sequence[str], i: int) -> tuple[int, int, str, str, bool] | None:
    """First word, word after the last, engine, form and whether it serves, of the launcher that begins at word `i`."""
    program = texts[i].rpartition("/")[2]
    following = texts[i + 1] if i + 1 < len(texts) else ""
    if PYTHON.fullmatch(program):
        at = next((j for j in range(i + 1, min(i + 6, len(texts) - 1)) if texts[j] == "-m"), None)
        module = texts[at + 1] if at else ""
        if at and module in MODULES:
            return i, at + 2, MODULES[module], f"python -m {module}", True
        if at and re.match(r"(vllm|sglang)\.", module):
            return i, at + 2, module.partition(".")[0], f"python -m {module}", False
    elif program in ("vllm", "sglang") and following == "serve":
        return i, i + 2, program, f"{program} serve", True
    elif (
        program in ("vllm", "sglang")
        and re.fullmatch(r"[a-z][a-z-]*", following)
        and (i == 0 or texts[i - 1] != "install")
    ):
        return i, i + 2, program, f"{program} {following}", False
    return None


def _image(texts: Sequence[str]) -> tuple[int, str, str] | None:
    """Where a container's own command begins, and release and name of its image, in a `docker run` or `kubectl run`."""
    runner = next((i for i, text in enumerate(texts) if text.rpartition("/")[2] in (*RUNNERS, *CLUSTERS)), None)
    verb = next((text for text in texts[runner or 0 :] if text in ("run", "pull")), "")
    if runner is None or not verb:
        return None
    at = texts.index(verb, runner) + 1
    if texts[runner].rpartition("/")[2] in CLUSTERS:
        at = texts.index("--", at) if "--" in texts[at:] else len(texts) - 1
        images = (
            t.removeprefix("--image=") for before, t in pairwise(texts) if before == "--image" or t[:8] == "--image="
        )
        name = next(images, "")
    else:
        while at < len(texts) and texts[at].startswith("-"):
            letters = texts[at][1:2] != "-" and set(texts[at][1:]) <= BARE_LETTERS
            attached = texts[at][1:2] != "-" and len(texts[at]) > 2
            at += 1 if texts[at] in BARE or "=" in texts[at] or letters or attached else 2
        name = texts[at] if at < len(texts) else ""
    found = IMAGE.fullmatch(name)
    return (at, release_in(found["tag"]), found["name"]) if found else None


def release_in(tag: str | None) -> str:
    """The engine's release that an image's tag tells: `v0.8.5-cu124` and `rocm6.3_vllm_0.8.5` do; NVIDIA's `25.09-py3` does not."""
    found = TAG.search(tag or "")
    return found[1] if found else ""


def _prefixed(words: Sequence[Word]) -> Iterator[Variable]:
    """Variables before the launcher: `A=b vllm …`, `env A=b …`, `docker run -e A=b …`."""
    for i, word in enumerate(words):
        before = words[i - 1].text if i else ""
        attached = re.match(r"(--env=|-e=?)(?=[A-Za-z_]\w*=)", word.text)
        if attached:
            name, _, value = word.text[attached.end() :].partition("=")
            yield Variable(name, value, (word,))
        elif _assigns(word) and before in ("-e", "--env"):
            yield _variable(word, (words[i - 1], word))
        elif _assigns(word) and not before.startswith("-"):
            yield _variable(word, (word,))


def _options(words: Sequence[Word]) -> tuple[tuple[Word, ...], tuple[Option, ...]]:
    """The words before the first option, and the options with the words after each."""
    starts = [i for i, word in enumerate(words) if OPTION.match(word.text)]
    options = []
    for i, after in zip(starts, [*starts[1:], len(words)], strict=False):
        name, equals, inline = words[i].text.partition("=")
        options.append(Option(name, words[i], inline if equals else None, tuple(words[i + 1 : after])))
    return tuple(words[: starts[0] if starts else len(words)]), tuple(options)
