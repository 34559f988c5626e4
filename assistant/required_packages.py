"""The fix that names the package versions which the user's release of the engine requires."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from assistant.fixes import Engine
from assistant.types import Fix
from assistant.wording import say
from kb.types import ENGINE_NAMES, Document, Language

FOR_THE_GPU = frozenset({"torch", "torchvision", "torchaudio", "torchcodec", "xformers", "triton"})
"""Packages of which each CUDA has its own build: pip alone may take the wrong one."""
PLACE = -2  # no fix of the document
SUSPECTS = 3  # of more packages nothing is said where none is known not to fit


class Required(NamedTuple):
    """The fix, and whether an installed package is known not to fit."""

    fix: Fix
    is_unmet: bool


def required_packages_fix(
    document: Document, engine: Engine, installed: Mapping[str, str], lang: Language
) -> Required | None:
    """What this release asks for of the packages that a document is about: of those known not to fit alone, else of all whose
    version is not known. None where the release is unknown, asks for no version, or all of them fit."""
    from kb.requirements import required, unmet

    needed = {name: said for name in document.requires if (said := required(engine.name, engine.release, name))}
    read = {name: installed[name] for name in needed if name in installed}
    wrong = {each.package: each for each in unmet(engine.name, engine.release, read)}
    asked = {name: needed[name] for name in wrong or [name for name in needed if name not in read]}
    if not asked or (not wrong and len(asked) > SUSPECTS):
        return None
    release = f"{ENGINE_NAMES[engine.name]} {engine.release}"
    pinned = [f"{name}{said}" for name, said in asked.items()]
    text = "\n".join(
        say("required_but", lang, name=name, version=wrong[name].installed, release=release, said=said)
        if name in wrong
        else say("required", lang, name=name, release=release, said=said)
        for name, said in asked.items()
    )
    if any(map(is_open, asked.values())):
        text += "\n" + say("required_lowest", lang)
    fix = Fix(
        title=say("required_title", lang, release=release, what=", ".join(f"`{each}`" for each in pinned)),
        text=text,
        commands=(install_command(asked, bool(FOR_THE_GPU & asked.keys())),),
        risk="reinstall",
        place=PLACE,
    )
    return Required(fix, bool(wrong))


def is_open(said: str) -> bool:
    """Whether a specifier has a lowest version and no highest one."""
    return ">=" in said and not re.search(r"<|==|~=", said)


def install_command(asked: Mapping[str, str], for_the_gpu: bool) -> str:
    """The command that installs what is asked for; with packages that have a build for each CUDA in uv's form, which picks it by
    the driver. Of an open range the lowest version: vLLM 0.11.0 asks for transformers>=4.55.2, and does not run with 5.0."""
    lowest = {name: re.sub(r".*>=([^,]+).*", r"==\1", said) if is_open(said) else said for name, said in asked.items()}
    words = " ".join(f'"{name}{said}"' for name, said in lowest.items())
    return f"uv pip install {words} --torch-backend=auto" if for_the_gpu else f"pip install {words}"
