"""What an `OddPeer` sends and receives datagrams by: two UDP sockets of this host, or whatever a test puts in their place."""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol, Self

from ipsec_dp.ike.actions import IKE_PORT, NATT_PORT, Endpoint, Path

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST: Final = 65_535


class UnreachableError(Exception):
    """Nobody can be reached there, or nobody answers; its text says what to do."""


@dataclass(frozen=True, slots=True)
class UdpPayload:
    """The payload of one UDP datagram. `natt`: it goes or came over the port that ESP uses."""

    octets: bytes
    natt: bool


class OddWire(Protocol):
    """Both ports of one peer. Times are seconds."""

    @property
    def path(self) -> Path:
        """Our end and the peer's, as both stand in NAT detection."""

    def now(self) -> float:
        """Never goes back."""

    def pace(self) -> None:
        """Waits until a further datagram that proves nothing may go."""

    def send(self, octets: bytes, *, natt: bool) -> None:
        """One datagram to the peer; UnreachableError when this host cannot."""

    def receive(self, seconds: float) -> UdpPayload | None:
        """The next datagram of the peer, None when none came for so long."""

    def move(self) -> None:
        """From now on other ports of ours send and receive, as behind a NAT that has forgotten us."""

    def close(self) -> None:
        """Nothing is sent or received any more."""


class UdpWire:
    """Sockets to `host`, the peer's `ports` (IKE, and IKE with ESP), from `source` ports, 0 being any that is free.

    `rate`: datagrams a second that prove nothing. A context manager. UnreachableError from all of it.
    """

    def __init__(
        self, host: str, ports: tuple[int, int] = (IKE_PORT, NATT_PORT), source: tuple[int, int] = (0, 0), rate: float = 5.0
    ) -> None:
        try:
            found = socket.getaddrinfo(host, ports[0], type=socket.SOCK_DGRAM)[0]
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"{host}: no address of that name ({error}); write an address") from error
        self._host, self._family, self._ports = str(found[4][0]), found[0], ports
        self._every, self._next = 1 / rate, 0.0
        self._selector = selectors.DefaultSelector()
        self._sockets = self._opened(source)
        address, port, *_ = self._sockets[0].getsockname()
        self._path = Path(Endpoint(ip_address(address), port), Endpoint(ip_address(self._host), ports[0]))

    def _opened(self, source: Sequence[int]) -> list[socket.socket]:
        made: list[socket.socket] = []
        for port, bound in zip(self._ports, source, strict=True):
            made.append(socket.socket(self._family, socket.SOCK_DGRAM))
            try:
                made[-1].bind(("", bound))
                made[-1].connect((self._host, port))
            except OSError as error:
                for each in made:
                    each.close()
                what = f"cannot send from port {bound or 'any'} to {self._host} port {port}: {error.strerror}"
                raise UnreachableError(f"{what}; is there a route, and is the port free?") from error
        for natt, each in enumerate(made):
            self._selector.register(each, selectors.EVENT_READ, bool(natt))
        return made

    @property
    def path(self) -> Path:
        return self._path

    def now(self) -> float:
        return time.monotonic()

    def pace(self) -> None:
        time.sleep(max(self._next - time.monotonic(), 0.0))
        self._next = time.monotonic() + self._every

    def send(self, octets: bytes, *, natt: bool) -> None:
        try:
            self._sockets[natt].send(octets)
        except OSError as error:
            what = f"{self._host} port {self._ports[natt]}: {error.strerror}"
            raise UnreachableError(f"{what}; is the gateway up, and is there a route to it?") from error

    def receive(self, seconds: float) -> UdpPayload | None:
        for key, _ in self._selector.select(max(seconds, 0.0)):
            port = self._ports[key.data]
            try:
                return UdpPayload(self._sockets[key.data].recv(MOST), key.data)
            except OSError as error:
                what = f"{self._host} port {port}: {error.strerror}"
                raise UnreachableError(f"{what}; is the gateway up, and does a firewall let us through?") from error
        return None

    def move(self) -> None:
        self._shut()
        self._sockets = self._opened((0, 0))

    def _shut(self) -> None:
        for each in self._sockets:
            self._selector.unregister(each)
            each.close()
        self._sockets = []

    def close(self) -> None:
        self._shut()
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
