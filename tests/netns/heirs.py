"""A data plane with one tunnel that goes from process to process, with its descriptors and its SAs, over a socket pair.

As a program (`python -m tests.netns.heirs DESCRIPTOR`): takes one from the socket pair, gives it back when it is asked, and again.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from ipaddress import ip_address

import msgspec

from ipsec_dp.databases.carried_sas import CarriedSad, records_of
from ipsec_dp.databases.sad import Sad
from ipsec_dp.dataplane import (
    Action,
    DataPlane,
    Df,
    Direction,
    Encapsulation,
    Endpoint,
    Offload,
    OuterPath,
    Policy,
    PolicyRule,
    SaParams,
)
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.plane import keymat, selector

SUITE = parse_suite("aes128gcm16-esn")
OUTER = {"a": "192.0.2.1", "b": "192.0.2.2"}
INNER = {"a": "10.1.0.1", "b": "10.2.0.1"}
SPI = {"a": 0x1001, "b": 0x1002}  # by receiver
PORT = 4500
NS_PER_MS = 1e6
LENGTH = struct.Struct("!I")
GIVE, END = b"give", b"end!"  # what the program is asked


class Tunnel:
    """One side's data plane, its threads running, and the descriptors that are not its own."""

    def __init__(self, side: str, tun: int, outer: int, *, on: tuple[Offload, Offload] | None = None) -> None:
        self.side, self.tun, self.outer = side, tun, outer
        self.plane = DataPlane(sa_slots=256, tunnels=1, interfaces=1)
        self.sad = Sad(self.plane, lambda: time.clock_gettime(time.CLOCK_BOOTTIME), os.urandom)
        far = "b" if side == "a" else "a"
        selectors = (selector(f"{INNER[side]}/32", f"{INNER[far]}/32"),)
        self.plane.install_policy(Policy(tuple(PolicyRule(each, Action.PROTECT, 0, 0) for each in selectors)))
        here, there = (Endpoint(ip_address(OUTER[each]), PORT) for each in (side, far))
        if on is not None:
            self.plane.pause_receiving()
        self.plane.attach_tun(0, tun, on=None if on is None else on[0])
        link = self.plane.attach_link(Encapsulation.UDP, here, outer, Df.SET, on=None if on is None else on[1])
        self._selectors, self._far, self._path = selectors, far, OuterPath(here, there, Encapsulation.UDP, link)
        self.plane.start()

    @property
    def on(self) -> tuple[Offload, Offload]:
        return self.plane.tun_offloads(0), self.plane.link_offloads(0)

    def install(self, *, carried: bool = False) -> None:
        """Both SAs, their keys those of the test; those that are carried wait for theirs."""
        child = self.sad.add_child(0, self._selectors)

        def params(direction: Direction, receiver: str, **more: object) -> SaParams:
            key = b"" if carried else keymat(SUITE, f"to {receiver}")
            values: dict[str, object] = {"direction": direction, "spi": SPI[receiver], "suite": SUITE, "keymat": key, "tunnel": 0}
            return SaParams(**values, **more)  # type: ignore[arg-type]

        inbound = self.sad.install(params(Direction.INBOUND, self.side, interface=0, selectors=self._selectors))
        self.sad.switch(child, self.sad.install(params(Direction.OUTBOUND, self._far, path=self._path)), inbound)

    def carried_of(self) -> dict[str, int]:
        """Packets by direction, and drops by reason."""
        packets = {record.direction.name: self.sad.read(record.handle).packets for record in self.sad.records.values()}
        return packets | {reason: count for reason, count in self.plane.counters().drops.items() if count}


def send_message(channel: socket.socket, octets: bytes) -> None:
    channel.sendall(LENGTH.pack(len(octets)) + octets)


def read_message(channel: socket.socket) -> bytes:
    def exactly(count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = channel.recv(count - len(got))
            if not piece:
                raise EOFError("the other process has gone")
            got += piece
        return got

    (length,) = LENGTH.unpack(exactly(LENGTH.size))
    return exactly(length)


def give(tunnel: Tunnel, channel: socket.socket) -> float:
    """Hands a tunnel over, and is not needed any more. How long nobody forwarded, in ms."""
    head = msgspec.msgpack.encode((tunnel.side, *(int(each) for each in tunnel.on)))
    socket.send_fds(channel, [LENGTH.pack(len(head)) + head], [tunnel.tun, tunnel.outer])
    assert read_message(channel) == b"ready"
    begun = time.monotonic_ns()
    tunnel.plane.pause_receiving()
    while not tunnel.plane.is_idle():
        os.sched_yield()
    while (carried := _exported(tunnel)) is None:
        os.sched_yield()
    send_message(channel, msgspec.msgpack.encode((carried, tunnel.plane.counters().drops)))
    assert read_message(channel) == b"goes on"
    gap = (time.monotonic_ns() - begun) / NS_PER_MS
    tunnel.plane.close()
    return gap


def _exported(tunnel: Tunnel) -> CarriedSad | None:
    try:
        return tunnel.sad.export()
    except DataPlaneError:
        return None


def take(channel: socket.socket) -> Tunnel:
    """The other side of `give`: ready while the other one forwards, and then in its place."""
    head, descriptors, *_ = socket.recv_fds(channel, 4096, 2)
    (length,) = LENGTH.unpack(head[: LENGTH.size])
    side, *on = msgspec.msgpack.decode(head[LENGTH.size : LENGTH.size + length], type=tuple[str, int, int])
    tunnel = Tunnel(side, *descriptors, on=(Offload(on[0]), Offload(on[1])))
    send_message(channel, b"ready")
    carried, drops = msgspec.msgpack.decode(read_message(channel), type=tuple[CarriedSad, dict[str, int]])
    with tunnel.sad.awaiting():
        tunnel.install(carried=True)
    ours = {record.direction: handle for handle, record in tunnel.sad.records.items()}
    while not tunnel.plane.is_idle():
        os.sched_yield()
    sources = {each.handle: ours[Direction(each.sa.direction)] for each in carried.sas}
    assert tunnel.sad.import_all(records_of(carried), sources) == ((), (), ())
    tunnel.plane.resume_receiving()
    send_message(channel, b"goes on")
    assert not any(drops.values()), drops
    return tunnel


def main() -> None:
    """Takes a tunnel, and gives it back, until it is to end."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    while True:
        tunnel = take(channel)
        if read_message(channel) == END:
            return
        give(tunnel, channel)


if __name__ == "__main__":
    main()
