"""The verbs about this host and this program: what is missing, a demonstration, measurements, the version."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path

import click

from ipsec_dp import __version__
from ipsec_dp.cli.options import FILE, examples, heed_interrupts, json_option, loading, say, show_json

port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=5202, show_default=True, help="TCP and UDP port of the server."
)


@click.command(epilog=examples("ipsec-dp doctor", "sudo ipsec-dp doctor --json"))
@json_option
def doctor(as_json: bool) -> int:
    """Say what is missing on this host, and what to do.

    It looks at TUN, capabilities, offloads, CPU features, memlock and ports, and changes nothing.
    """
    with loading():
        from ipsec_dp.cli.doctor import run
    return int(run(json=as_json))


@click.command(epilog=examples("sudo ipsec-dp demo", "sudo ipsec-dp demo --output /tmp/demo --json"))
@click.option("--output", type=FILE, default=Path("build/demo"), show_default=True, help="Directory for captures and the report.")
@json_option
def demo(output: Path, as_json: bool) -> int:
    """Move real traffic through ESP, and report (needs root).

    Two hosts and two gateways in network namespaces of their own: ping, a file, iperf3, captures inside and outside.
    """
    heed_interrupts()
    with loading():
        from ipsec_dp.cli.demo import run
    return int(run(output=output, json=as_json))


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "ipsec-dp bench --json                    how fast this machine seals and opens ESP",
        "ipsec-dp bench server                    on the far machine; then on the near one:",
        "ipsec-dp bench client 10.2.0.1           what the path to it carries",
    ),
)
@json_option
@click.pass_context
def bench(ctx: click.Context, as_json: bool) -> int:
    """Measure: ESP on this machine, or a path with its two ends."""
    if ctx.invoked_subcommand:
        return 0
    with loading():
        from ipsec_dp.bench.esp import run
    return int(run(json=as_json))


@bench.command("server", epilog=examples("ipsec-dp bench server --bind 10.2.0.1"))
@click.option("--bind", default="", metavar="ADDRESS", help="Listen at this address only, for example one inside the tunnel.")
@port_option
def bench_server(bind: str, port: int) -> int:
    """The far end of a path: takes what clients send until Ctrl-C.

    Whoever can connect may send: let it run only while you measure.
    """
    with loading():
        from ipsec_dp.bench.server import run
    return int(run(bind, port))


@bench.command("client", epilog=examples("ipsec-dp bench client 10.2.0.1", "ipsec-dp bench client 10.2.0.1 --measure tcp_1 --json"))
@click.argument("host")
@click.option("--measure", "names", multiple=True, metavar="NAME", help="Only this, as the answer names it; may be repeated.")
@port_option
@json_option
def bench_client(host: str, names: tuple[str, ...], port: int, as_json: bool) -> int:
    """Measure the path to a bench server at HOST.

    TCP streams, loss-free UDP rates, round trips, CPU time: what the project's tunnel benchmark measures. About two minutes.
    """
    with loading():
        from ipsec_dp.bench.client import MEASURED, run
    if unknown := set(names) - set(MEASURED):
        raise click.UsageError(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(MEASURED)}")
    return int(run(host, port, names, json=as_json))


@click.command(epilog=examples("ipsec-dp version"))
@json_option
def version(as_json: bool) -> int:
    """Print the version.

    With --json also each cryptographic library, its version, its file, and whether it came with this program or is the system's.
    """
    if as_json:
        with loading():
            from ipsec_dp.cli.libraries import libraries
            from ipsec_dp.gateway.upgrade.executable import understood
        about = {"version": __version__, "python": platform.python_version(), "machine": platform.machine()}
        show_json(about | {"upgrade": understood(), "libraries": [asdict(each) for each in libraries()]})
    else:
        say(version_text())
    return 0


def version_text() -> str:
    """What `version` and `--version` print."""
    return f"ipsec-dp {__version__} (Python {platform.python_version()}, {platform.machine()})"
