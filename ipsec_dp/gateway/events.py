"""A gateway while it runs: what the loops tell it, and what it tells a person."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from ipsec_dp.databases.sad import Acquire, DeviceFailed, IkeDatagram, OffloadLost, UnknownSpi
from ipsec_dp.dataplane import Channel, SaCondition, SaFlag
from ipsec_dp.gateway.explain import PacketSa, holds
from ipsec_dp.gateway.status import child_status, gateway_status
from ipsec_dp.host import vmgenid
from ipsec_dp.ike import actions as act
from ipsec_dp.keying import manual
from ipsec_dp.util.slices import in_turns

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AsyncExitStack

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.sad import Event, Sad
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane, OuterPath
    from ipsec_dp.gateway.explain import Question
    from ipsec_dp.keying.ike_driver import IkeDriver

log = logging.getLogger("ipsec_dp")

RESCAN_S = 1.0
RECLAIM_S = 0.01
ACQUIRE_AGAIN_S = 1.0  # pause between two questions for one tunnel
QUIET_S = 10.0  # between two log lines about the same thing that strangers or traffic cause
TOLD_MAX = 1024  # texts remembered for that

CONDITIONS = (
    (SaFlag.SOFT_LIMIT, logging.WARNING, "its soft limit in octets or packets is reached"),
    (SaFlag.HARD_LIMIT, logging.ERROR, "its octets or packets are used up: nothing more is carried; give it new keys"),
    (SaFlag.SEQUENCE_SOFT, logging.WARNING, "three quarters of its sequence numbers are used"),
    (SaFlag.SEQUENCE_EXHAUSTED, logging.ERROR, "its sequence numbers are used up: nothing more is carried; give it new keys"),
    (SaFlag.PEER_MOVED, logging.WARNING, "authentic packets come from another address; replies still go to the configured one"),
)


class Running:
    """Events, housekeeping and status of one data plane with its SAs.

    `paths` are those of manual tunnels, `ike` has the others; `mtu_of` says what `status` tells of a tunnel's MTU; `fail` ends the
    gateway, with the cause.
    """

    def __init__(
        self,
        config: Config,
        spd: Spd,
        plane: DataPlane,
        sad: Sad,
        paths: Mapping[str, OuterPath],
        ike: IkeDriver | None,
        mtu_of: Callable[[str], dict[str, int | None]],
        fail: Callable[[str], None],
    ) -> None:
        self._config, self._spd, self._plane, self._sad, self._fail = config, spd, plane, sad, fail
        self._paths, self._ike, self._mtu_of = paths, ike, mtu_of
        self._last_error: dict[str, tuple[str, float]] = {}  # text and time
        self._told: dict[str, float] = {}

    def follow(self, config: Config) -> None:
        """Speaks of these tunnels from now on."""
        self._config = config
        for name in [name for name in self._last_error if not config.has_tunnel(name)]:
            del self._last_error[name]

    # ---- events

    def listen(self, stack: AsyncExitStack) -> None:
        """Handles what the loops tell until the stack is left."""
        loop = asyncio.get_running_loop()
        for channel in Channel:
            descriptor = self._plane.punt_descriptor(channel)
            loop.add_reader(descriptor, self._read, channel)
            stack.callback(loop.remove_reader, descriptor)
        housekeeping = loop.create_task(self._housekeeping())
        stack.callback(housekeeping.cancel)
        try:
            uevents = vmgenid.listen()
        except OSError as error:
            log.info("no kernel uevents here, so a cloned virtual machine goes unnoticed: %s", error.strerror)
            return
        loop.add_reader(uevents.fileno(), self._machine_changed, uevents)
        stack.callback(uevents.close)
        stack.callback(loop.remove_reader, uevents.fileno())

    def _machine_changed(self, uevents: socket.socket) -> None:
        if vmgenid.drain(uevents):
            self._plane.expire_all()
            if self._ike is not None:
                self._ike.cloned()
            log.error("this virtual machine was cloned or restored: every SA is ended, so that no nonce is used twice")

    async def _housekeeping(self) -> None:
        while True:
            for event in self._sad.rescan():
                self._handle(event)
            await asyncio.sleep(RECLAIM_S if self._sad.reclaim() else RESCAN_S)

    def _read(self, channel: Channel) -> None:
        for event in self._sad.events(channel):
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case Acquire():
                self._acquire(event)
            case SaCondition():
                self._condition(event)
            case IkeDatagram():
                if self._ike is not None:
                    self._ike.datagram(event)
            case UnknownSpi(spi=spi, remote=remote):
                source = "somebody" if remote is None else remote.address
                self._tell(logging.INFO, f"ESP from {source} for the unknown SPI {spi:#x}", key=f"unknown SPI from {source}")
            case DeviceFailed(interface=interface, error=error) if interface is not None:
                name = self._spd.interface_names.get(interface)
                if name is None:  # it was removed meanwhile
                    return
                self._fail(f"interface {name}: {os.strerror(error)}: the TUN device is gone; was it deleted by hand?")
            case DeviceFailed(link=link, error=error):
                self._tell_link(link, os.strerror(error))
            case OffloadLost(interface=interface, link=link, error=error):
                cause = f"the kernel refused an offload, which is off now: {os.strerror(error)}"
                if interface is None:
                    self._tell_link(link, cause)
                else:
                    self._tell(logging.WARNING, f"interface {self._spd.interface_names.get(interface)}: {cause}")

    def _tell_link(self, link: int | None, cause: str) -> None:
        """An outer socket failed: it is the last error of every tunnel that sends by it."""
        paths = dict(self._paths) | ({} if self._ike is None else self._ike.paths())
        named = {name: path for name, path in paths.items() if path.link == link}
        for name, path in named.items():
            self._tell(logging.WARNING, f'tunnel "{name}": outer socket of {path.local.address}: {cause}', tunnel=name)
        if not named:
            self._tell(logging.WARNING, f"outer socket {link}: {cause}")

    def _acquire(self, event: Acquire) -> None:
        """Traffic without an SA: IKE makes one if it may; the question is asked again after a while."""
        name = self._spd.tunnel_names.get(event.tunnel)
        if name is None:  # it was removed meanwhile
            return
        if self._ike is None or not self._ike.acquire(name, event.packet):
            self._tell(logging.WARNING, f'tunnel "{name}": traffic, but no SA to carry it', tunnel=name)
        asyncio.get_running_loop().call_later(ACQUIRE_AGAIN_S, self._sad.acquired, event.tunnel)

    def _condition(self, event: SaCondition) -> None:
        child = None if self._ike is None else self._ike.named(event.handle)
        if self._ike is None or child is None:
            self._tell_condition(event)
        elif event.flags & (SaFlag.HARD_LIMIT | SaFlag.SEQUENCE_EXHAUSTED):
            self._ike.limit(*child, hard=True)
        elif event.flags & (SaFlag.SOFT_LIMIT | SaFlag.SEQUENCE_SOFT):
            self._ike.limit(*child, hard=False)
        elif SaFlag.PEER_MOVED in event.flags:
            peer = self._sad.read(event.handle).peer
            self._sad.acted(event.handle, SaFlag.PEER_MOVED)
            if peer is not None:
                self._ike.peer_moved(*child, act.Endpoint(peer.address, peer.port, peer.scope))

    def _tell_condition(self, event: SaCondition) -> None:
        name = self._spd.tunnel_names.get(event.tunnel)
        for flag, level, text in CONDITIONS:
            if flag in event.flags:
                self._tell(level, f'tunnel "{name}": SA {event.spi:#x}: {text}', tunnel=name if level >= logging.ERROR else None)
        if SaFlag.PEER_MOVED in event.flags:
            self._sad.acted(event.handle, SaFlag.PEER_MOVED)

    def _tell(self, level: int, text: str, *, tunnel: str | None = None, key: str | None = None) -> None:
        """Logs, the same thing (`key`, else the text) once in QUIET_S; for a tunnel it is its last error too."""
        now = time.monotonic()
        if tunnel is not None:
            self._last_error[tunnel] = text, now
        key = text if key is None else key
        if now - self._told.get(key, -QUIET_S) < QUIET_S:
            return
        if len(self._told) >= TOLD_MAX:  # strangers choose some of the keys
            self._told.clear()
        self._told[key] = now
        log.log(level, "%s", text)

    # ---- status

    def status(self) -> dict[str, Any]:
        """The answer to `status` but for `tunnels`."""
        warnings = [f'tunnel "{tunnel.name}": {manual.WARNING}' for tunnel in self._config.tunnels if tunnel.manual is not None]
        return gateway_status(
            name=self._config.name,
            plane=self._plane,
            offloads=self._plane.offloads(),
            warnings=warnings,
        )

    async def tunnels_status(self, name: str | None = None, state: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Of `status`: each tunnel, or the one of this name, or those in this state; without what ends meanwhile."""
        names = tuple(tunnel.name for tunnel in self._config.tunnels) if name is None else (name,)
        async for each in in_turns(names):
            if not self._config.has_tunnel(each):
                continue
            entry = self._tunnel_status(self._config.tunnel(each))
            if state in (None, entry["state"]):
                yield entry

    def children_holding(self, tunnel: str, question: Question) -> list[PacketSa]:
        """The CHILD_SAs of a tunnel whose negotiated selectors hold a packet, in the order in which the data plane tries them."""
        found = []
        for child in self._sad.children_of(self._spd.tunnel_numbers[tunnel]):
            held = next((pair for pair in child.selectors if holds(pair, question)), None)
            if held is not None:
                spis = [None if handle is None else self._sad.records[handle].spi for handle in (child.inbound, child.outbound)]
                found.append(PacketSa(spis[0], spis[1], f"{held.local_text} <-> {held.remote_text}"))
        return found

    def _tunnel_status(self, tunnel: Tunnel) -> dict[str, Any]:
        number, now = self._spd.tunnel_numbers[tunnel.name], time.monotonic()
        children = [child_status(self._sad, child, now) for child in self._sad.children_of(number)]
        entry: dict[str, Any] = {"name": tunnel.name}
        if tunnel.manual is not None or self._ike is None:
            up = any(child["spi_in"] is not None and child["spi_out"] is not None for child in children)
            entry |= {
                "state": "up" if up else "down",
                "state_text": "manual keys" if up else "no SA",
                "last_error": None,
                "remote": str(self._paths[tunnel.name].remote.address),
                "nat": "none",
                "ike": None,
            }
        else:
            entry |= self._ike.status(tunnel.name)
            rekeys = entry.pop("rekey_in_s")
            for child in children:
                child["rekey_in_s"] = None if child["spi_in"] is None else rekeys.get(int(child["spi_in"], 16))
        text, at = self._last_error.get(tunnel.name, (None, 0.0))
        if entry["last_error"] is None and (self._ike is None or at > self._ike.up_at(tunnel.name)):
            entry["last_error"] = text
        return entry | self._mtu_of(tunnel.name) | {"children": children}
