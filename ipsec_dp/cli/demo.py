"""`ipsec-dp demo`: two hosts and two gateways in network namespaces of their own, real traffic through ESP, and a report.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
          10.1.0.2        192.0.2.1  192.0.2.2        10.2.0.2

Everything that it says about the outer link it also says about the inner one: a scanner that finds nothing proves nothing unless
the same scanner finds it where it must be.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ipsec_dp import __version__
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.capture import Capture
from ipsec_dp.rig.process import GatewayProcess, GatewayProcessError, IkePair, write_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.rig.netns import Namespace, TwoSites

FILE_OCTETS = 64 << 20
PINGS = 5
STREAM_PINGS = 150
REKEY_PAUSE_S = 0.5
IPERF_SECONDS = 3
IPERF_ATTEMPTS = 40
PORT = 9000
LOG_COLUMNS = 160
SOCKET_TIMEOUT_S = 60.0
# Where Debian has the programs that the demonstration runs.
PACKAGES = {"ip": "iproute2", "nft": "nftables", "ping": "iputils-ping", "iperf3": "iperf3"}


class DemoFailedError(IpsecDpError):
    """A part of the demonstration did not do what it shows."""


@dataclass
class DemoStep:
    """One part of the report."""

    name: str
    ok: bool = False
    said: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class DemoStage:
    """What the parts work with."""

    sites: TwoSites
    gateways: tuple[GatewayProcess, GatewayProcess]
    output: Path


def _preconditions() -> None:
    if os.geteuid() != 0:
        raise DemoFailedError("the demonstration makes network namespaces and TUN devices: run it as root (sudo ipsec-dp demo)")
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = sorted(package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None)
    if missing:
        raise DemoFailedError(f"programs are missing: apt-get install {' '.join(missing)}")


# ---- the parts ----------------------------------------------------------------------------------------------------------------


def _gateways(stage: DemoStage, step: DemoStep) -> None:
    for gateway in stage.gateways:
        gateway.start()
    for gateway in stage.gateways:
        gateway.wait_up()
    status, _ = (gateway.wait_negotiated() for gateway in stage.gateways)
    (tunnel,) = status["tunnels"]
    (child,) = tunnel["children"]
    step.figures = {
        "provider": status["provider"],
        "ike": tunnel["ike"]["proposal"],
        "suite": child["suite"],
        "esn": child["esn"],
        "mtu": tunnel["mtu"],
    }
    step.said = f"IKE {tunnel['ike']['proposal']}, ESP {child['suite']} by {status['provider']}, interface MTU {tunnel['mtu']}"


def _ping(stage: DemoStage, step: DemoStep) -> None:
    times = []
    for address in netns.HOST_B:
        # With a deadline it waits for the last answer; without, only for twice the round trip so far.
        done = stage.sites.host_a.run("ping", "-n", "-c", str(PINGS), "-i", "0.1", "-w", "5", address, check=False)
        if done.returncode != 0:  # fewer answers than asked for, within the time
            raise DemoFailedError(f"ping {address}: {done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr.strip()}")
        times.append(float(done.stdout.rpartition(" = ")[2].split("/")[1]))
    step.figures = {"rtt_ms_ipv4": times[0], "rtt_ms_ipv6": times[1]}
    step.said = f"{PINGS} answers, {times[0]:.2f} ms over IPv4, {times[1]:.2f} ms over IPv6"


def _listener(namespace: Namespace) -> socket.socket:
    return namespace.call(lambda: socket.create_server((netns.HOST_B[0], PORT)))


def _send_file(namespace: Namespace) -> str:
    """Sends the marked file from inside a namespace; its SHA-256."""
    digest = hashlib.sha256()
    with namespace.call(lambda: socket.create_connection((netns.HOST_B[0], PORT), SOCKET_TIMEOUT_S)) as connection:
        for chunk in capture.marked(FILE_OCTETS):
            digest.update(chunk)
            connection.sendall(chunk)
    return digest.hexdigest()


def _receive_file(listener: socket.socket, result: dict[str, Any]) -> None:
    digest, octets = hashlib.sha256(), 0
    listener.settimeout(SOCKET_TIMEOUT_S)
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(SOCKET_TIMEOUT_S)
            while chunk := connection.recv(1 << 20):
                digest.update(chunk)
                octets += len(chunk)
    except OSError as error:
        result["error"] = str(error)
    result.update(sha256=digest.hexdigest(), octets=octets)


def _file(stage: DemoStage, step: DemoStep) -> None:
    """The file, captured on both sides of the sending gateway."""
    gateway = stage.sites.gw_a
    with (
        Capture(gateway, "lan", stage.output / "inner.pcapng") as inner,
        Capture(gateway, "wan", stage.output / "outer.pcapng") as outer,
        _listener(stage.sites.host_b) as listener,
    ):
        received: dict[str, Any] = {}
        receiver = threading.Thread(target=_receive_file, args=(listener, received), daemon=True)
        receiver.start()
        begun = time.monotonic()
        sent = _send_file(stage.sites.host_a)
        receiver.join(SOCKET_TIMEOUT_S)
        seconds = time.monotonic() - begun
        lost = {"inner": inner.stop().lost, "outer": outer.stop().lost}
    if received.get("sha256") != sent:
        raise DemoFailedError(f"the file arrived changed or cut: {received} instead of SHA-256 {sent}")
    step.figures = {"octets": FILE_OCTETS, "sha256": sent, "seconds": round(seconds, 3), "capture_lost": lost}
    step.said = f"{FILE_OCTETS >> 20} MiB in {seconds:.1f} s, SHA-256 the same at both ends ({sent[:16]}…)"


def _captures(stage: DemoStage, step: DemoStep) -> None:
    """Only ESP outside; the plaintext inside and not outside."""
    inner, outer = (capture.scan(stage.output / f"{name}.pcapng") for name in ("inner", "outer"))
    step.figures = {
        "inner": {"packets": dict(inner.packets), "marked": inner.marked},
        "outer": {"packets": dict(outer.packets), "marked": outer.marked, "tunnel_octets": outer.tunnel_octets()},
    }
    problems = []
    if inner.marked == 0:
        problems.append("the scanner does not find the plaintext on the inner link, so it proves nothing about the outer one")
    if outer.marked:
        problems.append(f"{outer.marked} packets on the outer link carry the plaintext")
    if outer.foreign():
        problems.append(f"packets other than ESP cross the outer link: {outer.foreign()}")
    if outer.tunnel_octets() < FILE_OCTETS:
        problems.append(f"only {outer.tunnel_octets()} octets of ESP were captured for a file of {FILE_OCTETS}")
    if problems:
        raise DemoFailedError("; ".join(problems))
    step.said = (
        f"outer link: {outer.tunnel_octets() / 2**20:.1f} MiB of ESP and nothing else, plaintext in 0 packets; "
        f"inner link: plaintext in {inner.marked} packets"
    )


def _iperf(stage: DemoStage, step: DemoStep) -> None:
    sites = stage.sites
    for name, reverse in (("a_to_b", False), ("b_to_a", True)):
        server = sites.host_b.spawn("iperf3", "--server", "--one-off", "--bind", netns.HOST_B[0])
        command = ["iperf3", "--client", netns.HOST_B[0], "--time", str(IPERF_SECONDS), "--json"] + ["--reverse"] * reverse
        try:
            answer = _iperf_client(sites.host_a, command)
        finally:
            server.terminate()
            server.wait()
        step.figures[f"{name}_gbit_s"] = round(answer["end"]["sum_received"]["bits_per_second"] / 1e9, 3)
    step.said = f"TCP {step.figures['a_to_b_gbit_s']:.2f} Gb/s from A to B, {step.figures['b_to_a_gbit_s']:.2f} Gb/s from B to A"


def _iperf_client(namespace: Namespace, command: list[str]) -> dict[str, Any]:
    """Runs the client until the server listens. It says in its answer what failed, and its exit status may still be 0."""
    error = ""
    for _ in range(IPERF_ATTEMPTS):
        done = namespace.run(*command, timeout=IPERF_SECONDS + 20, check=False)
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"error": done.stderr.strip()}
        if "error" not in answer:
            return answer
        error = answer["error"]
        time.sleep(0.05)
    raise DemoFailedError(f"iperf3: {error}")


def _rekey(stage: DemoStage, step: DemoStep) -> None:
    """New keys for the CHILD_SA, then for the IKE SA, under a stream of pings that loses none."""
    first = stage.gateways[0]
    before = _spis(first)
    stream = stage.sites.host_a.spawn(
        "ping", "-n", "-q", "-c", str(STREAM_PINGS), "-i", "0.01", netns.HOST_B[0], stdout=subprocess.PIPE
    )
    for ike in (False, True):
        first.ask("rekey", name="a-to-b", ike=ike)
        time.sleep(REKEY_PAUSE_S)
    out, _ = stream.communicate(timeout=SOCKET_TIMEOUT_S)
    after = _spis(first)
    if f"{STREAM_PINGS} received" not in out.decode():
        raise DemoFailedError(f"packets were lost: {out.decode().strip().splitlines()[-2]}")
    if before["esp"] == after["esp"] or before["ike"] == after["ike"]:
        raise DemoFailedError(f"the SAs are the same as before: {before}, {after}")
    step.figures = {"before": before, "after": after, "pings": STREAM_PINGS}
    step.said = f"CHILD_SA and IKE SA have new keys, and {STREAM_PINGS} of {STREAM_PINGS} pings came back meanwhile"


def _spis(gateway: GatewayProcess) -> dict[str, str]:
    (tunnel,) = gateway.status()["tunnels"]
    return {"esp": tunnel["children"][0]["spi_in"], "ike": tunnel["ike"]["spi_i"]}


def _counters(stage: DemoStage, step: DemoStep) -> None:
    """What the gateways counted: nothing dropped as unauthentic, replayed or outside the selectors."""
    bad = ("icv", "replay", "too_old", "unknown_spi", "selectors", "pad")
    for gateway in stage.gateways:
        status = gateway.status()
        drops = {reason: status["drops"][reason] for reason in bad if status["drops"][reason]}
        if drops:
            raise DemoFailedError(f"{gateway.namespace.label} dropped packets: {drops}")
        step.figures[gateway.namespace.label] = status["traffic"]
    out = step.figures["gwA"]
    step.said = (
        f"gwA sealed {out['packets_out']:,} packets and opened {out['packets_in']:,}; none failed the ICV, none was a replay"
    )


def _down(stage: DemoStage, step: DemoStep) -> None:
    """Both gateways end cleanly and leave nothing behind."""
    for gateway in stage.gateways:
        if (status := gateway.down()) != 0:
            raise DemoFailedError(f"{gateway.namespace.label} ended with exit status {status}:\n{gateway.text()}")
        left = (
            gateway.namespace.run("nft", "list", "tables").stdout
            + gateway.namespace.run("ip", "-o", "link", "show", "type", "tun").stdout
        )
        if left.strip():
            raise DemoFailedError(f"{gateway.namespace.label} left behind: {left.strip()}")
    step.said = "both gateways stopped, interfaces, routes and guard are gone"


PARTS: tuple[tuple[str, Callable[[DemoStage, DemoStep], None]], ...] = (
    ("gateways", _gateways),
    ("ping", _ping),
    ("file", _file),
    ("captures", _captures),
    ("iperf3", _iperf),
    ("rekey", _rekey),
    ("counters", _counters),
    ("stop", _down),
)


# ---- running and reporting ----------------------------------------------------------------------------------------------------


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends it like Ctrl-C: everything made is taken away."""

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _play(output: Path, say: Callable[[str], None]) -> list[DemoStep]:
    steps: list[DemoStep] = []
    with ExitStack() as stack:
        stack.enter_context(_interruptible())
        for name in netns.sweep():
            say(f"removed {name}, left by a run that was killed")
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ipsec-dp-demo-")))
        lab = stack.enter_context(netns.Lab())
        sites = netns.two_sites(lab)
        files = write_pair(directory, IkePair(encapsulation="udp"))
        gateways = (GatewayProcess(sites.gw_a, files[0]), GatewayProcess(sites.gw_b, files[1]))
        stage = DemoStage(sites, gateways, output)
        for name, part in PARTS:
            step = DemoStep(name)
            steps.append(step)
            begun = time.monotonic()
            try:
                part(stage, step)
                step.ok = True
            except (IpsecDpError, GatewayProcessError, netns.NetnsError, capture.CaptureError, OSError, ValueError) as error:
                step.said = str(error)
            step.seconds = round(time.monotonic() - begun, 2)
            say(f"{'ok    ' if step.ok else 'FAILED'} {name}: {step.said}")
            if not step.ok:
                break
    return steps


def _table(steps: list[DemoStep]) -> Table:
    table = Table(title="ipsec-dp demo", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("part", "result", "what was seen"):
        table.add_column(column)
    table.add_column("s", justify="right")
    for step in steps:
        table.add_row(step.name, "[green]ok[/]" if step.ok else "[bold red]failed[/]", step.said, f"{step.seconds:.1f}")
    return table


def run(output: Path, *, json: bool = False) -> int:
    """Plays it all; captures and report.json go to `output`. 0, or 1 when a part failed."""
    _preconditions()
    output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=json)
    if not console.is_terminal:  # a log is not 80 columns wide
        console.width = LOG_COLUMNS
    begun = time.monotonic()
    try:
        steps = _play(output, lambda text: console.print(text, highlight=False, markup=False))
    except netns.NetnsError as error:
        raise DemoFailedError(f"the namespaces could not be made: {error}") from error
    except KeyboardInterrupt:
        console.print("interrupted; everything was taken away", highlight=False)
        return 1
    done = len(steps) == len(PARTS) and all(step.ok for step in steps)
    report = {
        "schema": 1,
        "ok": done,
        "version": __version__,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - begun, 1),
        "steps": [asdict(step) for step in steps],
    }
    _write(output / "report.json", report)
    if json:
        _write(None, report)
    else:
        console.print()
        console.print(_table(steps))
        console.print(
            f"\ncaptures and report: {output}/{{inner,outer}}.pcapng, {output}/report.json", highlight=False, markup=False
        )
    return 0 if done else 1


def _write(path: Path | None, report: dict[str, Any]) -> None:
    text = json.dumps(report, indent=2) + "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        path.write_text(text)
