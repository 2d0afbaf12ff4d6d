"""A stream of numbered datagrams between two namespaces, of which every one that does not arrive is known."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import Namespace

NUMBER = struct.Struct("!Q")
RECEIVE_OCTETS = 1 << 22
LATE_S = 3.0  # how long whoever forwards may stand still at the end, on a machine with other things to do


class Numbered:
    """What was sent and what arrived, by number."""

    def __init__(self) -> None:
        self.sent = 0
        self.refused = 0  # by the sending kernel
        self.arrived: set[int] = set()
        self.repeated = 0
        self._over = threading.Event()

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

    def receive(self, receiver: socket.socket) -> None:
        last = time.monotonic()
        while True:
            try:
                (number,) = NUMBER.unpack(receiver.recv(64))
            except TimeoutError:
                if self._over.is_set() and (len(self.arrived) == self.sent - self.refused or time.monotonic() - last > LATE_S):
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
                thread.join(10.0)
