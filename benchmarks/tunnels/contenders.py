"""The contenders: each brings a tunnel up between the two gateways and takes it away again; see benchmarks/peers/ for how."""

from __future__ import annotations

import contextlib
import json
import platform
import re
import secrets
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.tunnels import ceiling, kernel
from benchmarks.tunnels.names import CEILING, OURS, PLAIN, WIREGUARD_13
from benchmarks.tunnels.processor import seconds_of
from benchmarks.tunnels.variants import IPV6, Variant
from ipsec_dp.host.tun import QUEUE_PACKETS
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError, openvpn, rss_octets, version, wireguard
from ipsec_dp.rig.peers.openvpn import OpenVpn
from ipsec_dp.rig.peers.strongswan import StrongSwan
from ipsec_dp.rig.peers.wireguard import WireGuard
from ipsec_dp.rig.process import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipsec_dp.rig.netns import Namespace, TwoSites

    Start: TypeAlias = Callable[[TwoSites, Path, Variant], contextlib.AbstractContextManager["Tunnel"]]

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
WIREGUARD_13_USR = ROOT / "build" / "wireguard13" / "usr"  # `make bench-tunnel` unpacks it
UP_SECONDS = 15.0
PROBE_PINGS = 20
ANSWERED = re.compile(r"(\d+) received")  # by ping


@dataclass(frozen=True)
class Tunnel:
    """A tunnel that is up: its interface on both gateways (None: there is none), its two processes, what they say of themselves."""

    interface: str | None
    pids: tuple[int, ...]
    said: dict[str, Any] = field(default_factory=dict)

    def rss_octets(self) -> int:
        """Resident memory of the larger of the two processes."""
        return max(rss_octets(pid) for pid in self.pids)

    def processor_seconds(self) -> float | None:
        """What both and all that they started have used; None where the tunnel has no process."""
        return seconds_of(self.pids) if self.pids else None


@dataclass(frozen=True)
class Contender:
    """`start` is a context in which the tunnel is up; it is given the sites, an empty directory and what it is set up as.

    `is_there` says whether it can run here, if that can be told before it is started; `version` what is compared; `cannot` why it
    has no figure for a measure.
    """

    name: str
    start: Start
    version: Callable[[], str]
    is_there: Callable[[], bool] = lambda: True
    cannot: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def _plain(sites: TwoSites, directory: Path, variant: Variant) -> Iterator[Tunnel]:
    """The gateways route to each other as `two_sites` made them."""
    yield Tunnel(None, ())


# ---- ours ---------------------------------------------------------------------------------------------------------------------


def replaced_once(text: str, old: str, new: str) -> str:
    """ValueError unless it is there once."""
    if text.count(old) != 1:
        raise ValueError(f"benchmarks/bench-*.toml: {old!r} is to be there once")
    return text.replace(old, new)


def as_variant(text: str, variant: Variant, networks: tuple[str, str]) -> str:
    """One of benchmarks/bench-*.toml, changed as a variant asks. `networks`: the inner IPv6 networks, here and there."""
    if not variant.offloads:
        text = replaced_once(text, "[gateway]\n", '[gateway]\noffloads = "none"\n')
    written = f'encapsulation = "{variant.encapsulation}"\n' if variant.encapsulation else ""
    text = replaced_once(text, 'encapsulation = "udp"\n', written)
    text = replaced_once(text, 'proposals = ["aes128gcm16"]', f'proposals = ["{variant.cipher}"]')
    if variant.version == IPV6:
        between = 'local = "{}"\n{}remote = "{}"\n'
        proxy_id = f"  [[tunnel.proxy_id]]\n  {between.format(networks[0], '  ', networks[1])}\n"
        text = replaced_once(text, "  [tunnel.auth]\n", f"{proxy_id}  [tunnel.auth]\n")
        text += f'\n[[policy]]\naction = "protect"\ntunnel = "{_tunnel_name(text)}"\n{between.format(networks[0], "", networks[1])}'
    return text


def _tunnel_name(text: str) -> str:
    return str(tomllib.loads(text)["tunnel"][0]["name"])


def write_bench_files(directory: Path, variant: Variant) -> tuple[Path, Path]:
    """Copies benchmarks/bench-a.toml and bench-b.toml, changed as asked, and puts a new secret beside them."""
    (directory / "bench.psk").touch(mode=0o600)
    (directory / "bench.psk").write_text(secrets.token_hex(32))
    files = (directory / "bench-a.toml", directory / "bench-b.toml")
    inner = (netns.SITE_A_NETS[1], netns.SITE_B_NETS[1])
    for file, networks in zip(files, (inner, inner[::-1]), strict=True):
        file.write_text(as_variant((ROOT / "benchmarks" / file.name).read_text(), variant, networks))
    return files


def gateways(program: tuple[str, ...]) -> Start:
    """Two of ours; `program` is how one is called."""

    @contextlib.contextmanager
    def start(sites: TwoSites, directory: Path, variant: Variant) -> Iterator[Tunnel]:
        files = write_bench_files(directory, variant)
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


def swanctl_conf(side: str, psk: str, variant: Variant) -> str:
    """Of strongSwan at one of two sites. `side`: "a" or "b"."""
    nets = (netns.SITE_A_NETS, netns.SITE_B_NETS)
    local, remote = (_inner(each, variant) for each in (nets if side == "a" else nets[::-1]))
    return _text(f"strongswan/{side}.swanctl.conf", psk=psk, esp=variant.cipher, local=local, remote=remote)


@contextlib.contextmanager
def _strongswan(sites: TwoSites, directory: Path, variant: Variant) -> Iterator[Tunnel]:
    psk = secrets.token_hex(16)
    quiet = _text("strongswan/strongswan.conf")
    a, b = (
        StrongSwan(gateway, directory / side, swanctl_conf(side, psk, variant), quiet)
        for side, gateway in (("a", sites.gw_a), ("b", sites.gw_b))
    )
    with _two((a, b)) as pids:
        a.initiate("net")
        yield Tunnel("ipsec0", pids)


def _inner(nets: tuple[str, str], variant: Variant) -> str:
    """The networks of a site that a variant's traffic is from."""
    return ", ".join(nets if variant.version == IPV6 else nets[:1])


def _wireguard_sides() -> Iterator[tuple[str, str, str, tuple[str, str]]]:
    """For each side: its name, its private key, the other's public key, the other's networks."""
    (a_private, a_public), (b_private, b_public) = wireguard.key_pair(), wireguard.key_pair()
    yield "a", a_private, b_public, netns.SITE_B_NETS
    yield "b", b_private, a_public, netns.SITE_A_NETS


def _wireguard(program: str, usr: Path | None = None) -> Start:
    @contextlib.contextmanager
    def start(sites: TwoSites, directory: Path, variant: Variant) -> Iterator[Tunnel]:
        a, b = (
            WireGuard(
                gateway,
                directory / side,
                "wg0",
                _text(f"wireguard/{side}.conf", private_key=private, peer_public_key=public, remote=_inner(remote, variant)),
                _inner(remote, variant).split(", "),
                program,
                usr,
            )
            for gateway, (side, private, public, remote) in zip((sites.gw_a, sites.gw_b), _wireguard_sides(), strict=True)
        )
        with _two((a, b)) as pids:
            yield Tunnel("wg0", pids)

    return start


@contextlib.contextmanager
def _kernel_wireguard(sites: TwoSites, directory: Path, variant: Variant) -> Iterator[Tunnel]:
    try:
        for gateway, (side, private, public, remote) in zip((sites.gw_a, sites.gw_b), _wireguard_sides(), strict=True):
            remotes = _inner(remote, variant)
            text = _text(f"wireguard/{side}.conf", private_key=private, peer_public_key=public, remote=remotes)
            kernel.start_wireguard(gateway, directory, text, remotes.split(", "))
        yield Tunnel(kernel.WIREGUARD, ())
    finally:
        kernel.stop((sites.gw_a, sites.gw_b), kernel.WIREGUARD)


@contextlib.contextmanager
def _kernel_esp(sites: TwoSites, directory: Path, variant: Variant) -> Iterator[Tunnel]:
    try:
        kernel.start_esp(sites, variant)
        yield Tunnel(kernel.ESP, ())
    finally:
        kernel.stop((sites.gw_a, sites.gw_b), kernel.ESP)


OPENVPN_CIPHERS = {"aes128gcm16": "AES-128-GCM", "aes256gcm16": "AES-256-GCM", "chacha20poly1305": "CHACHA20-POLY1305"}
OPENVPN_IPV6 = ("fd00:9::1", "fd00:9::2")


@contextlib.contextmanager
def _openvpn(sites: TwoSites, directory: Path, variant: Variant) -> Iterator[Tunnel]:
    prints = {}
    for side in "ab":
        (directory / side).mkdir()
        prints[side] = openvpn.certificate(directory / side, side)

    def peer(side: str, gateway: Namespace, ends: tuple[str, ...], remote: str) -> OpenVpn:
        further = f"ifconfig-ipv6 {ends[0]}/64 {ends[1]}\nroute-ipv6 {remote}" if variant.version == IPV6 else ""
        other = "b" if side == "a" else "a"
        text = _text(
            f"openvpn/{side}.conf", peer_fingerprint=prints[other], cipher=OPENVPN_CIPHERS[variant.cipher], further=further
        )
        return OpenVpn(gateway, directory / side, "tun0", text)

    a = peer("a", sites.gw_a, OPENVPN_IPV6, netns.SITE_B_NETS[1])
    b = peer("b", sites.gw_b, OPENVPN_IPV6[::-1], netns.SITE_A_NETS[1])
    with _two((a, b)) as pids:
        yield Tunnel("tun0", pids)


# ---- which there are ----------------------------------------------------------------------------------------------------------


def _first_line(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _why(reason: str, *measures: str) -> dict[str, str]:
    return dict.fromkeys(measures, reason)


OURS_PROGRAM = (sys.executable, "-m", "ipsec_dp")
NO_PROCESS = _why("no process of its own", "rss_idle_mb", "rss_flood_mb")
NO_TUNNEL = NO_PROCESS | _why("there is no tunnel", "tcp_1_default", "tcp_1_esp", "tcp_1_aes256", "tcp_1_chacha")
ONE_CIPHER = _why("its cipher that copies is AES-128-GCM's", "tcp_1_aes256", "tcp_1_chacha")
NO_CHOICE = _why("it has one encapsulation", "tcp_1_default")
NO_ESP = NO_CHOICE | _why("it is no ESP", "tcp_1_esp")
WIREGUARD = NO_ESP | _why("it has ChaCha20-Poly1305 only", "tcp_1_aes256")
CONTENDERS = (
    Contender(PLAIN, _plain, lambda: "routed, no tunnel", cannot=NO_TUNNEL),
    Contender(CEILING, gateways(ceiling.PROGRAM), lambda: "ipsec-dp with an AEAD that only copies", cannot=ONE_CIPHER),
    Contender(OURS, gateways(OURS_PROGRAM), lambda: _first_line(*OURS_PROGRAM, "version")),
    Contender(
        "strongswan",
        _strongswan,
        lambda: version("strongswan-charon") + ", kernel-libipsec",
        cannot=NO_CHOICE | _why("its userspace ESP is in UDP only", "tcp_1_esp"),
    ),
    Contender("wireguard-go", _wireguard("wireguard-go"), lambda: version("wireguard-go"), cannot=WIREGUARD),
    Contender(
        WIREGUARD_13,
        _wireguard("wireguard-go", WIREGUARD_13_USR),
        lambda: package_in(WIREGUARD_13_USR.parent, "wireguard-go") + ", of Debian 13",
        (WIREGUARD_13_USR / "bin" / "wireguard-go").exists,
        WIREGUARD,
    ),
    Contender("openvpn", _openvpn, lambda: version("openvpn") + ", without DCO", cannot=NO_ESP),
    Contender(
        "wireguard-go-2025",
        _wireguard("wireguard-go-2025"),
        lambda: _first_line("wireguard-go-2025", "--version"),
        lambda: shutil.which("wireguard-go-2025") is not None,
        WIREGUARD,
    ),
    Contender(
        "kernel-esp", _kernel_esp, lambda: f"Linux {platform.release()}, IP protocol 50", kernel.has_esp, NO_PROCESS | NO_CHOICE
    ),
    Contender(
        "kernel-wireguard",
        _kernel_wireguard,
        lambda: f"Linux {platform.release()}",
        kernel.has_wireguard,
        NO_PROCESS | WIREGUARD,
    ),
)


def package_in(root: Path, name: str) -> str:
    """Name and version of a package that was unpacked there, its name alone when it was not."""
    packages = root / "packages"
    lines = packages.read_text().splitlines() if packages.exists() else []
    return next((line for line in lines if line.partition(" ")[0] == name), name)


def lengthen_queues(sites: TwoSites, tunnel: Tunnel) -> None:
    """Gives every contender's interfaces the queue that ours have: at the kernel's 500 packets cubic loses, whoever reads them."""
    if tunnel.interface is not None:
        for gateway in (sites.gw_a, sites.gw_b):
            gateway.run("ip", "link", "set", "dev", tunnel.interface, "txqueuelen", str(QUEUE_PACKETS))


def _sent_packets(namespace: Namespace, interface: str) -> int:
    (row,) = json.loads(namespace.run("ip", "-j", "-s", "link", "show", "dev", interface).stdout)
    return int(row["stats64"]["tx"]["packets"])


def check_path(sites: TwoSites, tunnel: Tunnel, to: str = netns.HOST_B[0]) -> None:
    """Waits until packets pass, and makes sure that they pass through the tunnel. PeerError when they do not."""
    deadline = time.monotonic() + UP_SECONDS
    ping = ("ping", "-n", "-q", "-W", "1", to)
    while sites.host_a.run(*ping, "-c", "1", check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise PeerError(f"nothing passes after {UP_SECONDS:g} s")
    if tunnel.interface is None:
        return
    gateways = (sites.gw_a, sites.gw_b)
    before = [_sent_packets(gateway, tunnel.interface) for gateway in gateways]
    said = sites.host_a.run(*ping, "-c", str(PROBE_PINGS), "-i", "0.01", check=False).stdout
    after = [_sent_packets(gateway, tunnel.interface) for gateway in gateways]
    answered = int(found[1]) if (found := ANSWERED.search(said)) else 0
    if not answered:
        raise PeerError(f"none of {PROBE_PINGS} echo requests was answered")
    if any(now - then < answered for then, now in zip(before, after, strict=True)):
        raise PeerError(f"packets pass beside the tunnel: {tunnel.interface} sent {before} before and {after} after them")
