"""The contenders: each brings a tunnel up between the two gateways and takes it away again; see benchmarks/peers/ for how."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from benchmarks.tunnels import ceiling
from benchmarks.tunnels.names import CEILING, OURS, PLAIN
from ipsec_dp.host.tun import QUEUE_PACKETS
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError, openvpn, rss_octets, version, wireguard
from ipsec_dp.rig.peers.openvpn import OpenVpn
from ipsec_dp.rig.peers.strongswan import StrongSwan
from ipsec_dp.rig.peers.wireguard import WireGuard
from ipsec_dp.rig.process import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.rig.netns import Namespace, TwoSites

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
UP_SECONDS = 15.0
PROBE_PINGS = 20


@dataclass(frozen=True)
class Tunnel:
    """A tunnel that is up: its interface on both gateways (None: there is none), its two processes, what they say of themselves."""

    interface: str | None
    pids: tuple[int, ...]
    said: dict[str, Any] = field(default_factory=dict)

    def rss_octets(self) -> int:
        """Resident memory of the larger of the two processes."""
        return max(rss_octets(pid) for pid in self.pids)


@dataclass(frozen=True)
class Contender:
    """`start` is a context in which the tunnel is up; it is given the sites, an empty directory and whether to use offloads.

    `is_there` says whether one that is not required can run here; `version` what is compared.
    """

    name: str
    start: Callable[[TwoSites, Path, bool], contextlib.AbstractContextManager[Tunnel]]
    version: Callable[[], str]
    is_there: Callable[[], bool] = lambda: True


@contextlib.contextmanager
def _plain(sites: TwoSites, directory: Path, offloads: bool) -> Iterator[Tunnel]:
    """The gateways route to each other as `two_sites` made them."""
    yield Tunnel(None, ())


# ---- ours ---------------------------------------------------------------------------------------------------------------------


def write_bench_files(directory: Path, *, offloads: bool) -> tuple[Path, Path]:
    """Copies benchmarks/bench-a.toml and bench-b.toml, with every offload off if asked, and puts a new secret beside them."""
    (directory / "bench.psk").touch(mode=0o600)
    (directory / "bench.psk").write_text(secrets.token_hex(32))
    files = (directory / "bench-a.toml", directory / "bench-b.toml")
    for file in files:
        text = (ROOT / "benchmarks" / file.name).read_text()
        file.write_text(text if offloads else text.replace("[gateway]\n", '[gateway]\noffloads = "none"\n', 1))
    return files


def _gateways(program: tuple[str, ...]) -> Callable[[TwoSites, Path, bool], contextlib.AbstractContextManager[Tunnel]]:
    @contextlib.contextmanager
    def start(sites: TwoSites, directory: Path, offloads: bool) -> Iterator[Tunnel]:
        files = write_bench_files(directory, offloads=offloads)
        pair = [
            GatewayProcess(namespace, file, program=program)
            for namespace, file in zip((sites.gw_a, sites.gw_b), files, strict=True)
        ]
        try:
            for gateway in pair:
                gateway.start()
            status, _ = [gateway.wait_up() for gateway in pair]
            said = {key: status[key] for key in ("provider", "offloads")}
            yield Tunnel("ipsec0", tuple(gateway.process.pid for gateway in pair if gateway.process), said)
        finally:
            for gateway in pair:
                if gateway.process is not None:
                    gateway.terminate()

    return start


# ---- others -------------------------------------------------------------------------------------------------------------------


def _text(name: str, **values: str) -> str:
    return Template((PEERS / name).read_text()).substitute(values)


@contextlib.contextmanager
def _two(peers: tuple[StrongSwan, StrongSwan] | tuple[WireGuard, WireGuard] | tuple[OpenVpn, OpenVpn]) -> Iterator[tuple[int, ...]]:
    """Both started, their process ids; stopped at the end."""
    try:
        for peer in peers:
            peer.start()
        yield tuple(peer.daemon.process.pid for peer in peers if peer.daemon.process is not None)
    finally:
        for peer in peers:
            peer.stop()


@contextlib.contextmanager
def _strongswan(sites: TwoSites, directory: Path, offloads: bool) -> Iterator[Tunnel]:
    psk = secrets.token_hex(16)
    quiet = _text("strongswan/strongswan.conf")
    a, b = (
        StrongSwan(gateway, directory / side, _text(f"strongswan/{side}.swanctl.conf", psk=psk), quiet)
        for side, gateway in (("a", sites.gw_a), ("b", sites.gw_b))
    )
    with _two((a, b)) as pids:
        a.initiate("net")
        yield Tunnel("ipsec0", pids)


def _wireguard(program: str) -> Callable[[TwoSites, Path, bool], contextlib.AbstractContextManager[Tunnel]]:
    @contextlib.contextmanager
    def start(sites: TwoSites, directory: Path, offloads: bool) -> Iterator[Tunnel]:
        (a_private, a_public), (b_private, b_public) = wireguard.key_pair(), wireguard.key_pair()

        def peer(side: str, gateway: Namespace, private: str, public: str, remote: str) -> WireGuard:
            text = _text(f"wireguard/{side}.conf", private_key=private, peer_public_key=public)
            return WireGuard(gateway, directory / side, "wg0", text, (remote,), program)

        a = peer("a", sites.gw_a, a_private, b_public, netns.SITE_B_NETS[0])
        b = peer("b", sites.gw_b, b_private, a_public, netns.SITE_A_NETS[0])
        with _two((a, b)) as pids:
            yield Tunnel("wg0", pids)

    return start


@contextlib.contextmanager
def _openvpn(sites: TwoSites, directory: Path, offloads: bool) -> Iterator[Tunnel]:
    prints = {}
    for side in "ab":
        (directory / side).mkdir()
        prints[side] = openvpn.certificate(directory / side, side)
    a, b = (
        OpenVpn(gateway, directory / side, "tun0", _text(f"openvpn/{side}.conf", peer_fingerprint=prints[other]))
        for side, other, gateway in (("a", "b", sites.gw_a), ("b", "a", sites.gw_b))
    )
    with _two((a, b)) as pids:
        yield Tunnel("tun0", pids)


# ---- which there are ----------------------------------------------------------------------------------------------------------


def _first_line(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


OURS_PROGRAM = (sys.executable, "-m", "ipsec_dp")
CONTENDERS = (
    Contender(PLAIN, _plain, lambda: "routed, no tunnel"),
    Contender(CEILING, _gateways(ceiling.PROGRAM), lambda: "ipsec-dp with an AEAD that only copies"),
    Contender(OURS, _gateways(OURS_PROGRAM), lambda: _first_line(*OURS_PROGRAM, "version")),
    Contender("strongswan", _strongswan, lambda: version("strongswan-charon") + ", kernel-libipsec"),
    Contender("wireguard-go", _wireguard("wireguard-go"), lambda: version("wireguard-go")),
    Contender("openvpn", _openvpn, lambda: version("openvpn") + ", without DCO"),
    Contender(
        "wireguard-go-2025",
        _wireguard("wireguard-go-2025"),
        lambda: _first_line("wireguard-go-2025", "--version"),
        lambda: shutil.which("wireguard-go-2025") is not None,
    ),
)


def lengthen_queues(sites: TwoSites, tunnel: Tunnel) -> None:
    """Gives every contender's interfaces the queue that ours have: at the kernel's 500 packets cubic loses, whoever reads them."""
    if tunnel.interface is not None:
        for gateway in (sites.gw_a, sites.gw_b):
            gateway.run("ip", "link", "set", "dev", tunnel.interface, "txqueuelen", str(QUEUE_PACKETS))


def _sent_packets(namespace: Namespace, interface: str) -> int:
    (row,) = json.loads(namespace.run("ip", "-j", "-s", "link", "show", "dev", interface).stdout)
    return int(row["stats64"]["tx"]["packets"])


def check_path(sites: TwoSites, tunnel: Tunnel) -> None:
    """Waits until packets pass, and makes sure that they pass through the tunnel. PeerError when they do not."""
    deadline = time.monotonic() + UP_SECONDS
    ping = ("ping", "-n", "-q", "-W", "1", netns.HOST_B[0])
    while sites.host_a.run(*ping, "-c", "1", check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise PeerError(f"nothing passes after {UP_SECONDS:g} s")
    if tunnel.interface is None:
        return
    gateways = (sites.gw_a, sites.gw_b)
    before = [_sent_packets(gateway, tunnel.interface) for gateway in gateways]
    sites.host_a.run(*ping, "-c", str(PROBE_PINGS), "-i", "0.01")
    after = [_sent_packets(gateway, tunnel.interface) for gateway in gateways]
    if any(now - then < PROBE_PINGS for then, now in zip(before, after, strict=True)):
        raise PeerError(f"packets pass beside the tunnel: {tunnel.interface} sent {before} before and {after} after them")
