"""Writes a manual page for each verb of the command line, out of its own help: tools/man_pages.py DIRECTORY.

`make man` calls it. The date is that of SOURCE_DATE_EPOCH, or today.
"""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click_man.man import ManPage

from ipsec_dp import __version__
from ipsec_dp.cli.commands import program

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUSES = {0: "done", 1: "failed", 2: "usage or configuration", 3: "no daemon"}
# Verbs whose exit statuses are others, or more.
OWN_STATUSES = {
    "ipsec-dp status": "With --check: 0 OK, 1 warning, 2 critical, 3 unknown. With --follow: 0 after Ctrl-C, "
    "3 when the gateway stops.",
    "ipsec-dp check": "2 when anything is wrong with the file; warnings alone leave it 0.",
}
WIDE = 1000  # characters: nothing of a first sentence is cut


def pages(command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """File name and text of each page, that of the whole program first."""
    context = click.Context(command, info_name="ipsec-dp" if parent is None else command.name, parent=parent)
    yield f"{context.command_path.replace(' ', '-')}.1", _page(context)
    for _, verb in _verbs(context):
        yield from pages(verb, context)


def _verbs(context: click.Context) -> Iterator[tuple[str, click.Command]]:
    group = context.command
    if isinstance(group, click.Group):
        found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
        yield from ((name, verb) for name, verb in found if verb is not None and not verb.hidden)


def _page(context: click.Context) -> str:
    command = context.command
    page = ManPage(context.command_path)
    page.version = __version__
    page.short_help = command.get_short_help_str(WIDE).rstrip(".")
    page.description = _escaped(cleandoc(command.help or ""))
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    records = (each.get_help_record(context) for each in command.params if isinstance(each, click.Option) and not each.hidden)
    page.options = [(names, _escaped(text)) for names, text in (record for record in records if record)]
    page.commands = [(name, _escaped(verb.get_short_help_str(WIDE))) for name, verb in _verbs(context)]
    return f"{page}{_examples(command)}{_statuses(context.command_path)}{_see_also(context)}"


def _escaped(text: str) -> str:
    """As troff takes it: no line of it is a request, a hyphen is one, a backslash stays."""
    lines = (line.replace("\\", "\\e").replace("-", "\\-") for line in text.splitlines())
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


def _examples(command: click.Command) -> str:
    lines = [line for line in cleandoc(command.epilog or "").splitlines() if line.startswith("  ")]
    if not lines:
        return ""
    return "\n".join([".SH EXAMPLES", ".nf", *(_escaped(cleandoc(line)) for line in lines), ".fi", ""])


def _statuses(path: str) -> str:
    texts = "; ".join(f"{number} {text}" for number, text in STATUSES.items())
    own = [_escaped(OWN_STATUSES[path])] if path in OWN_STATUSES else []
    return "\n".join([".SH EXIT STATUS", f"{texts}.", *own, ""])


def _see_also(context: click.Context) -> str:
    return "" if context.parent is None else f".SH SEE ALSO\n.BR {context.parent.command_path.replace(' ', '-')} (1)\n"


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages(program):
        (directory / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
