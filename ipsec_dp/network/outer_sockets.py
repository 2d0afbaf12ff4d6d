"""The outer sockets of this gateway: opened at their first use, shared by all tunnels of a local address.

ESP belongs to the data plane, which has duplicates of the descriptors; IKE messages leave by the same UDP sockets (RFC 3948 §2.2:
behind four zero octets on the port that ESP uses) or by port 500.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ipsec_dp.dataplane import Df, Encapsulation, Endpoint
from ipsec_dp.host import HostError, sockets
from ipsec_dp.host.steering import Steering
from ipsec_dp.network.inheritance import InheritedLink
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ipsec_dp.config import Config
    from ipsec_dp.dataplane import DataPlane, Offload
    from ipsec_dp.host.sockets import OuterSockets
    from ipsec_dp.ipsec.addresses import Address

log = logging.getLogger(__name__)

NON_ESP_MARKER = bytes(4)
MESSAGES_AT_ONCE = 64  # before the rest of the control plane has its turn


@dataclass(frozen=True)
class _Opened:
    """Sockets that are open together, how they are opened, and what closes them."""

    sockets: tuple[socket.socket, ...]
    open_into: Callable[[ExitStack], Sequence[socket.socket]]
    stack: ExitStack


@dataclass(frozen=True, slots=True)
class _Inherited:
    """Of another process, in order: those that receive, then the one that sends."""

    link: InheritedLink
    sockets: tuple[socket.socket, ...]

    @property
    def pair(self) -> OuterSockets:
        return sockets.OuterSockets(self.link.address, self.link.port, self.sockets[:-1], self.sockets[-1])


class SocketLinks:
    """`network.host.OuterLinks` by sockets of the calling thread's network namespace."""

    def __init__(self, plane: DataPlane, buffer: int = sockets.BUFFER_OCTETS) -> None:
        """`buffer`: octets of each socket's receive buffer, and of its send buffer."""
        self._plane, self._buffer = plane, buffer
        self._listeners: dict[int, tuple[Endpoint, Callable[[bytes, Endpoint, Endpoint], None]]] = {}  # by number of the socket
        self._links: dict[tuple[Address, Encapsulation], int] = {}
        self._pairs: dict[Address, OuterSockets] = {}
        self._link_sockets: dict[tuple[Address, Encapsulation], OuterSockets] = {}
        self._ike: dict[Address, socket.socket] = {}
        self._opened: dict[str, _Opened] = {}  # by what they are, in order
        self._inherited: dict[tuple[Address, Encapsulation | None], _Inherited] = {}  # and not in use yet

    def close(self) -> None:
        if self._ike:
            asyncio.get_running_loop().remove_reader(self._plane.ike_descriptor())
        for each in reversed(self._opened.values()):
            each.stack.close()
        self._opened.clear()
        for unused in self._inherited.values():
            for one in unused.sockets:
                one.close()
        self._inherited.clear()

    # ---- buffers

    def reconfigure(self, config: Config) -> None:
        """As `OuterLinks`. A smaller buffer drops nothing that is in it."""
        if config.socket_buffer == self._buffer:
            return
        self._buffer = config.socket_buffer
        for opened in self._opened.values():
            for each in opened.sockets:
                with suppress(OSError):  # it is broken, and opened anew
                    sockets.set_buffers(each, self._buffer)

    @property
    def buffers(self) -> tuple[int, int] | None:
        with suppress(OSError):  # one is closed
            return sockets.buffers(each for opened in self._opened.values() for each in opened.sockets)
        return None

    # ---- from another process, and to one

    def inherited(self, descriptor: Callable[[int], int]) -> list[InheritedLink]:
        """All of them as they are. `descriptor` gives the place of one in what is handed over. HostError: one is closed."""
        if broken := self.broken():
            what, why = next(iter(broken.items()))
            raise HostError(f"the outer socket {what} {why}")
        plane, found = self._plane, []
        for (local, encapsulation), number in self._links.items():
            pair = self._link_sockets[local, encapsulation]
            found.append(
                InheritedLink(
                    local=str(local),
                    port=pair.port,
                    encapsulation=int(encapsulation),
                    receivers=[descriptor(each.fileno()) for each in pair.receivers],
                    other=descriptor(pair.other.fileno()),
                    on=[int(plane.link_offloads(number, worker)) for worker in range(plane.workers)],
                )
            )
        found += [
            InheritedLink(local=str(local), port=sockets.IKE_PORT, encapsulation=None, receivers=[descriptor(each.fileno())])
            for local, each in self._ike.items()
        ]
        return found

    def take(self, links: Iterable[InheritedLink], taken: Callable[[int], int]) -> None:
        """What is opened of these from now on is not opened anew. `taken` gives the descriptor of a place."""
        for each in links:
            places = [*each.receivers, *([] if each.encapsulation is None else [each.other])]
            made = tuple(socket.socket(fileno=taken(place)) for place in places)
            for one in made:
                one.setblocking(False)
            self._inherited[each.key] = _Inherited(each, made)

    def open_taken(self) -> None:
        """The links among them. HostError, DataPlaneError."""
        for (local, encapsulation), each in tuple(self._inherited.items()):
            if encapsulation is not None:
                self.link(Endpoint(local, each.link.port), encapsulation)

    @property
    def taken_ike(self) -> list[Address]:
        """The addresses whose port 500 was taken and is not listened at yet."""
        return [local for local, encapsulation in self._inherited if encapsulation is None]

    def _open(self, what: str, open_into: Callable[[ExitStack], Sequence[socket.socket]]) -> None:
        with ExitStack() as stack:
            opened = _Opened(tuple(open_into(stack)), open_into, stack.pop_all())
        self._opened[what] = opened

    def broken(self) -> dict[str, str]:
        """As `OuterLinks`."""
        wrong = {what: sockets.trouble(opened.sockets) for what, opened in self._opened.items()}
        return {what: text for what, text in wrong.items() if text is not None}

    def reopen(self, what: str) -> None:
        """As `OuterLinks`. A link keeps its number, so that SAs send by it as before."""
        opened = self._opened[what]
        opened.stack.close()  # first, or its port would be taken
        self._plane.reclaim()  # whose own descriptors of it are open until its loops let go
        self._opened[what] = replace(opened, sockets=())
        self._open(what, opened.open_into)

    def unavailable(self, encapsulation: Encapsulation) -> str | None:
        return sockets.no_esp() if encapsulation is Encapsulation.ESP else None

    def number(self, local: Address, encapsulation: Encapsulation) -> int | None:
        """Of the link of an address; None: none is open."""
        return self._links.get((local, encapsulation))

    def link(self, local: Endpoint, encapsulation: Encapsulation) -> int:
        key = local.address, encapsulation
        if key not in self._links:
            udp = encapsulation is Encapsulation.UDP
            what = f"UDP port {local.port} of {local.address}" if udp else f"IP protocol 50 of {local.address}"
            self._open(what, partial(self._open_link, local, encapsulation))
        return self._links[key]

    def _open_link(self, local: Endpoint, encapsulation: Encapsulation, stack: ExitStack) -> Sequence[socket.socket]:
        udp = encapsulation is Encapsulation.UDP
        steering = Steering(self._plane.workers, self._plane.sa_slots)
        make = partial(sockets.udp_pair, port=local.port) if udp else sockets.esp_pair
        kept = self._inherited.pop((local.address, encapsulation), None)
        pair = make(local.address, buffer=self._buffer, steering=steering) if kept is None else kept.pair
        stack.callback(pair.close)
        number = self._attach(encapsulation, local, pair, stack, None if kept is None else kept.link.offloads)
        self._link_sockets[local.address, encapsulation] = pair
        if self._links.setdefault((local.address, encapsulation), number) != number:
            raise HostError("its place in the data plane is taken: start the gateway anew")
        if udp:
            self._pairs[local.address] = pair
        return *pair.receivers, pair.other

    def _attach(
        self, encapsulation: Encapsulation, local: Endpoint, pair: OuterSockets, stack: ExitStack, on: Sequence[Offload] | None
    ) -> int:
        """Gives each worker its receiving socket; where there is but one, worker 0 reads it. The number is the same for all. `on`:
        another process has them too, with these offloads."""
        alone = len(pair.receivers) == 1
        links = set()
        for worker in range(self._plane.workers):
            receive = pair.receivers[0 if alone else worker].fileno()
            offloads = None if on is None else on[worker]
            link = self._plane.attach_link(encapsulation, local, receive, Df.SET, pair.other.fileno(), worker, on=offloads)
            stack.callback(self._plane.detach_link, link, worker)
            links.add(link)
            if alone and worker > 0:
                self._plane.receive_off_link(link, worker)
        (number,) = links
        return number

    def listen_ike(self, local: Address, received: Callable[[bytes, Endpoint, Endpoint], None]) -> None:
        if local in self._ike:
            return
        self.link(Endpoint(local, sockets.NAT_PORT), Encapsulation.UDP)
        self._open(f"UDP port {sockets.IKE_PORT} of {local}", partial(self._open_ike, local, received))

    def _open_ike(
        self, local: Address, received: Callable[[bytes, Endpoint, Endpoint], None], stack: ExitStack
    ) -> Sequence[socket.socket]:
        kept = self._inherited.pop((local, None), None)
        self._ike[local] = made = sockets.ike_socket(local, buffer=self._buffer) if kept is None else kept.sockets[0]
        stack.callback(made.close)
        here = _endpoint(made.getsockname())
        number = self._plane.attach_ike(here, made.fileno())
        stack.callback(self._plane.detach_ike, number)
        self._listeners[number] = here, received
        stack.callback(self._listeners.pop, number)
        asyncio.get_running_loop().add_reader(self._plane.ike_descriptor(), self._read)
        return (made,)

    def _read(self) -> None:
        """Passes on what came to port 500 and is for the control plane."""
        for _ in range(MESSAGES_AT_ONCE):
            if not self._read_one():
                return

    def read_ike(self) -> None:
        """All of it that was read, when nobody reads port 500 any more."""
        while self._read_one():
            pass

    def _read_one(self) -> bool:
        punt = self._plane.read_ike()
        if punt is None:
            return False
        here, received = self._listeners.get(punt.link, (None, None))
        if here is not None and received is not None and punt.remote is not None:
            received(punt.payload, here, punt.remote)
        return True

    def send_ike(self, local: Address, remote: Endpoint, message: bytes, *, natt: bool, whole: bool = False) -> str | None:
        self._plane.ike_sent(Endpoint(local, sockets.NAT_PORT if natt else sockets.IKE_PORT), remote, message)
        if natt:
            return self._send(self._pairs[local].receive if whole else self._pairs[local].other, NON_ESP_MARKER + message, remote)
        with sockets.unfragmented(self._ike[local], local.version) if whole else nullcontext():
            return self._send(self._ike[local], message, remote)

    def send_keepalive(self, local: Address, remote: Endpoint) -> None:
        self._plane.keepalive_sent(Endpoint(local, sockets.NAT_PORT), remote)
        self._send(self._pairs[local].other, b"\xff", remote)

    def _send(self, target: socket.socket, datagram: bytes, remote: Endpoint) -> str | None:
        """Why the host refuses, as `OuterLinks.send_ike` has it."""
        zone = f"%{remote.scope}" if remote.scope else ""
        name = f"{remote.address}{zone}", remote.port
        try:
            target.sendto(datagram, name)
        except OSError as error:
            log.debug(
                "sending %d octets to %s port %d: %s",
                len(datagram),
                *name,
                os.strerror(error.errno or 0),
                extra=told("send_refused"),
            )
            return sockets.refusal(error.errno or 0)
        return None


def _endpoint(name: Any) -> Endpoint:
    """Of an address as the socket module has it, which for IPv6 has flow and scope too."""
    return Endpoint(ip_address(name[0].partition("%")[0]), name[1], name[3] if len(name) > 3 else 0)
