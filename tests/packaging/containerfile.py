"""Reads a Containerfile, and carries it out on a Debian below a directory instead of an image from a registry."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.packaging.debian import ROOT
from tests.packaging.test_distributions import NOT_SOURCE

if TYPE_CHECKING:
    from tests.packaging.fresh_root import Root

FILE = ROOT / "Containerfile"


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction and its arguments, on one line, with the values of ARG."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    found, values = [], dict[str, str]()
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        rest = re.sub(r"\$\{(\w+)\}", lambda name: values.get(name[1], name[0]), rest.strip())
        if word == "ARG":
            name, _, value = rest.partition("=")
            values[name] = value
        found.append((word, rest))
    return found


@dataclass
class Image:
    """What the last stage came to."""

    root: Root
    variables: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def carry_out(base: Root, directory: Path) -> Image:
    """All stages, each on a copy of `base` in `directory`."""
    stages: dict[str, Root] = {}
    image, place = Image(base), "/"
    for word, rest in instructions(FILE.read_text()):
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            image, place = Image(base.copy(directory / name)), "/"
            stages[name] = image.root
        elif word == "RUN":
            image.root.run("sh", "-e", "-c", f"cd {place}; {rest}", variables=image.variables)
        elif word == "COPY":
            _copy(image.root, stages, *rest.split())
        elif word == "WORKDIR":
            place = rest
            (image.root.path / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            image.variables |= dict(each.split("=", 1) for each in rest.split())
        elif word == "ENTRYPOINT":
            image.entrypoint = json.loads(rest)
        elif word == "CMD":
            image.command = json.loads(rest)
        else:
            assert word in ("ARG", "HEALTHCHECK", "STOPSIGNAL"), word
    return image


def _copy(to: Root, stages: dict[str, Root], *words: str) -> None:
    *options, source, target = words
    if options:
        (stage,) = options
        origin = stages[stage.removeprefix("--from=")].path / source.lstrip("/")
        shutil.copytree(origin, to.path / target.lstrip("/"), symlinks=True, dirs_exist_ok=True)
    else:
        assert source == "."
        shutil.copytree(ROOT, to.path / target.lstrip("/"), ignore=NOT_SOURCE, dirs_exist_ok=True)
