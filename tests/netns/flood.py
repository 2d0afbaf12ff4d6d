"""Datagrams of strangers, many a second, with whatever source address: what a gateway has to stand.

`flood` starts this file as a program in a namespace, beside the target; it ends by itself after the number of seconds, with the
namespace, or when the block that holds it is left, whichever comes first. Source, SPI and nonce of each datagram are random where
nothing else is asked for, UDP checksums are right: wherever random octets go, their complement goes at the same distance from a
word's beginning, so that the sum stays what it was.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.rig.netns import Namespace

Address = IPv4Address | IPv6Address

RATE_MAX: Final = 200_000
SECONDS_MAX: Final = 900.0
POOL: Final = 256  # datagrams of one call of sendmmsg
FROM_PORT: Final = 500
HDRINCL: Final = {4: (socket.IPPROTO_IP, socket.IP_HDRINCL), 6: (socket.IPPROTO_IPV6, 36)}  # IPV6_HDRINCL: <linux/in6.h>
NON_ESP_MARKER: Final = bytes(4)
NAT_PORT: Final = 4500
COMPLEMENT: Final = bytes(range(255, -1, -1))
BEGINNING_S: Final = 10.0  # for the interpreter

KINDS: Final = ("init", "half-open", "cookie", "forged", "esp", "garbage")


# ---- what is sent ----------------------------------------------------------------------------------------------------------------


def _chain(parts: list[tuple[int, bytes]], spi_i: bytes, spi_r: bytes, exchange: int, flags: int, message_id: int) -> bytes:
    following = [kind for kind, _ in parts[1:]] + [0]
    payloads = b"".join(
        struct.pack("!BBH", then, 0, 4 + len(each)) + each for then, (_, each) in zip(following, parts, strict=True)
    )
    head = struct.pack("!BBBBII", parts[0][0], 0x20, exchange, flags, message_id, 28 + len(payloads))
    return spi_i + spi_r + head + payloads


def _proposal(transforms: Iterable[bytes]) -> bytes:
    bodies = list(transforms)
    joined = b"".join(
        struct.pack("!BBH", 3 if number < len(bodies) else 0, 0, 4 + len(each)) + each for number, each in enumerate(bodies, 1)
    )
    return struct.pack("!BBHBBBB", 0, 0, 8 + len(joined), 1, 1, 0, len(bodies)) + joined


# ENCR, PRF, INTEG, KE by number (RFC 7296 §3.3.2): single DES, which nobody takes, and what the gateways of these tests take.
REFUSED: Final = (struct.pack("!BxH", 1, 2), struct.pack("!BxH", 2, 1), struct.pack("!BxH", 3, 1), struct.pack("!BxH", 4, 14))
ACCEPTED: Final = (struct.pack("!BxHHH", 1, 20, 0x800E, 256), struct.pack("!BxH", 2, 5), struct.pack("!BxH", 4, 31))
SA, KE, NONCE, NOTIFY, ENCRYPTED = 33, 34, 40, 41, 46
COOKIE: Final = 16390
INIT, INFORMATIONAL = 34, 37
INITIATOR: Final = 8
NONCE_OCTETS: Final = 32


def _init(kind: str) -> bytes:
    accepted = kind == "half-open"
    value = struct.pack("!HH", 31, 0) + b"\x09" + bytes(31) if accepted else struct.pack("!HH", 14, 0) + os.urandom(256)
    parts = [(SA, _proposal(ACCEPTED if accepted else REFUSED)), (KE, value), (NONCE, bytes(NONCE_OCTETS))]
    if kind == "cookie":
        parts.insert(0, (NOTIFY, struct.pack("!BBH", 0, 0, COOKIE) + os.urandom(32)))
    return _chain(parts, bytes(8), bytes(8), INIT, INITIATOR, 0)


@dataclass(frozen=True)
class Payload:
    """What each UDP datagram holds; 8 octets at each of `fresh` are random, those at each of `balance` make up for them."""

    octets: bytes
    fresh: tuple[int, ...] = ()
    balance: tuple[int, ...] = ()


def payload_of(kind: str, port: int, spis: bytes = b"", message_id: int = 0, flags: int = INITIATOR) -> Payload:
    """`spis`: both, of the kind "forged", whose flags and message ID are given too."""
    marker = NON_ESP_MARKER if port == NAT_PORT else b""
    if kind in ("init", "half-open", "cookie"):
        message = marker + _init(kind)
        nonce = len(message) - NONCE_OCTETS
        return Payload(message, (len(marker),), (nonce + 8, nonce + 16, nonce + 24))
    if kind == "forged":
        sealed = [(ENCRYPTED, bytes(8) + os.urandom(24) + bytes(16))]
        message = marker + _chain(sealed, spis[:8], spis[8:], INFORMATIONAL, flags, message_id)
        return Payload(message, (len(marker) + 32,), (len(message) - 8, len(message) - 16))
    if kind == "esp":
        return Payload(struct.pack("!II", 0x77000000, 1) + os.urandom(88), (8,), (48, 56, 64))
    return Payload(bytes(8) + os.urandom(56), (0,), (16, 24, 32))


def _sum(octets: bytes) -> int:
    if len(octets) % 2:
        octets += b"\0"
    return sum(struct.unpack(f"!{len(octets) // 2}H", octets))


def packet_of(payload: Payload, source: Address, source_port: int, target: Address, port: int) -> bytes:
    """The whole IP packet; the kernel fills in the checksum of an IPv4 header."""
    udp = struct.pack("!HHHH", source_port, port, 8 + len(payload.octets), 0)
    total = _sum(source.packed + target.packed) + socket.IPPROTO_UDP + 2 * (8 + len(payload.octets)) - 8 - len(payload.octets)
    total += _sum(udp + payload.octets)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    udp = udp[:6] + struct.pack("!H", (~total & 0xFFFF) or 0xFFFF)
    octets = len(udp) + len(payload.octets)
    if target.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + octets, 0, 0, 64, socket.IPPROTO_UDP, 0) + source.packed + target.packed
    else:
        head = struct.pack("!IHBB", 6 << 28, octets, socket.IPPROTO_UDP, 64) + source.packed + target.packed
    return head + udp + payload.octets


# ---- sending ---------------------------------------------------------------------------------------------------------------------


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("octets", ctypes.c_size_t))


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_octets", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_octets", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint64),  # and what aligns it
    )


class Sender:
    """POOL packets of one form behind each other, sent by one call, made anew before each."""

    def __init__(self, packet: bytes, target: Address, fresh: Iterable[tuple[int, int]]) -> None:
        """`fresh`: where each random octet goes, and where its complement."""
        self._stride = len(packet)
        self._octets = bytearray(packet * POOL)
        self._fresh = tuple(fresh)
        self._libc = ctypes.CDLL(None, use_errno=True)
        family = socket.AF_INET if target.version == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._socket.setsockopt(*HDRINCL[target.version], 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        behind = target.packed + bytes(8) if target.version == 4 else bytes(4) + target.packed + bytes(4)
        name = struct.pack("=HH", family, 0) + behind  # struct sockaddr_in or sockaddr_in6
        self._name = ctypes.create_string_buffer(name, len(name))
        self._area = (ctypes.c_char * len(self._octets)).from_buffer(self._octets)
        base = ctypes.addressof(self._area)
        self._vector = (_Iovec * POOL)(*(_Iovec(base + number * self._stride, self._stride) for number in range(POOL)))
        self._messages = (_Message * POOL)(
            *(
                _Message(ctypes.addressof(self._name), len(name), ctypes.addressof(self._vector[number]), 1, None, 0, 0, 0)
                for number in range(POOL)
            )
        )

    def send(self, count: int) -> int:
        """Sends so many; how many left, of what the kernel took."""
        for at, opposite in self._fresh:
            column = os.urandom(POOL)
            self._octets[at :: self._stride] = column
            self._octets[opposite :: self._stride] = column.translate(COMPLEMENT)
        sent = lost = 0
        while sent + lost < count:
            of = ctypes.addressof(self._messages) + (sent + lost) * ctypes.sizeof(_Message)
            done = self._libc.sendmmsg(self._socket.fileno(), ctypes.c_void_p(of), count - sent - lost, 0)
            sent, lost = sent + max(done, 0), lost + (done <= 0)  # a full queue: this datagram is lost
        return sent


def sender_of(payload: Payload, source: Address | None, source_port: int, target: Address, port: int) -> Sender:
    """`source` None: another one for each datagram, of a large part of the unicast range, so that hardly a network comes twice."""
    head, first = (20, 12) if target.version == 4 else (40, 8)
    chosen = bytearray((source or ip_address("20.0.0.0" if target.version == 4 else "2a00::")).packed)
    octets, balance, pairs = bytearray(payload.octets), list(payload.balance), list[tuple[int, int]]()

    def vary(area: bytearray, begin: int, count: int, offset: int) -> None:
        opposite = balance.pop(0)
        opposite += (offset + begin + head + 8 + opposite) % 2  # an octet weighs 256 or 1 in the sum
        area[begin : begin + count], octets[opposite : opposite + count] = bytes(count), b"\xff" * count
        pairs.extend((offset + begin + step, head + 8 + opposite + step) for step in range(count))

    if source is None:
        for begin, count in ((1, 3),) if target.version == 4 else ((1, 7), (8, 7)):
            vary(chosen, begin, count, first)
    for begin in payload.fresh:
        vary(octets, begin, 7, head + 8)
    packet = packet_of(Payload(bytes(octets)), ip_address(bytes(chosen)), source_port, target, port)
    return Sender(packet, target, pairs)


def run(sender: Sender, rate: float, seconds: float) -> int:
    """Sends at a pace, and catches up with what it missed by a pool at the most."""
    began, sent, lost = time.monotonic(), 0, 0
    while (now := time.monotonic() - began) < seconds:
        due = int(now * rate) - sent - lost
        if due <= 0:
            time.sleep(0.001)
            continue
        count = min(due, POOL)
        lost += max(due - 4 * POOL, 0)
        done = sender.send(count)
        sent, lost = sent + done, lost + count - done
    return sent


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("target")
    options.add_argument("port", type=int)
    options.add_argument("kind", choices=KINDS)
    options.add_argument("rate", type=float)
    options.add_argument("seconds", type=float)
    options.add_argument("--source")
    options.add_argument("--source-port", type=int, default=FROM_PORT)
    options.add_argument("--spis", default="")
    options.add_argument("--message-id", type=int, default=0)
    options.add_argument("--flags", type=int, default=INITIATOR)
    asked = options.parse_args()
    payload = payload_of(asked.kind, asked.port, bytes.fromhex(asked.spis), asked.message_id, asked.flags)
    source = None if asked.source is None else ip_address(asked.source)
    sender = sender_of(payload, source, asked.source_port, ip_address(asked.target), asked.port)
    print("sending", flush=True)
    print(run(sender, min(asked.rate, RATE_MAX), min(asked.seconds, SECONDS_MAX)), flush=True)


# ---- for tests -------------------------------------------------------------------------------------------------------------------


class Flood:
    """Datagrams on their way while the block runs; `sent` is how many, once it was left."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(BEGINNING_S)

    def wait(self, timeout: float) -> int:
        """To its end; how many were sent."""
        output, _ = self._process.communicate(timeout=timeout)
        self.sent = int(output)
        return self.sent


def flood(
    namespace: Namespace,
    target: str,
    rate: float,
    seconds: float,
    kind: str = "init",
    source: str | None = None,
    *,
    port: int = FROM_PORT,
    source_port: int = FROM_PORT,
    spis: bytes = b"",
    message_id: int = 0,
    flags: int = INITIATOR,
) -> Flood:
    """Sends UDP datagrams from a namespace to port `port` of `target`: `rate` a second for `seconds`. It is under way on return.

    `kind`: one of KINDS: "init" (IKE_SA_INIT with a proposal that nobody takes), "half-open" (one that is answered), "cookie" (init
    with a wrong COOKIE), "forged" (INFORMATIONAL of the IKE SA with `spis`, its ICV wrong), "esp" (of an unknown SPI), "garbage".
    `source`: None: a random address for each. Leave the block, or `wait`.
    """
    arguments = [target, str(port), kind, str(rate), str(seconds), "--source-port", str(source_port)]
    arguments += ["--source", source] if source else []
    arguments += ["--spis", spis.hex(), "--message-id", str(message_id), "--flags", str(flags)] if spis else []
    process = namespace.spawn(sys.executable, str(Path(__file__).resolve()), *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"sending\n":
        raise RuntimeError(f"the flood did not begin: {' '.join(arguments)}")
    return Flood(process)


if __name__ == "__main__":
    main()
