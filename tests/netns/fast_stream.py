"""Streams between two namespaces that go on until they are told to end: numbered UDP as fast as a bar wants it, and a connection.

The UDP is benchmarks/gen.c's, so that this process computes nothing for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.tunnels import generator
from tests.netns import harness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import Namespace

OCTETS = 1400  # of each IPv4 packet
MOST_S = 600.0  # after which a sender ends by itself
SILENCE_S = 0.5  # after which nothing is on its way any more
PATIENCE_S = 30.0
BLOCK = secrets.token_bytes(16 << 10)
PAUSE_S = 0.005


@dataclass
class FastStream:
    """What became of it, once the block has ended."""

    sent: int = 0
    received: int = 0
    duplicates: int = 0
    seconds: float = 0.0

    @property
    def missing(self) -> int:
        return self.sent - self.received

    @property
    def mbit_per_s(self) -> float:
        return self.sent * OCTETS * 8 / self.seconds / 1e6


@contextmanager
def fast_stream(near: Namespace, far: Namespace, address: str, packets_per_s: int, *, port: int = 5001) -> Iterator[FastStream]:
    """While the block runs; afterwards all that will come has come."""
    generator.build()
    program, run, most = str(generator.PROGRAM), str(secrets.randbits(63)), str(int(packets_per_s * MOST_S))
    pipe, made = subprocess.PIPE, FastStream()
    with far.spawn(program, "receive", str(port), most, most, run, stdout=pipe, stderr=pipe) as receiver:
        try:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == b"ready\n"
            load = str(OCTETS), str(packets_per_s), f"{MOST_S:g}", "1", run
            with near.spawn(program, "send", address, str(port), *load, stdout=pipe, stderr=pipe) as sender:
                try:
                    yield made
                finally:
                    sender.terminate()
                    sent = json.loads(sender.communicate(timeout=PATIENCE_S)[0])
            harness.settle(far, "eth0", SILENCE_S)
        finally:
            receiver.terminate()
            received = json.loads(receiver.communicate(timeout=PATIENCE_S)[0])
    made.sent, made.seconds = sent["sent"], sent["seconds"]
    made.received, made.duplicates = received["received"], received["duplicates"]


class Connection:
    """What was sent and what arrived on it, by their digests: the same, once the block has ended, unless it stood still."""

    def __init__(self) -> None:
        self.sent, self.arrived = hashlib.sha256(), hashlib.sha256()
        self.octets = 0  # that were sent
        self._over = threading.Event()

    @property
    def is_whole(self) -> bool:
        return self.octets > 0 and self.sent.digest() == self.arrived.digest()

    def send(self, sender: socket.socket) -> None:
        with contextlib.suppress(TimeoutError):
            while not self._over.is_set():
                sender.sendall(BLOCK)
                self.sent.update(BLOCK)
                self.octets += len(BLOCK)
                time.sleep(PAUSE_S)
        sender.shutdown(socket.SHUT_WR)

    def receive(self, listener: socket.socket) -> None:
        with contextlib.suppress(TimeoutError):
            receiver, _ = listener.accept()
            with receiver:
                receiver.settimeout(PATIENCE_S)
                while octets := receiver.recv(1 << 18):
                    self.arrived.update(octets)

    def stop(self) -> None:
        self._over.set()


def _connected(to: tuple[str, int], segment: int | None) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(PATIENCE_S)
    if segment is not None:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
    made.connect(to)
    return made


@contextmanager
def connection(
    near: Namespace, far: Namespace, address: str, *, port: int = 7200, segment: int | None = None
) -> Iterator[Connection]:
    """TCP on which about 25 Mb/s go while the block runs; afterwards all that will arrive has arrived. `segment`: octets at the
    most, where they are to be told from others."""
    made = Connection()
    with far.call(lambda: socket.create_server((address, port))) as listener:
        listener.settimeout(PATIENCE_S)
        receiving = threading.Thread(target=made.receive, args=(listener,), daemon=True)
        receiving.start()
        with near.call(lambda: _connected((address, port), segment)) as sender:
            sending = threading.Thread(target=made.send, args=(sender,), daemon=True)
            sending.start()
            try:
                yield made
            finally:
                made.stop()
                for thread in (sending, receiving):
                    thread.join(2 * PATIENCE_S)
