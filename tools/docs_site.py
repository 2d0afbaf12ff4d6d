"""Puts the pages of the documentation site together: tools/docs_site.py DIRECTORY. `make docs` calls it and builds them.

The pages are those of docs/ and what is written of the code here: every key, every verb. A link to a file of the repository that is
no page leads to a copy of it.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ipsec_dp.cli.commands import program
from ipsec_dp.config.schema import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
# Pages that stand elsewhere in the repository, by where they go.
ELSEWHERE: Final = {
    "README.md": "index.md",
    "docs/README.md": "reading.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CHANGELOG.md": "changes.md",
    "benchmarks/README.md": "measuring.md",
}
LINK: Final = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
REMOTE: Final = ("http://", "https://", "mailto:")
INDENT: Final = re.compile(r"^(```|~~~)")


def pages() -> dict[Path, str]:
    """Where each file of the repository that is a page goes."""
    found = {ROOT / name: target for name, target in ELSEWHERE.items()}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        found.setdefault(path, path.relative_to(ROOT / "docs").as_posix())
    return found


class Site:
    """In `directory`, which is emptied."""

    def __init__(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self._directory, self._pages = directory, pages()

    def write(self) -> None:
        for source, target in self._pages.items():
            self._put(target, self._linked(source, target))
        self._put("reference/keys.md", "\n".join(keys()))
        self._put("reference/verbs.md", "\n".join(verbs()))

    def _put(self, name: str, text: str) -> None:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _linked(self, source: Path, target: str) -> str:
        """The page's text with links that hold in the site; what stands in a block of code is left as it is."""
        lines, fenced = [], False
        for line in source.read_text().splitlines():
            fenced ^= bool(INDENT.match(line.lstrip()))
            lines.append(line if fenced else LINK.sub(lambda found: self._link(found, source, target), line))
        return "\n".join(lines) + "\n"

    def _link(self, found: re.Match[str], source: Path, target: str) -> str:
        begin, link, end = found.groups()
        if link.startswith(REMOTE):
            return found[0]
        path = (source.parent / link).resolve()
        if not path.exists():
            raise SystemExit(f"{source.relative_to(ROOT)}: there is no {link}")
        to = self._pages.get(path) or self._copy(path)
        return f"{begin}{'../' * target.count('/')}{to}{end}"

    def _copy(self, path: Path) -> str:
        """Of a file, or of what a directory holds."""
        name = f"files/{path.relative_to(ROOT).as_posix()}"
        if path.is_file():
            (self._directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self._directory / name)
            return name
        inside = sorted(each.name for each in path.iterdir() if each.is_file())
        for each in inside:
            self._copy(path / each)
        listing = [f"# {path.relative_to(ROOT).as_posix()}", "", *(f"- [{each}]({each})" for each in inside), ""]
        self._put(f"{name}/index.md", "\n".join(listing))
        return f"{name}/index.md"


# ---- every key


def keys() -> Iterator[str]:
    """Each table of the configuration with its keys, from the model."""
    made = schema()
    tables: dict[str, Any] = made["$defs"]
    yield "# Every key"
    yield ""
    yield "Written from the model that reads the file. [Configuration](../configuration.md) explains them."
    for place, name in _tables(tables, "File", ()):
        table = tables[name]
        yield from ("", f"## {place}", "", str(table.get("description", "")), "")
        yield from ("| key | what it takes | default |", "| --- | --- | --- |")
        for key, value in table["properties"].items():
            if _table_of(value) is None:
                default = "must be given" if key in table.get("required", ()) else _default(value)
                yield f"| `{key}` | {_cell(_takes(value))} | {_cell(default)} |"
    yield ""


def _tables(tables: dict[str, Any], name: str, within: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """How each is written in TOML, and its name in the schema, in the order of a file."""
    for key, value in tables[name]["properties"].items():
        inner = _table_of(value)
        if inner is not None:
            path = ".".join((*within, key))
            yield f"`[[{path}]]`" if value.get("type") == "array" else f"`[{path}]`", inner
            yield from _tables(tables, inner, (*within, key))


def _table_of(value: dict[str, Any]) -> str | None:
    reference = value.get("$ref") or value.get("items", {}).get("$ref")
    return None if reference is None else reference.rsplit("/", 1)[1]


def _default(value: dict[str, Any]) -> str:
    return "" if "default" not in value else f"`{_toml(value['default'])}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _takes(value: dict[str, Any]) -> str:
    said = value.get("description") or " or ".join(_kinds(value))
    bounds = [f"from {value['minimum']}"] if "minimum" in value else []
    bounds += [f"to {value['maximum']}"] if "maximum" in value else []
    return " ".join([said, *bounds])


def _kinds(value: dict[str, Any]) -> list[str]:
    """Of what has no words of its own."""
    if "anyOf" in value:
        return [kind for each in value["anyOf"] for kind in ([each["description"]] if "description" in each else _kinds(each))]
    if "enum" in value:
        return [f"`{_toml(each)}`" for each in value["enum"]]
    if value.get("type") == "array":
        return [f"a list of {' or '.join(_kinds(value.get('items', {}))) or 'values'}"]
    return {"string": ["a text"], "boolean": ["`true` or `false`"], "integer": ["a number"], "number": ["a number"]}.get(
        str(value.get("type")), []
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# ---- every verb


def verbs() -> Iterator[str]:
    yield from ("# Every verb", "", "What each `--help` says.", "")
    for path, text in _helps(program, None):
        yield from (f"## {path}", "", "```text", text, "```", "")


def _helps(command: click.Command, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    name = "ipsec-dp" if parent is None else command.name
    context = click.Context(command, info_name=name, parent=parent, terminal_width=80, max_content_width=80)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            verb = command.get_command(context, each)
            if verb is not None and not verb.hidden:
                yield from _helps(verb, context)


if __name__ == "__main__":
    Site(Path(sys.argv[1])).write()
