"""UDP traffic for loss-free rates: what each measure sends, and a sender of numbered runs at a given rate."""

from __future__ import annotations

import itertools
import socket
import time
from dataclasses import dataclass

from ipsec_dp.bench.wire import SOL_UDP, UDP_SEGMENT, BenchError

LOSS = 0.001  # the share that may be missing
DRAIN_S = 0.2  # after the last packet was sent
SEGMENTS = 64  # of one send with UDP_SEGMENT
PAYLOAD_MAX = 65507  # octets of one send
SEND_BUFFER = 4 << 20
TICK_S = 0.0002
CATCH_UP = 2  # times the rate at which a sender that was held up catches up, so that it makes no burst of it
IMIX = (64, 576, 64, 64, 576, 64, 1400, 64, 576, 64, 576, 64)
HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}  # octets of IP and UDP


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one UDP measure sends: the size of the IP packets ("imix": a mix), and how many of them by one send."""

    octets: str
    segments: int = 1


TRAFFIC = {
    "udp_64": Traffic("64"),
    "udp_512": Traffic("512"),
    "udp_1400": Traffic("1400"),
    "udp_imix": Traffic("imix"),
    "udp_64_gso": Traffic("64", SEGMENTS),
    "udp_1400_gso": Traffic("1400", SEGMENTS),
}


def cold_guess(traffic: Traffic) -> float:
    """Packets a second to begin with; with UDP_SEGMENT too many for most, and what is too much shows at once."""
    return 40_000.0 if traffic.segments == 1 else 400_000.0


def payloads(traffic: Traffic, family: int, run: bytes) -> tuple[list[bytes], int]:
    """The payloads to send in turn, each beginning with `run`, and how many datagrams UDP_SEGMENT makes of one.

    An IPv6 header is longer: packets too short for `run` become as short as they can be.
    """
    sizes = IMIX if traffic.octets == "imix" else (int(traffic.octets),)
    bodies = [run.ljust(max(len(run), size - HEADERS[socket.AddressFamily(family)]), b"\0") for size in sizes]
    if traffic.segments == 1:
        return bodies, 1
    count = min(traffic.segments, PAYLOAD_MAX // len(bodies[0]))
    return [bodies[0] * count], count


def send_run(to: tuple[str, int], family: int, traffic: Traffic, run: bytes, rate: float, seconds: float) -> tuple[int, float]:
    """Sends `rate` packets a second for so long: how many were sent, and in how many seconds. BenchError when they cannot be."""
    bodies, count = payloads(traffic, family, run)
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        try:
            if count > 1:
                sender.setsockopt(SOL_UDP, UDP_SEGMENT, len(bodies[0]) // count)
            sender.connect(to)
            return _paced(sender, bodies, count, rate, seconds)
        except OSError as error:
            raise BenchError(f"UDP to {to[0]} port {to[1]}: {error.strerror}") from error


def _paced(sender: socket.socket, bodies: list[bytes], count: int, rate: float, seconds: float) -> tuple[int, float]:
    send, clock = sender.send, time.perf_counter
    turn = itertools.cycle(bodies)
    sent, begun = 0, clock()
    while (spent := clock() - begun) < seconds:
        due = min(int(spent * rate), sent + int(CATCH_UP * rate * TICK_S) + count)
        while sent < due:
            try:
                send(next(turn))
            except ConnectionRefusedError:  # of an earlier datagram, before the other side counted
                continue
            sent += count
        time.sleep(TICK_S)
    return sent, clock() - begun
