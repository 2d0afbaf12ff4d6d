"""What the loops of the data plane report, and who does something about it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from typing import TYPE_CHECKING

from ipsec_dp.databases.sad_events import Acquire, DeviceFailure, IkeDatagram, OffloadLoss, SendRefusal, UnknownSpi
from ipsec_dp.dataplane import Channel, SaCondition, SaFlag
from ipsec_dp.ike import actions as act
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.slices import within_slice
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.sad_events import Event
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.gateway.notices import Notices
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.keying.manual import ManualSas
    from ipsec_dp.util.clock import Clock, Timer

UNSIZED = "the kernel joined datagrams and did not say how long each is; it is to join none from now on"
ACQUIRE_AGAIN_S = 1.0  # pause between two questions for one tunnel

CONDITIONS = (
    (SaFlag.SOFT_LIMIT, logging.WARNING, "its soft limit in octets or packets is reached"),
    (SaFlag.HARD_LIMIT, logging.ERROR, "its octets or packets are used up: nothing more is carried; give it new keys"),
    (SaFlag.SEQUENCE_SOFT, logging.WARNING, "three quarters of its sequence numbers are used"),
    (SaFlag.SEQUENCE_EXHAUSTED, logging.ERROR, "its sequence numbers are used up: nothing more is carried; give it new keys"),
    (SaFlag.PEER_MOVED, logging.WARNING, "authentic packets come from another address; replies still go to the configured one"),
)


class Events:
    """Those of one data plane: IKE gets what is IKE's, a person what nobody can act on.

    `device_failed` hears of an interface (and the errno) that packets cannot be read from or written to; `refused` of outer packets
    that this host does not send for their size.
    """

    def __init__(
        self,
        *,
        spd: Spd,
        plane: DataPlane,
        sad: Sad,
        manual: ManualSas,
        ike: IkeDriver,
        notices: Notices,
        device_failed: Callable[[str, int], None],
        refused: Callable[[SendRefusal], None],
        clock: Clock,
    ) -> None:
        self._spd, self._plane, self._sad, self._manual, self._ike = spd, plane, sad, manual, ike
        self._notices, self._device_failed, self._refused, self._clock = notices, device_failed, refused, clock
        self._again: dict[int, Timer] = {}  # by tunnel: when its packets may ask once more

    def listen(self, stack: AsyncExitStack) -> None:
        """Handles what the loops report until the stack is left."""
        loop = asyncio.get_running_loop()
        for channel in Channel:
            descriptor = self._plane.punt_descriptor(channel)
            loop.add_reader(descriptor, self.read, channel)
            stack.callback(loop.remove_reader, descriptor)
        stack.callback(self._ask_no_more)

    def read(self, channel: Channel) -> None:
        """Handles what a channel holds, as far as a slice goes: it stays readable, and what is left comes next."""
        for event in within_slice(self._sad.events(channel)):
            self.handle(event)

    def handle(self, event: Event) -> None:
        match event:
            case Acquire():
                self._acquire(event)
            case SaCondition():
                self._condition(event)
            case IkeDatagram():
                self._ike.datagram(event)
            case UnknownSpi(spi=spi, remote=remote):
                source = "somebody" if remote is None else remote.address
                text = f"ESP from {source} for the unknown SPI {spi_text(spi)}"
                self._notices.add_of_stranger(logging.INFO, text, f"unknown SPI from {source}", told("unknown_spi"))
            case DeviceFailure(interface=interface, error=error) if interface is not None:
                name = self._spd.interface_names.get(interface)
                if name is not None:  # else it was removed meanwhile
                    self._device_failed(name, error)
            case DeviceFailure(link=link, error=error):
                self._link_trouble(link, os.strerror(error))
            case SendRefusal():
                self._refused(event)
            case OffloadLoss(interface=interface, link=link, error=error):
                cause = (
                    UNSIZED if error == errno.EBADMSG else f"the kernel refused an offload, which is off now: {os.strerror(error)}"
                )
                if interface is None:
                    self._link_trouble(link, cause)
                else:
                    text = f"interface {self._spd.interface_names.get(interface)}: {cause}"
                    self._notices.add(logging.WARNING, text, told("offload_lost"))

    def _link_trouble(self, link: int | None, cause: str) -> None:
        """It is the last error of every tunnel that sends by this outer socket."""
        paths = self._manual.paths | self._ike.paths()
        concerned = {name: path for name, path in paths.items() if path.link == link}
        for name, path in concerned.items():
            text = f'tunnel "{name}": outer socket of {path.local.address}: {cause}'
            self._notices.add(logging.WARNING, text, told("outer_socket", tunnel=name), tunnel=name)
        if not concerned:
            self._notices.add(logging.WARNING, f"outer socket {link}: {cause}", told("outer_socket"))

    def _acquire(self, event: Acquire) -> None:
        """Traffic without an SA: IKE makes one if it may; the question is asked again after a while."""
        name = self._spd.tunnel_names.get(event.tunnel)
        if name is None:  # it was removed meanwhile
            return
        if not self._ike.acquire(name, event.packet):
            text = f'tunnel "{name}": traffic, but no SA to carry it'
            self._notices.add(logging.WARNING, text, told("no_sa", tunnel=name), tunnel=name)
        if (before := self._again.pop(event.tunnel, None)) is not None:
            before.cancel()
        self._again[event.tunnel] = self._clock.call_at(self._clock.now() + ACQUIRE_AGAIN_S, self._ask_again, event.tunnel)

    def _ask_again(self, tunnel: int) -> None:
        del self._again[tunnel]
        self._sad.acquired(tunnel)

    def _ask_no_more(self) -> None:
        """The data plane is about to close."""
        while self._again:
            self._again.popitem()[1].cancel()

    def _condition(self, event: SaCondition) -> None:
        child = self._ike.named(event.handle)
        if child is None:
            self._manual_condition(event)
        elif event.flags & (SaFlag.HARD_LIMIT | SaFlag.SEQUENCE_EXHAUSTED):
            self._ike.limit(*child, hard=True)
        elif event.flags & (SaFlag.SOFT_LIMIT | SaFlag.SEQUENCE_SOFT):
            self._ike.limit(*child, hard=False)
        elif SaFlag.PEER_MOVED in event.flags:
            peer = self._sad.read(event.handle).peer
            self._sad.acted(event.handle, SaFlag.PEER_MOVED)
            if peer is not None:
                self._ike.peer_moved(*child, act.Endpoint(peer.address, peer.port, peer.scope))

    def _manual_condition(self, event: SaCondition) -> None:
        name = self._spd.tunnel_names.get(event.tunnel)
        for flag, level, text in CONDITIONS:
            if flag in event.flags:
                tunnel = name if level >= logging.ERROR else None
                said = f'tunnel "{name}": SA {spi_text(event.spi)}: {text}'
                self._notices.add(level, said, told("sa_condition", tunnel=name), tunnel=tunnel)
        if SaFlag.PEER_MOVED in event.flags:
            self._sad.acted(event.handle, SaFlag.PEER_MOVED)
