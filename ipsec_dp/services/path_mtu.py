"""The MTU of every tunnel: what its peer's path takes, what its suites leave of that, and who has to know.

Data plane, interfaces and routes are told; the kernel then sends "too big" by itself. `path_mtu` holds what is believed of each
peer; here are its clock, its ICMP messages (believed only when they quote what an SA sent in the last seconds) and its probes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ipsec_dp.config.packets import IPV6_MTU_MIN, Packets
from ipsec_dp.dataplane import TunnelSettings
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.host import HostError, too_big
from ipsec_dp.ike.proposal import suites_of
from ipsec_dp.ipsec.suites import Suite, inner_mtu
from ipsec_dp.network.peer_routes import OUTER_MTU
from ipsec_dp.services.path_mtu_state import Intervals, PathMtu
from ipsec_dp.util.slices import in_turns

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.ike.actions import ProbeResult
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.network.host import HostSide

log = logging.getLogger("ipsec_dp")

INTERVALS = Intervals()
MESSAGES_AT_ONCE = 32  # ICMP messages of one socket, before the rest of the control plane has its turn
MESSAGES_A_SECOND = 200  # more are a flood, which the kernel drops meanwhile
REFRESHED_AT_ONCE = 32  # peers whose first hop is looked at again in one tick
QUIET_TICKS = 5  # between two looks at the links where nothing is sent
TCP_IP = {4: 40, 6: 60}  # octets of headers before a TCP payload without options


class Shape(NamedTuple):
    """What an inner packet gets around it. `remote` None: a peer that is not known yet."""

    suite: Suite
    udp: bool
    remote: Address | None


def settings_of(packets: Packets, mtu: int) -> TunnelSettings:
    """What the data plane has to know of a tunnel whose largest inner packet has `mtu` octets."""
    mss = packets.mss_clamp
    fixed = 0 if isinstance(mss, str) else mss
    mss4, mss6 = (mtu - TCP_IP[4], mtu - TCP_IP[6]) if mss == "auto" else (fixed, fixed)
    return TunnelSettings(mtu, mss4, mss6, packets.fragment == "after", packets.dscp_in == "copy")


class Mtus:
    """A component (`components`). `numbers` gives the tunnels' numbers in the data plane."""

    name = "MTU"

    def __init__(self, config: Config, host: HostSide, numbers: Callable[[], Mapping[str, int]]) -> None:
        self._config, self._host, self._numbers, self._intervals = config, host, numbers, INTERVALS
        self._paths: dict[Address, PathMtu] = {}
        self._shapes: dict[str, set[Shape]] = {}
        self._at: dict[Address, set[str]] = {}  # tunnels that follow a path
        self._mtus: dict[str, int] = {}
        self._told: dict[str, Tunnel] = {}  # the tunnels as `apply` took them over last
        self._sent: dict[Address, int] = {}  # what their SAs had sent when it was last looked at
        self._packets_out = -1
        self._plane: DataPlane | None = None
        self._sad: Sad | None = None
        self._ike: IkeDriver | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._listeners: dict[Address, socket.socket] = {}  # by peer: `_listen`
        self._messages = 0
        self._turn = 0
        self._quiet_ticks = 0
        self._telling = False

    # ---- life

    async def first(self) -> None:
        """Before anything is negotiated: what fits under every suite that may be. Interfaces get it."""
        async for tunnel in in_turns(self._config.tunnels):
            await self._set_shapes(tunnel, await self._first_shapes(tunnel))
        await self._host.set_mtus(self._wanted_of_host())

    async def first_of(self, tunnel: Tunnel) -> int:
        """What an interface needs for a tunnel that is new or begins anew, before `apply` takes it over; octets."""
        mtus = []
        for suite, udp, remote in await self._first_shapes(tunnel):
            outer = OUTER_MTU if remote is None else await self._host.ways.mtu(remote)
            mtus.append(inner_mtu(outer, suite, "udp" if udp else "esp", 4 if remote is None else remote.version))
        return tunnel.packets.mtu or min(mtus)

    async def _first_shapes(self, tunnel: Tunnel) -> set[Shape]:
        suites = [tunnel.manual.suite] if tunnel.manual is not None else suites_of(tunnel.esp.proposals)
        remote = await self._host.ways.first_remote(tunnel)
        return {Shape(suite, tunnel.encapsulation != "esp", remote) for suite in suites}

    def begin(self, plane: DataPlane, sad: Sad, ike: IkeDriver | None) -> None:
        """Tells the data plane, and follows the paths until `close`."""
        self._plane, self._sad, self._ike = plane, sad, ike
        for name in self._mtus:
            self._tell_plane(name)
        loop = asyncio.get_running_loop()
        for version in (4, 6):
            try:
                made = too_big.open_socket(version)
            except HostError as error:
                log.info("%s: path MTUs are found by probes alone", error)
                continue
            self._sockets.append(made)
            loop.add_reader(made.fileno(), self._readable, made, version)
        self._spawn(self._tick())

    async def apply(self, config: Config) -> None:
        """Follows a changed configuration: what is negotiated stays."""
        news = [tunnel for tunnel in config.tunnels if self._told.get(tunnel.name) is not tunnel]
        async for tunnel in in_turns(news):
            await self._set_shapes(tunnel, self._shapes.get(tunnel.name) or await self._first_shapes(tunnel))
        self._config = config
        for gone in [name for name in self._shapes if not config.has_tunnel(name)]:
            self._leave(gone)
            del self._shapes[gone], self._mtus[gone]
        for gone in [name for name in self._told if not config.has_tunnel(name)]:
            del self._told[gone]
        for tunnel in news:
            self._tell_plane(tunnel.name)
            self._told[tunnel.name] = tunnel
        await self._host.apply_mtus(self._wanted_of_host())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self._sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
            each.close()
        self._sockets.clear()
        for each in self._listeners.values():
            each.close()
        self._listeners.clear()
        self._plane = self._sad = self._ike = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- what is known of tunnels

    def status(self, tunnel: str) -> dict[str, int | None]:
        """`mtu`: octets of the largest inner packet; `path_mtu`: of the largest outer one, None while there is no peer."""
        outers = [self._paths[shape.remote].outer for shape in self._shapes.get(tunnel, ()) if shape.remote in self._paths]
        return {"mtu": self._mtus.get(tunnel), "path_mtu": min(outers, default=None)}

    def negotiated(self, tunnel: Tunnel, shapes: set[Shape]) -> None:
        """CHILD_SAs have come or gone."""
        if shapes and shapes != self._shapes.get(tunnel.name):
            self._spawn(self._negotiated(tunnel, shapes))

    async def _negotiated(self, tunnel: Tunnel, shapes: set[Shape]) -> None:
        if not self._config.has_tunnel(tunnel.name):
            return
        await self._set_shapes(tunnel, shapes)
        self._tell(tunnel.name)

    async def _set_shapes(self, tunnel: Tunnel, shapes: set[Shape]) -> None:
        now = time.monotonic()
        for remote in _remotes(shapes) - self._paths.keys():
            link = await self._host.ways.mtu(remote)
            self._paths.setdefault(remote, PathMtu(remote.version, link, self._intervals, now))
        self._leave(tunnel.name)
        self._shapes[tunnel.name] = shapes
        for shape in shapes:
            if shape.remote is not None and _follows(tunnel, shape.remote):
                self._at.setdefault(shape.remote, set()).add(tunnel.name)
        self._mtus[tunnel.name] = self._inner(tunnel)

    def _leave(self, tunnel: str) -> None:
        for remote in _remotes(self._shapes.get(tunnel, ())):
            self._at.get(remote, set()).discard(tunnel)

    def _inner(self, tunnel: Tunnel) -> int:
        """The largest inner packet that fits, in octets."""
        if tunnel.packets.mtu:
            return tunnel.packets.mtu
        found = []
        for suite, udp, remote in self._shapes[tunnel.name]:
            path = self._paths[remote] if remote is not None else None
            outer = OUTER_MTU if path is None else path.outer if _follows(tunnel, remote) else path.link
            version = 4 if remote is None else remote.version
            found.append(inner_mtu(outer, suite, "udp" if udp else "esp", version))
        return min(found)

    # ---- who has to know

    def _wanted_of_host(self) -> dict[str, int]:
        """The largest packet that the kernel is to hand over, by tunnel: more than fits where the outer packet is fragmented."""
        wanted = {}
        for tunnel in self._config.tunnels:
            mtu = self._mtus[tunnel.name]
            if tunnel.packets.fragment == "after" and not tunnel.packets.mtu:
                links = [self._paths[s.remote].link for s in self._shapes[tunnel.name] if s.remote is not None]
                mtu = max([mtu, *links])
            wanted[tunnel.name] = mtu
        return wanted

    def _tell_plane(self, name: str) -> None:
        if self._plane is not None and name in self._numbers():
            self._plane.set_tunnel(self._numbers()[name], settings_of(self._config.tunnel(name).packets, self._mtus[name]))

    def _tell(self, name: str) -> None:
        """The data plane at once, interfaces and routes together with others that change now."""
        self._tell_plane(name)
        if not self._telling:
            self._telling = True
            self._spawn(self._tell_host())

    async def _tell_host(self) -> None:
        await asyncio.sleep(self._intervals.together_s)
        self._telling = False
        try:
            await self._host.apply_mtus(self._wanted_of_host())
        except IpsecDpError as error:
            log.warning("MTU: %s", error)

    def _changed(self, remote: Address, why: str) -> None:
        path = self._paths[remote]
        log.info("path to %s: MTU %d octets: %s", remote, path.outer, why)
        self._listen(remote, path)
        for name in filter(self._config.has_tunnel, self._at.get(remote, ())):
            tunnel = self._config.tunnel(name)
            mtu = self._inner(tunnel)
            if mtu != self._mtus[name]:
                self._mtus[name] = mtu
                if mtu < IPV6_MTU_MIN and any(selector.version == 6 for selector in tunnel.selectors):
                    log.info(
                        'tunnel "%s": an MTU of %d octets: longer IPv6 packets are fragmented outside (RFC 8200 §5)', name, mtu
                    )
                self._tell(name)

    def _listen(self, remote: Address, path: PathMtu) -> None:
        """Where IPv6 of 1280 octets no longer fits whole into bare ESP, the kernel is to fragment it, and must hear of the path."""
        shapes = [shape for name in self._at.get(remote, ()) for shape in self._shapes[name] if shape.remote == remote]
        wanted = remote.version == 6 and any(
            not shape.udp and inner_mtu(path.outer, shape.suite, "esp", 6) < IPV6_MTU_MIN for shape in shapes
        )
        if wanted and remote not in self._listeners:
            try:
                self._listeners[remote] = too_big.listener(remote)
            except HostError as error:
                log.warning("%s: IPv6 packets of 1280 octets may be lost on a path of %d", error, path.outer)
        elif not wanted and remote in self._listeners:
            self._listeners.pop(remote).close()

    # ---- ICMP

    def _readable(self, source: socket.socket, version: int) -> None:
        for _ in range(MESSAGES_AT_ONCE):
            try:
                message = source.recv(too_big.MESSAGE_MAX)
            except OSError:  # no more
                return
            self._messages += 1
            said = too_big.READERS[version](message)
            if said is not None:
                self._reported(said)
            if self._messages > MESSAGES_A_SECOND:
                self._pause(source, version)
                return

    def _pause(self, source: socket.socket, version: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(source.fileno())

        def again() -> None:
            self._messages = 0
            if source in self._sockets:
                loop.add_reader(source.fileno(), self._readable, source, version)

        loop.call_later(1.0, again)

    def _reported(self, said: too_big.TooBig) -> None:
        """Believed when an SA that sends between these two addresses has used the quoted sequence number in the last seconds."""
        path = self._paths.get(said.remote)
        if path is None or self._sad is None:
            return
        if not self._sad.sent_recently(said.spi, said.sequence, said.local, said.remote):
            log.debug("ICMP says that %s takes %d octets, but quotes nothing that was sent lately", said.remote, said.mtu)
        elif path.reported(said.mtu, time.monotonic()):
            self._changed(said.remote, "a hop on the way says so")

    # ---- time and probes

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._intervals.tick_s)
            self._messages = 0
            busy = self._busy()
            self._quiet_ticks = 0 if busy else self._quiet_ticks + 1
            if self._quiet_ticks % QUIET_TICKS == 0:
                await self._look_at_links()
            now = time.monotonic()
            for remote, path in list(self._paths.items()):
                if now >= path.due and (busy or not path.waits_for_traffic):
                    self._ask(remote, path, now)

    def _busy(self) -> bool:
        """Whether anything at all was sent since the last tick."""
        before, self._packets_out = self._packets_out, 0 if self._plane is None else self._plane.counters().packets_out
        return self._packets_out != before

    async def _look_at_links(self) -> None:
        """The host's own MTUs change too; a few peers have their turn each time."""
        remotes = list(self._paths)
        chosen = [remotes[(self._turn + i) % len(remotes)] for i in range(min(REFRESHED_AT_ONCE, len(remotes)))]
        self._turn += len(chosen)
        for remote in chosen:
            link, path = await self._host.ways.mtu(remote), self._paths[remote]
            before = path.outer
            path.link_is(link, time.monotonic())
            if path.outer != before:
                self._changed(remote, "the first hop's")
            self._listen(remote, path)  # others follow this path now

    def _ask(self, remote: Address, path: PathMtu, now: float) -> None:
        names = [
            name
            for name in self._at.get(remote, ())
            if self._config.has_tunnel(name) and self._config.tunnel(name).auth is not None
        ]
        if not names or self._ike is None:
            if path.aged(now):
                self._changed(remote, "no hop said otherwise for a while")
            return
        size = path.next_probe(now, active=self._active(remote))
        if size is not None and not any(self._ike.probe(name, size, self._intervals.probe_s) for name in names):
            path.not_sent(now)

    def _active(self, remote: Address) -> bool:
        numbers = self._numbers()
        before, sent = (
            self._sent.get(remote, 0),
            sum(self._sad.sent(numbers[name]) for name in self._at[remote]) if self._sad else 0,
        )
        self._sent[remote] = sent
        return sent != before

    def probed(self, result: ProbeResult) -> None:
        """A probe has arrived, or got lost though the peer is there."""
        for remote in _remotes(self._shapes.get(result.tunnel, ())):
            path = self._paths[remote]
            before = path.outer
            path.probed(result.asked, result.octets, time.monotonic(), passed=result.passed)
            if path.outer != before:
                arrived = "arrived" if result.passed else "was lost"
                self._changed(remote, f"a probe of {result.octets} octets {arrived}")


def _remotes(shapes: Iterable[Shape]) -> set[Address]:
    return {shape.remote for shape in shapes if shape.remote is not None}


def _follows(tunnel: Tunnel, remote: Address | None) -> bool:
    """Whether its outer packets must fit the path: a fixed MTU is taken as it is, and without DF routers fragment IPv4."""
    return not tunnel.packets.mtu and (tunnel.packets.df != "clear" or remote is None or remote.version == 6)
