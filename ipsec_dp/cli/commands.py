"""All verbs, by what one wants, and in the order in which one meets them.

Each stands with its arguments, help and examples in a module of its concern; it checks what it was given, and calls the
function that does the work.
"""

from __future__ import annotations

from typing import Final

import click

from ipsec_dp.cli import bugreport, capture, coming, completion, life, logs, probe, tools, top, trial, tunnels
from ipsec_dp.cli.options import examples

SPACING: Final = 2  # columns between a verb and what it does
# The headings of `--help`, and under each its verbs.
SECTIONS: Final = {
    "Begin": (tools.demo, tools.doctor, coming.init, coming.import_, life.check),
    "Run a gateway": (life.up, life.down, life.reload, life.upgrade, life.confirm, life.guard, life.open_),
    "See what it does": (tunnels.status, top.top, tunnels.policy, capture.capture, logs.log),
    "One tunnel": (tunnels.initiate, tunnels.rekey, tunnels.terminate, tunnels.unpin, trial.test),
    "Find out more": (probe.probe, bugreport.bugreport, tools.bench, completion.completion, tools.version),
}
VERBS: Final = tuple(verb for verbs in SECTIONS.values() for verb in verbs)


class VerbGroup(click.Group):
    """Lists the verbs in the order of `SECTIONS`, under its headings, and not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        wide = max(len(name) for name in self.commands)
        for heading, verbs in SECTIONS.items():
            with formatter.section(heading):
                limit = formatter.width - formatter.current_indent - wide - SPACING
                formatter.write_dl([(f"{verb.name:{wide}}", verb.get_short_help_str(limit)) for verb in verbs], col_spacing=SPACING)


@click.group(
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "ipsec-dp demo                        see it work, in namespaces of its own",
        "ipsec-dp doctor                      what this host lacks, and what to do",
        "ipsec-dp init                        write a first configuration",
        "ipsec-dp check conf/manual-a.toml    is this file right?",
        "ipsec-dp up conf/manual-a.toml       bring its tunnels up and keep them up",
        "ipsec-dp status --watch              what they do, each second",
        "ipsec-dp top                         what they carry and drop, live",
        "ipsec-dp capture all.pcapng          their packets, for Wireshark",
    )
    + "\n\n\b\nExit status: 0 done; 1 failed; 2 usage or configuration; 3 no daemon.",
)
@click.version_option(message=tools.version_text())
def program() -> None:
    """Userspace IPsec for Linux: ESP tunnels between networks, to any standards-compliant peer."""


for verb in VERBS:
    program.add_command(verb)
