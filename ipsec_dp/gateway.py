"""One running gateway: brought up in the order that never lets protected traffic out, and taken down in reverse.

Up: control socket (one gateway of a name at a time) → guard → data plane → TUN interfaces → outer sockets → policy and SAs → loops →
routes. Down: the same backwards, the guard last. A start that fails leaves the guard where it is, as a crash does; the next start
adopts it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from ipsec_dp import manual, vmgenid
from ipsec_dp.control import ControlServer
from ipsec_dp.dataplane import Channel, DataPlane, SaFlag
from ipsec_dp.errors import ControlError, IpsecDpError
from ipsec_dp.host_side import HostSide
from ipsec_dp.sad import Acquire, DeviceFailed, Sad, SaCondition, UnknownSpi
from ipsec_dp.spd import Spd, pair_of
from ipsec_dp.status import child_status, gateway_status

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.host_side import Outer
    from ipsec_dp.sad import Event

log = logging.getLogger("ipsec_dp")

RESCAN_S = 1.0
RECLAIM_S = 0.01
QUIET_S = 10.0  # between two log lines about the same thing that strangers or traffic cause


class GatewayFailedError(IpsecDpError):
    """The gateway runs no longer, and why."""


class Gateway:
    """`start`, `wait` until someone calls `stop` (or something breaks), `close`."""

    def __init__(self, config: Config, control_path: Path) -> None:
        self.config = config
        self.spd = Spd(config)
        self._control = ControlServer(control_path, self._request)
        self._host = HostSide(config, self.spd)
        self._stack = AsyncExitStack()
        self._stopping = asyncio.Event()
        self._torn_down = asyncio.Event()
        self._failure: str | None = None
        self._plane: DataPlane | None = None
        self._sad: Sad | None = None
        self._outer: dict[str, Outer] = {}
        self._last_error: dict[str, str] = {}
        self._logged: dict[str, float] = {}

    # ---- life

    async def start(self) -> None:
        """Brings everything up. Raises IpsecDpError; then `close` takes away what was made, but for the guard."""
        await self._control.start()
        await self._host.close_guard()
        try:
            await self._start_inside()
        except IpsecDpError:
            log.error("the guard stays, so that nothing protected leaves in clear; `ipsec-dp up` adopts it, %s", self._host.unguard_hint)
            raise
        log.info("gateway %s is up: %d tunnels, provider %s", self.config.name, len(self.config.tunnels), self._plane_name())

    async def _start_inside(self) -> None:
        stack = self._stack
        plane = DataPlane(tunnels=max(1, len(self.config.tunnels)), interfaces=max(1, len(self.spd.interface_names)))
        self._plane = plane
        stack.callback(plane.close)
        self._sad = Sad(plane)
        if not plane.arena().locked:
            log.warning("keys are not locked in memory (memlock limit); raise it with: ulimit -l unlimited")
        await self._host.make_interfaces(stack, plane)
        for tunnel in self.config.tunnels:
            self._outer[tunnel.name] = await self._host.outer(tunnel, stack, plane)
        await self._host.set_mtus(self._outer)
        plane.install_policy(self.spd.snapshot())
        for tunnel in self.config.tunnels:
            self._bring_up(tunnel)
        self._listen(stack)
        plane.start()
        stack.callback(plane.stop)
        await self._host.add_routes(stack)

    def _bring_up(self, tunnel: Tunnel) -> None:
        assert self._sad is not None
        if tunnel.manual is None:
            raise GatewayFailedError(f'tunnel "{tunnel.name}": IKE is not built yet; use [tunnel.manual_unsafe]')
        outer = self._outer[tunnel.name]
        manual.install(
            self._sad,
            tunnel,
            tunnel.manual,
            number=self.spd.tunnel_numbers[tunnel.name],
            interface=self.spd.interface_numbers[tunnel.interface],
            selectors=[pair_of(selector) for selector in tunnel.selectors],
            path=outer.path,
            peer=outer.path.remote,
        )
        log.warning('tunnel "%s": %s', tunnel.name, manual.WARNING)

    def stop(self, why: str) -> None:
        """Ends `wait`."""
        log.info("stopping: %s", why)
        self._stopping.set()

    async def wait(self) -> int:
        """The exit status, once stopped."""
        await self._stopping.wait()
        if self._failure is not None:
            raise GatewayFailedError(self._failure)
        return 0

    async def close(self) -> None:
        """Takes everything away; the guard only after a clean run and unless the configuration keeps it."""
        clean = self._stopping.is_set() and self._failure is None
        try:
            await self._stack.aclose()
            if clean and not self.config.keep_closed:
                await self._host.open_guard()
        finally:
            self._torn_down.set()
            await self._host.close()
            await self._control.close()

    def _plane_name(self) -> str:
        return "none" if self._plane is None else self._plane.provider

    # ---- events

    def _listen(self, stack: AsyncExitStack) -> None:
        assert self._plane is not None
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
            log.info("no kernel uevents here, a cloned virtual machine goes unnoticed: %s", error.strerror)
            return
        loop.add_reader(uevents.fileno(), self._machine_changed, uevents)
        stack.callback(uevents.close)
        stack.callback(loop.remove_reader, uevents.fileno())

    def _machine_changed(self, uevents: Any) -> None:
        assert self._plane is not None
        if vmgenid.drain(uevents):
            self._plane.expire_all()
            log.error("this virtual machine was cloned or restored: every SA is ended, so that no nonce is used twice")

    async def _housekeeping(self) -> None:
        assert self._sad is not None
        while True:
            for event in self._sad.rescan():
                self._handle(event)
            delay = RECLAIM_S if self._sad.reclaim() else RESCAN_S
            await asyncio.sleep(delay)

    def _read(self, channel: Channel) -> None:
        assert self._sad is not None
        for event in self._sad.events(channel):
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case Acquire(tunnel=number):
                name = self.spd.tunnel_names[number]
                self._tell(logging.WARNING, f'tunnel "{name}": traffic, but no SA to carry it', tunnel=name)
                assert self._sad is not None
                self._sad.acquired(number)
            case SaCondition():
                self._tell_condition(event)
            case UnknownSpi(spi=spi, remote=remote):
                source = "somebody" if remote is None else remote.address
                self._tell(logging.INFO, f"ESP from {source} for the unknown SPI {spi:#x}", key=f"unknown_spi {source}")
            case DeviceFailed(interface=interface, error=error) if interface is not None:
                self._device_failed(self.spd.interface_names[interface], error)
            case DeviceFailed(link=link, error=error):
                self._tell(logging.WARNING, f"outer socket {link}: {os.strerror(error)}")
            case _:
                self._tell(logging.INFO, "an IKE message came, but IKE is not built yet", key="ike")

    def _tell_condition(self, event: SaCondition) -> None:
        name = self.spd.tunnel_names[event.tunnel]
        assert self._sad is not None
        for flag, level, text in CONDITIONS:
            if flag in event.flags:
                self._tell(level, f'tunnel "{name}": SA {event.spi:#x}: {text}', tunnel=name if level >= logging.ERROR else None)
        if SaFlag.PEER_MOVED in event.flags:
            self._sad.acted(event.handle, SaFlag.PEER_MOVED)

    def _tell(self, level: int, text: str, *, tunnel: str | None = None, key: str | None = None) -> None:
        """Logs, the same thing only once in QUIET_S."""
        now = time.monotonic()
        if tunnel is not None:
            self._last_error[tunnel] = text
        if now - self._logged.get(key or text, -QUIET_S) >= QUIET_S:
            self._logged[key or text] = now
            log.log(level, "%s", text)

    def _device_failed(self, interface: str, error: int) -> None:
        self._failure = f"interface {interface}: {os.strerror(error)}: the TUN device is gone; was it deleted by hand?"
        self._stopping.set()

    # ---- requests

    async def _request(self, request: dict[str, Any]) -> Any:
        match request["verb"]:
            case "status":
                return self.status()
            case "down":
                self.stop("down")
                await self._torn_down.wait()
                return {"stopped": self.config.name}
            case verb:
                raise ControlError(f'"{verb}" is no verb of this gateway')

    def status(self) -> dict[str, Any]:
        """The answer to `status`. Raises ControlError while there is nothing to tell."""
        if self._plane is None or self._sad is None or self._stopping.is_set():
            raise ControlError("the gateway is starting or stopping; ask again")
        warnings = [f'tunnel "{t.name}": {manual.WARNING}' for t in self.config.tunnels if t.manual is not None]
        return gateway_status(
            name=self.config.name,
            plane=self._plane,
            tunnels=[self._tunnel_status(tunnel) for tunnel in self.config.tunnels],
            offloads={},
            warnings=warnings,
        )

    def _tunnel_status(self, tunnel: Tunnel) -> dict[str, Any]:
        assert self._sad is not None
        number, now = self.spd.tunnel_numbers[tunnel.name], time.monotonic()
        children = [child_status(self._sad, child, now) for child in self._sad.children_of(number)]
        up = any(child["spi_in"] is not None and child["spi_out"] is not None for child in children)
        outer = self._outer.get(tunnel.name)
        return {
            "name": tunnel.name,
            "state": "up" if up else "down",
            "state_text": "manual keys" if up else "no SA",
            "last_error": self._last_error.get(tunnel.name),
            "remote": None if outer is None else str(outer.path.remote.address),
            "nat": "none",
            "mtu": None if outer is None else outer.mtu,
            "ike": None,
            "children": children,
        }


CONDITIONS = (
    (SaFlag.SOFT_LIMIT, logging.WARNING, "its soft limit in octets or packets is reached"),
    (SaFlag.HARD_LIMIT, logging.ERROR, "its octets or packets are used up: nothing more is carried; give it new keys"),
    (SaFlag.SEQUENCE_SOFT, logging.WARNING, "three quarters of its sequence numbers are used"),
    (SaFlag.SEQUENCE_EXHAUSTED, logging.ERROR, "its sequence numbers are used up: nothing more is carried; give it new keys"),
    (SaFlag.PEER_MOVED, logging.WARNING, "authentic packets come from another address than the peer's; replies still go to the old one"),
)
