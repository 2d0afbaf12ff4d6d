"""Traffic between the two sites, and what was seen of it: round trips, streams of marked packets, frames put on a link by hand."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipsec_dp.rig import capture, netns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.rig.netns import Namespace, TwoSites
    from ipsec_dp.rig.process import GatewayProcess

TIMEOUT_S = 10.0
UNTIL_S = 20.0  # on a machine that has other things to do; nobody waits so long where it has not
POLL_S = 0.01
FULL = ("send_full", "tun_full")  # reasons of drops: others had the processors, and a queue was full. TCP sends again
NETS_A = tuple(map(ip_network, netns.SITE_A_NETS))
NETS_B = tuple(map(ip_network, netns.SITE_B_NETS))


def until(condition: Callable[[], Any], what: str, seconds: float = UNTIL_S) -> Any:
    """The first true value of `condition`; AssertionError naming `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(POLL_S)
    return value


# ---- round trips --------------------------------------------------------------------------------------------------------------


def ping(namespace: Namespace, address: str, *options: str) -> str:
    """Three answers to echo requests; what ping said. With -w it waits for them: without, only twice the round trip so far. More
    than three requests may be on their way then: who counts packets takes `echoes`."""
    done = namespace.run("ping", "-n", "-c", "3", "-i", "0.01", "-w", f"{TIMEOUT_S:g}", *options, address, check=False)
    assert done.returncode == 0, done.stdout  # with -w it goes on asking until three have answered
    return done.stdout


def echoes(namespace: Namespace, address: str, count: int = 3, *options: str) -> int:
    """How many of just so many echo requests are answered. They leave at once (-l), so that ping waits an interval for the last
    answer, or for as long as it is told where none comes."""
    times = ("-i", f"{TIMEOUT_S:g}", "-W", f"{TIMEOUT_S:g}")
    done = namespace.run("ping", "-n", "-q", "-c", str(count), "-l", str(count), *times, *options, address, check=False)
    said = re.search(r" (\d+) received", done.stdout)
    return 0 if said is None else int(said[1])


def udp_both_ways(near: Namespace, far: Namespace, address: str, *, port: int = 7000, source_port: int = 0) -> None:
    """A datagram there and its answer back."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with far.call(lambda: _udp(family, (address, port))) as there, near.call(lambda: _udp(family, ("", source_port))) as here:
        here.sendto(b"question", (address, port))
        question, peer = there.recvfrom(2048)
        there.sendto(b"answer to " + question, peer)
        assert here.recv(2048) == b"answer to question"


def _udp(family: int, bound: tuple[str, int]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(TIMEOUT_S)
    made.bind(bound)
    return made


def tcp_both_ways(near: Namespace, far: Namespace, address: str, octets: int = 1 << 20, *, port: int = 7000) -> None:
    """One connection, `octets` of content in each direction at once, compared at both ends."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    there, back = (b"".join(capture.marked(octets, seed=seed)) for seed in (1, 2))
    arrived: list[bytes] = []
    with far.call(lambda: socket.create_server((address, port), family=family)) as listener:
        listener.settimeout(TIMEOUT_S)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                arrived.append(_exchange(connection, back))

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        with near.call(lambda: socket.create_connection((address, port), TIMEOUT_S)) as connection:
            assert _exchange(connection, there) == back
        server.join(TIMEOUT_S)
    assert arrived == [there]


def _exchange(connection: socket.socket, content: bytes) -> bytes:
    """Sends `content` and what the other end sent."""
    connection.settimeout(TIMEOUT_S)

    def send() -> None:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    received = b"".join(iter(lambda: connection.recv(1 << 18), b""))
    sender.join(TIMEOUT_S)
    return received


def sent(namespace: Namespace) -> tuple[int, int]:
    """IPv4 and IPv6 packets that a namespace has sent so far."""
    net = Path("/proc/thread-self/net")
    names, values = (line.split() for line in namespace.call((net / "snmp").read_text).splitlines() if line.startswith("Ip:"))
    v6 = dict(line.split() for line in namespace.call((net / "snmp6").read_text).splitlines())
    return int(values[names.index("OutRequests")]), int(v6["Ip6OutRequests"])


def until_sent(namespace: Namespace, packets: int) -> None:
    """Waits until a namespace has sent so many more packets by IPv4, and as many by IPv6."""
    before = sent(namespace)
    until(lambda: min(now - then for now, then in zip(sent(namespace), before, strict=True)) >= packets, f"{packets} packets sent")


def drops_but_of_full_queues(gateway: GatewayProcess) -> dict[str, int]:
    """What a gateway has dropped, by reason, of a transfer as fast as it goes."""
    return {reason: count for reason, count in gateway.status()["drops"].items() if count and reason not in FULL}


# ---- streams --------------------------------------------------------------------------------------------------------------------

STREAM = """
import socket, sys, time
from ipsec_dp.rig.capture import MARKER
streams = []
for source, address in (sys.argv[1:3], sys.argv[3:5]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    segments = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
    tcp = bytes.fromhex("1f401f41" "00000001" "00000000" "5018ffff" "00000000")  # 8000 -> 8001, PSH and ACK, no checksum
    streams += [(datagrams, MARKER * 8, (address, 8000)), (segments, tcp + MARKER * 8, (address, 0))]
while True:
    for each, content, to in streams:
        try:
            each.sendto(content, to)
        except OSError:
            pass  # no route at the moment, or an ICMP error about an earlier one
    time.sleep(0.001)
"""


@contextmanager
def stream(namespace: Namespace, ends: tuple[tuple[str, str], ...]) -> Iterator[subprocess.Popen[bytes]]:
    """Marked UDP datagrams and TCP segments, IPv4 and IPv6, about a thousand a second of each while the block runs."""
    process = namespace.spawn(sys.executable, "-c", STREAM, *(address for pair in ends for address in pair), stderr=None)
    try:
        yield process
        assert process.poll() is None, "the stream ended by itself"
    finally:
        process.kill()
        process.wait()


def between_sites(packet: bytes, *, back: bool = False) -> bool:
    """Whether an IP packet is one of site A's to site B's (`back`: the other way), as no packet outside the tunnel may be."""
    if not packet or packet[0] >> 4 not in (4, 6) or len(packet) < 40 - 20 * (packet[0] >> 4 == 4):
        return False
    ends = (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])
    source, destination = map(ip_address, ends)
    froms, tos = (NETS_B, NETS_A) if back else (NETS_A, NETS_B)
    return any(source in net for net in froms) and any(destination in net for net in tos)


def kinds_between_sites(path: Path, since: int = 0) -> set[str]:
    """What crossed in clear from site A to site B since a time in ns: "udp4", "udp6", "tcp4", …"""
    return {
        f"{capture.kind(packet)}{packet[0] >> 4}" for when, packet in capture.read(path) if when >= since and between_sites(packet)
    }


EVERY_KIND = {"udp4", "udp6", "tcp4", "tcp6"}


# ---- frames by hand -------------------------------------------------------------------------------------------------------------


def mac(namespace: Namespace, interface: str) -> bytes:
    text = namespace.run("ip", "-o", "link", "show", "dev", interface).stdout
    return bytes.fromhex(text.partition("link/ether ")[2].split()[0].replace(":", ""))


def put(namespace: Namespace, interface: str, to: bytes, *packets: bytes) -> None:
    """Sends IP packets to an Ethernet address by an interface as they are, past the namespace's routing and firewall."""

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
            for packet in packets:
                protocol = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
                raw.sendto(packet, (interface, protocol, 0, 0, to))

    namespace.call(send)


def to_gateway_a(sites: TwoSites, *packets: bytes) -> None:
    """The packets appear on the outer link as if gwB or somebody behind it had sent them to gwA."""
    put(sites.gw_b, "wan", mac(sites.gw_a, "wan"), *packets)


def to_gateway_b(sites: TwoSites, *packets: bytes) -> None:
    put(sites.gw_a, "wan", mac(sites.gw_b, "wan"), *packets)


def udp_payload(packet: bytes) -> bytes:
    """The payload of a UDP datagram in IPv4 without options or IPv6 without extension headers."""
    return packet[(20 if packet[0] >> 4 == 4 else 40) + 8 :]
