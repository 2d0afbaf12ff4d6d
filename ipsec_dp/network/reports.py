"""What the kernel reports beside packets: changes of the network, cloned machines, the zones' log, ICMP errors, echo replies."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic, TypeVar

from ipsec_dp.host import HostError, too_big, unreachable, vmgenid
from ipsec_dp.host.changes import Changes, ChangesSocket
from ipsec_dp.host.echo import EchoSockets
from ipsec_dp.host.link_changes import LinkChangesSocket
from ipsec_dp.host.nflog import LogReader
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from ipsec_dp.host.echo import Echo
    from ipsec_dp.host.nflog import Line
    from ipsec_dp.host.too_big import TooBig
    from ipsec_dp.host.unreachable import Unreachable
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.network.host import Closable
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

R = TypeVar("R")

MESSAGES_AT_ONCE = 32  # ICMP messages of one socket, before the rest of the control plane has its turn
MESSAGES_A_SECOND = 200  # more are a flood, which the kernel drops meanwhile
PAUSE_S = 1.0


class KernelReports:
    """`network.host.HostReports` by sockets of the calling thread's network namespace."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def network_changes(self, changed: Callable[[], None]) -> Closable:
        source = ChangesSocket()

        def read() -> None:
            found = Changes()
            source.read(found)
            if found:
                changed()

        return _Reader(source, read)

    def interface_changes(self, changed: Callable[[set[int] | None], None]) -> Closable:
        source = LinkChangesSocket()
        return _Reader(source, lambda: changed(source.read()))

    def machine_clones(self, cloned: Callable[[], None]) -> Closable:
        try:
            source = vmgenid.listen()
        except OSError as error:
            log.info(
                "no kernel uevents here, so a cloned virtual machine goes unnoticed: %s",
                error.strerror,
                extra=told("clones_unnoticed"),
            )
            return _Nothing()

        def read() -> None:
            if vmgenid.drain(source):
                cloned()

        return _Reader(source, read)

    def zone_log(self, group: int, logged: Callable[[Line], None]) -> Closable:
        return LogReader(group, logged)

    def packets_too_big(self, reported: Callable[[TooBig], None]) -> Closable:
        return IcmpSockets(too_big.open_socket, too_big.READERS, reported, self._clock, "path MTUs are found by probes alone")

    def unreachable(self, reported: Callable[[Unreachable], None]) -> Closable:
        lost = "peers that cannot be reached look silent"
        return IcmpSockets(unreachable.open_socket, unreachable.READERS, reported, self._clock, lost)

    def hear_too_big(self, remote: Address, local: Address | None = None) -> Closable:
        return too_big.listener(remote, local)

    def echoes(self, identifier: int, answered: Callable[[Echo], None]) -> EchoSockets:
        return EchoSockets(identifier, answered)


class _Nothing:
    """What could not be opened."""

    def close(self) -> None:
        return


class _Reader:
    """A socket whose reading is called as long as it is open."""

    def __init__(self, source: socket.socket | ChangesSocket | LinkChangesSocket, read: Callable[[], None]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(source.fileno(), read)

    def close(self) -> None:
        self._loop.remove_reader(self._source.fileno())
        self._source.close()


class IcmpSockets(Generic[R]):
    """Raw ICMP sockets of both IP versions; `reported` gets what quotes a packet of ours. A flood is read in pauses only.

    `otherwise`: what it means that there is no such socket.
    """

    def __init__(
        self,
        open_socket: Callable[[int], socket.socket],
        readers: Mapping[int, Callable[[bytes], R | None]],
        reported: Callable[[R], None],
        clock: Clock,
        otherwise: str,
    ) -> None:
        self._readers, self._reported, self._clock = readers, reported, clock
        self._sockets: list[socket.socket] = []
        self._counted_from = clock.now()
        self._messages = 0  # since then
        for version in (4, 6):
            try:
                made = open_socket(version)
            except HostError as error:
                log.info("%s: %s", error, otherwise, extra=told("report_missing"))
                continue
            self._sockets.append(made)
            self._listen(made, version)

    def close(self) -> None:
        for each in self._sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
            each.close()
        self._sockets.clear()

    def _listen(self, source: socket.socket, version: int) -> None:
        if source in self._sockets:
            asyncio.get_running_loop().add_reader(source.fileno(), self._read, source, version)

    def _read(self, source: socket.socket, version: int) -> None:
        for _ in range(MESSAGES_AT_ONCE):
            try:
                message = source.recv(too_big.MESSAGE_MAX)
            except OSError:  # no more
                return
            found = self._readers[version](message)
            if found is not None:
                self._reported(found)
            if self._is_flood():
                asyncio.get_running_loop().remove_reader(source.fileno())
                self._clock.call_at(self._clock.now() + PAUSE_S, self._listen, source, version)
                return

    def _is_flood(self) -> bool:
        """Counts a message; whether it is one too many within a second."""
        now = self._clock.now()
        if now - self._counted_from >= PAUSE_S:
            self._counted_from, self._messages = now, 0
        self._messages += 1
        return self._messages > MESSAGES_A_SECOND
