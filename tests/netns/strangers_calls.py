"""How long a gateway takes to answer IKE, asked over and over: requests that are refused at once, so that they leave nothing."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Self

from ipsec_dp.ike.v2.wire import IKE_HEADER, IKE_SPI, MAJOR_VERSION, ExchangeType, Flag, PayloadType

if TYPE_CHECKING:
    from ipsec_dp.rig.netns import Namespace

PAUSE_S = 0.01
ANSWER_S = 30.0
IKE_PORT = 500


def refused_request(spi: bytes) -> bytes:
    """IKE_SA_INIT that proposes single DES (RFC 7296 §3.3.2), which is answered by NO_PROPOSAL_CHOSEN without any state kept."""
    transforms = [(1, 2), (2, 1), (3, 1), (4, 14)]
    body = b"".join(
        struct.pack("!BBHBBH", 3 if number < len(transforms) else 0, 0, 8, kind, 0, value)
        for number, (kind, value) in enumerate(transforms, 1)
    )
    proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(body), 1, 1, 0, len(transforms)) + body
    parts = [
        (PayloadType.SA, proposal),
        (PayloadType.KE, struct.pack("!HH", 14, 0) + os.urandom(256)),
        (PayloadType.NONCE, os.urandom(32)),
    ]
    kinds = [int(kind) for kind, _ in parts[1:]] + [0]
    payloads = b"".join(struct.pack("!BBH", then, 0, 4 + len(each)) + each for then, (_, each) in zip(kinds, parts, strict=True))
    octets = IKE_HEADER + len(payloads)
    head = struct.pack("!BBBBII", parts[0][0], MAJOR_VERSION << 4, ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0, octets)
    return spi + bytes(IKE_SPI) + head + payloads


class IkeDelays:
    """While the block runs, asks from `near` at `address`; each `took` is from a request to its answer, in s."""

    def __init__(self, near: Namespace, address: str) -> None:
        self._near, self._to = near, (address, IKE_PORT)
        self.took: list[float] = []
        self._over = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def longest(self) -> float:
        return max(self.took)

    def _run(self) -> None:
        try:
            with self._near.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
                while not self._over.is_set():
                    self.took.append(self._ask(asking))
                    time.sleep(PAUSE_S)
        except BaseException as error:  # noqa: BLE001 - raised when the block ends
            self._failed = error

    def _ask(self, asking: socket.socket) -> float:
        spi = os.urandom(IKE_SPI)
        request = refused_request(spi)
        began = time.monotonic()
        asking.sendto(request, self._to)
        while select.select([asking], [], [], ANSWER_S)[0]:
            if asking.recv(4096)[:IKE_SPI] == spi:
                return time.monotonic() - began
        raise TimeoutError(f"no answer to an IKE request within {ANSWER_S} s")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(ANSWER_S + 1)
        if self._failed is not None:
            raise self._failed
