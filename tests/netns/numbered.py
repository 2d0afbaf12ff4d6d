"""Streams of numbered datagrams between two namespaces, of which every one that does not arrive is known."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipsec_dp.rig.netns import Namespace

    Place = tuple[str, int]  # address and port

NUMBER = struct.Struct("!Q")
RECEIVE_OCTETS = 1 << 22
LATE_S = 5.0  # how long whoever forwards may stand still at the end, on a machine with other things to do
FLOWS_LATE_S = 10.0  # the same where several workers, and a thread for each flow, want a processor
GAP_S = 0.0004  # between two batches
BATCH = 4  # packets of one flow in one go, so that aggregates come about
PADDING = bytes(996)

Flow = TypeVar("Flow")


class Numbered:
    """What was sent and what arrived, by number."""

    def __init__(self) -> None:
        self.sent = 0
        self.refused = 0  # by the sending kernel
        self.arrived: set[int] = set()
        self.repeated = 0
        self._over, self._all_sent = threading.Event(), threading.Event()

    def lost(self) -> list[int]:
        """Numbers that were sent and did not arrive."""
        return sorted(set(range(self.sent)) - self.arrived)

    def send(self, sender: socket.socket, to: tuple[str, int], pause_s: float) -> None:
        while not self._over.is_set():
            try:
                sender.sendto(NUMBER.pack(self.sent), to)
            except OSError:
                self.refused += 1
            self.sent += 1
            time.sleep(pause_s)
        self._all_sent.set()

    def receive(self, receiver: socket.socket) -> None:
        last = time.monotonic()
        while True:
            try:
                (number,) = NUMBER.unpack(receiver.recv(64))
            except TimeoutError:
                whole = len(self.arrived) == self.sent - self.refused
                if self._all_sent.is_set() and (whole or time.monotonic() - last > LATE_S):
                    return
                continue
            last = time.monotonic()
            self.repeated += number in self.arrived
            self.arrived.add(number)

    def stop(self) -> None:
        self._over.set()


@contextmanager
def numbered(near: Namespace, far: Namespace, address: str, *, port: int = 7100, pause_s: float = 0.002) -> Iterator[Numbered]:
    """About 500 datagrams a second while the block runs; afterwards all that will come has come."""
    stream = Numbered()

    def bound() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)
        made.bind((address, port))
        made.settimeout(0.3)
        return made

    with far.call(bound) as receiver, near.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        threads = [
            threading.Thread(target=stream.receive, args=(receiver,), daemon=True),
            threading.Thread(target=stream.send, args=(sender, (address, port), pause_s), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield stream
        finally:
            stream.stop()
            for thread in threads:
                thread.join(2 * LATE_S)


def bound(to: Place) -> socket.socket:
    """A socket of a flow, in whatever namespace calls."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)
    made.settimeout(0.5)
    made.bind(to)
    return made


class Flowing(Generic[Flow]):
    """By flow, how many were sent, and the numbers in the order of arrival."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self.sent: dict[Flow, int] = dict.fromkeys(flows, 0)
        self.arrived: dict[Flow, list[int]] = {flow: [] for flow in self.sent}
        self.all_sent = threading.Event()

    @property
    def least(self) -> int:
        """How many arrived of each."""
        return min(map(len, self.arrived.values()))

    def expect_whole(self) -> None:
        """Each number once, and in order."""
        assert {flow: list(range(count)) for flow, count in self.sent.items()} == self.arrived


@contextmanager
def flowing(
    near: Namespace, far: Namespace, flows: Mapping[Flow, tuple[str, Place]], *, window: int, seconds: float = inf
) -> Iterator[Flowing[Flow]]:
    """A stream of each flow at once while the block runs, for `seconds` at the most, from an address to a place; afterwards all
    that will come has come. `window`: packets of one flow that are on their way at the most, as much as the hosts carry, so that no
    queue overflows."""
    stream, over = Flowing(flows), threading.Event()
    sent, arrived = stream.sent, stream.arrived

    def receive(flow: Flow) -> None:
        last = time.monotonic()
        while True:
            try:
                arrived[flow].append(NUMBER.unpack(receivers[flow].recv(2048)[: NUMBER.size])[0])
                last = time.monotonic()
            except TimeoutError:
                whole = len(arrived[flow]) == sent[flow]
                if stream.all_sent.is_set() and over.is_set() and (whole or time.monotonic() - last > FLOWS_LATE_S):
                    return

    def send() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not over.wait(GAP_S):
            for flow, (_, place) in flows.items():
                if sent[flow] - len(arrived[flow]) > window:
                    continue
                for _ in range(BATCH):
                    senders[flow].sendto(NUMBER.pack(sent[flow]) + PADDING, place)
                    sent[flow] += 1
        stream.all_sent.set()

    with ExitStack() as stack:
        receivers = {flow: stack.enter_context(far.call(partial(bound, place))) for flow, (_, place) in flows.items()}
        senders = {flow: stack.enter_context(near.call(partial(bound, (source, 0)))) for flow, (source, _) in flows.items()}
        sending = threading.Thread(target=send, daemon=True)
        threads = [sending, *(threading.Thread(target=receive, args=(flow,), daemon=True) for flow in flows)]
        for thread in threads:
            thread.start()
        try:
            yield stream
        finally:
            over.set()
            for thread in threads:
                thread.join()


def numbered_flows(
    near: Namespace, far: Namespace, source: str, flows: Mapping[Flow, Place], *, window: int, seconds: float
) -> tuple[dict[Flow, int], dict[Flow, list[int]]]:
    """`flowing` for so long: what was sent, and the numbers in the order of arrival."""
    with flowing(near, far, {flow: (source, place) for flow, place in flows.items()}, window=window, seconds=seconds) as stream:
        stream.all_sent.wait()
    return stream.sent, stream.arrived
