"""The outer sockets of this gateway: opened at their first use, shared by all tunnels of a local address.

ESP belongs to the data plane, which has duplicates of the descriptors; IKE messages leave by the same UDP sockets (RFC 3948 §2.2:
behind four zero octets on the port that ESP uses) or by port 500.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import Df, Encapsulation, Endpoint
from ipsec_dp.host import sockets
from ipsec_dp.host.steering import Steering

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.host.sockets import OuterSockets
    from ipsec_dp.ipsec.addresses import Address

log = logging.getLogger("ipsec_dp")

NON_ESP_MARKER = bytes(4)


class Links:
    """Opening raises HostError. `close` closes all of it."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._stack = ExitStack()
        self._links: dict[tuple[Address, Encapsulation], int] = {}
        self._pairs: dict[Address, OuterSockets] = {}
        self._ike: dict[Address, socket.socket] = {}

    def close(self) -> None:
        self._stack.close()

    def link(self, local: Endpoint, encapsulation: Encapsulation) -> int:
        """The data plane's link for a local address."""
        key = local.address, encapsulation
        if key not in self._links:
            udp = encapsulation is Encapsulation.UDP
            steering = Steering(self._plane.workers, self._plane.sa_slots)
            make = partial(sockets.udp_pair, port=local.port) if udp else sockets.esp_pair
            pair = make(local.address, steering=steering)
            self._stack.callback(pair.close)
            self._links[key] = self._attach(encapsulation, local, pair)
            if udp:
                self._pairs[local.address] = pair
        return self._links[key]

    def _attach(self, encapsulation: Encapsulation, local: Endpoint, pair: OuterSockets) -> int:
        """Gives each worker its receiving socket; where there is but one, worker 0 reads it. The number is the same for all."""
        alone = len(pair.receivers) == 1
        links = set()
        for worker in range(self._plane.workers):
            receive = pair.receivers[0 if alone else worker].fileno()
            link = self._plane.attach_link(encapsulation, local, receive, Df.SET, pair.other.fileno(), worker)
            self._stack.callback(self._plane.detach_link, link, worker)
            links.add(link)
            if alone and worker > 0:
                self._plane.receive_off_link(link, worker)
        (number,) = links
        return number

    def listen_ike(self, local: Address, readable: Callable[[socket.socket], None]) -> None:
        """Opens ports 500 and 4500 of an address. `readable` is called when a datagram is at port 500; those at port 4500 come
        through the data plane."""
        if local not in self._ike:
            self.link(Endpoint(local, sockets.NAT_PORT), Encapsulation.UDP)
            made = sockets.ike_socket(local)
            self._stack.callback(made.close)
            self._ike[local] = made
            readable(made)

    def send_ike(self, local: Address, remote: tuple[str, int], message: bytes, *, natt: bool, whole: bool = False) -> None:
        """Sends an IKE message from port 500, or behind the marker from port 4500, `whole` with the DF bit. A datagram that the
        host refuses is lost, as one that the network loses; it is repeated."""
        if natt:
            self._send(self._pairs[local].receive if whole else self._pairs[local].other, NON_ESP_MARKER + message, remote)
            return
        with sockets.unfragmented(self._ike[local], local.version) if whole else nullcontext():
            self._send(self._ike[local], message, remote)

    def send_keepalive(self, local: Address, remote: tuple[str, int]) -> None:
        """One octet that keeps a NAT's mapping (RFC 3948 §2.3)."""
        self._send(self._pairs[local].other, b"\xff", remote)

    def _send(self, target: socket.socket, datagram: bytes, remote: tuple[str, int]) -> None:
        try:
            target.sendto(datagram, remote)
        except OSError as error:
            log.debug("sending %d octets to %s port %d: %s", len(datagram), *remote, os.strerror(error.errno or 0))
