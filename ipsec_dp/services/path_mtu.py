"""Path MTU discovery: what the paths to the peers take, by messages and probes, for everything that depends on it.

Data plane, interfaces and routes learn each tunnel's MTU; the kernel then sends "too big" by itself. `path_mtu_state` holds what is
believed of each path, `tunnel_mtu` what follows for the tunnels; here are their clock, the ICMP messages (believed only when they
quote what an SA sent in the last seconds) and the probes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

from ipsec_dp.config.packets import IPV6_MTU_MIN
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.ike.suites import suites_of
from ipsec_dp.network.peer_routes import OUTER_MTU
from ipsec_dp.services.path_mtu_state import Intervals, PathMtu, PathMtuState, TunnelMtus
from ipsec_dp.services.tunnel_mtu import WHOLE, MtuTable, OuterEnds, OuterShape, asks_ports, ends_of, settings_of
from ipsec_dp.util.leaves import Here
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.rest import Rest
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.tasks import Tasks
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.sad_events import SendRefusal
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.host.too_big import TooBig
    from ipsec_dp.ike.actions import ProbeResult
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.network.host import Closable, Host
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

INTERVALS = Intervals()
REFRESHED_AT_ONCE = 32  # peers whose first hop is looked at again in one tick
REST = 10.0  # between two times that the host gets the MTUs of all tunnels, in times of what that takes
QUIET_TICKS = 5  # between two looks at the links where nothing is sent
BLACK_HOLES = "MTU black holes"
BLACK_HOLE = (
    "path to {}: longer packets are lost on the way and no ICMP message says so (an MTU black hole); its tunnels send shorter ones "
    "by themselves: have the firewalls between let ICMP (fragmentation needed, packet too big) through, or write a smaller mtu"
)


class CarriedMtus(Struct, frozen=True, forbid_unknown_fields=True):
    """`paths`: the peer, our address towards it, and what is known; `tunnels`: the largest inner packet, in octets."""

    paths: Here[list[tuple[str, str | None, PathMtuState]]]
    tunnels: Here[dict[str, int]]


class PathMtuDiscovery:
    """A service. `numbers` gives the tunnels' numbers in the data plane."""

    name = "MTU"

    def __init__(self, config: Config, host: Host, numbers: Callable[[], Mapping[str, int]], clock: Clock) -> None:
        self._config, self._host, self._numbers, self._clock = config, host, numbers, clock
        self._intervals = INTERVALS
        self._mtus = MtuTable()
        self._applied: dict[str, Tunnel] = {}  # the tunnels as the last `apply` took them over
        self._unused: dict[OuterEnds, float] = {}  # paths that no SA goes by, and since when
        self._sent: dict[OuterEnds, int] = {}  # what SAs had sent by a path when it was last looked at
        self._packets_out = -1
        self._plane: DataPlane | None = None
        self._sad: Sad | None = None
        self._ike: IkeDriver | None = None
        self._tasks = Tasks()
        self._asked: set[OuterEnds] = set()  # paths whose first hop is asked for anew now
        self._messages: Closable | None = None
        self._listeners: dict[OuterEnds, Closable] = {}  # by path: `_listen`
        self._news: deque[tuple[str, AbstractSet[OuterShape], AbstractSet[OuterShape]]] = deque()
        self._next_link = 0
        self._quiet_ticks = 0
        self._host_waits = False  # the host is about to get MTUs that changed
        self._host_rest = Rest(clock, REST, self._intervals.together_s)

    # ---- life

    async def first(self) -> None:
        """Before anything is negotiated: what fits under every suite that may be. Interfaces get it."""
        async for tunnel in in_slices(self._config.tunnels):
            shapes = await self._first_shapes(tunnel)
            await self._add_paths(shapes)
            self._mtus.assume(tunnel, shapes)
            self._applied[tunnel.name] = tunnel
        await self._host.interfaces.set_mtus(self._mtus.of_host(self._config))

    # ---- from another process, and to one

    def export(self) -> CarriedMtus:
        """What is known of paths, and what tunnels have of it."""
        return CarriedMtus(
            paths=[
                (str(ends.remote), None if ends.local is None else str(ends.local), path.export())
                for ends, path in self._mtus.paths.items()
            ],
            tunnels={name: self._mtus[name] for name in self._mtus},
        )

    async def take(self, carried: CarriedMtus, plane: DataPlane) -> None:
        """Instead of `first`, while another process has the interfaces still: the data plane gets what tunnels had there. Raises
        ValueError, KeyError: it says what cannot be."""
        self.renew(carried, plane)
        async for tunnel in in_slices(self._config.tunnels):
            shapes = await self._first_shapes(tunnel)
            await self._add_paths(shapes)
            self._mtus.assume(tunnel, shapes)

    def renew(self, carried: CarriedMtus, plane: DataPlane) -> None:
        """What became of it since: before anything is negotiated. As `take`."""
        now = self._clock.now()
        for remote, local, state in carried.paths:
            ends = OuterEnds(ip_address(remote), None if local is None else ip_address(local))
            self._mtus.paths[ends] = PathMtu.resumed(ends.remote.version, state, self._intervals, now)
        for tunnel in self._config.tunnels:
            if (mtu := carried.tunnels.get(tunnel.name)) is not None:
                plane.set_tunnel(self._numbers()[tunnel.name], settings_of(tunnel.packets, mtu))

    async def settled(self) -> None:
        """Comes back when what was negotiated until now is known: `begin` may follow."""
        await self._tasks.done()

    async def first_of(self, tunnel: Tunnel) -> int:
        """What an interface needs for a tunnel that is new or begins anew, before `apply` takes it over; octets."""
        if asks_ports(tunnel):
            return WHOLE
        mtus = []
        for shape in await self._first_shapes(tunnel):
            outer = OUTER_MTU if shape.ends is None else await self._host.peers.mtu(*shape.ends)
            mtus.append(shape.inner(outer))
        return tunnel.packets.mtu or min(mtus)

    async def _first_shapes(self, tunnel: Tunnel) -> set[OuterShape]:
        suites = [tunnel.manual.suite] if tunnel.manual is not None else suites_of(tunnel.esp.proposals)
        ends = await self._host.peers.first_ends(tunnel) or (None, None)
        return {OuterShape(suite, tunnel.encapsulation != "esp", *ends) for suite in suites}

    def begin(self, plane: DataPlane, sad: Sad, ike: IkeDriver | None) -> None:
        """Sets up the data plane, and watches the paths until `close`."""
        self._plane, self._sad, self._ike = plane, sad, ike
        for name in self._mtus:
            self._set_plane(name)
        self._messages = self._host.reports.packets_too_big(self._reported)
        self._tasks.begin(Rounds("path MTUs", self._host.conditions, self._clock).run(self._tick))

    async def apply(self, config: Config) -> None:
        """Takes a changed configuration over: what is negotiated stays."""
        changed = [tunnel for tunnel in config.tunnels if self._applied.get(tunnel.name) is not tunnel]
        async for tunnel in in_slices(changed):
            await self._take_over(tunnel)
        self._config = config
        self._mtus.forget(config)
        self._host.conditions.become(self.name, {})
        for name in [name for name in self._applied if not config.has_tunnel(name)]:
            del self._applied[name]
        async for tunnel in in_slices(changed):
            self._set_plane(tunnel.name)
            self._applied[tunnel.name] = tunnel
        await asyncio.sleep(0)
        await self._host.apply_mtus(self._mtus.of_host(config))

    async def close(self) -> None:
        await self._tasks.end()
        if self._messages is not None:
            self._messages.close()
        for each in self._listeners.values():
            each.close()
        self._listeners.clear()
        self._messages = self._plane = self._sad = self._ike = None

    # ---- what is known of tunnels

    @property
    def paths(self) -> AbstractSet[OuterEnds]:
        """Those of which something is known."""
        return self._mtus.paths.keys()

    def status(self, tunnel: str) -> TunnelMtus:
        """Of `status`."""
        return self._mtus.status(tunnel)

    def negotiated(self, tunnel: Tunnel, came: set[OuterShape], gone: AbstractSet[OuterShape] = frozenset()) -> None:
        """CHILD_SAs of a tunnel were installed or removed: the first with these shapes, the last with those."""
        if came or gone:
            self._news.append((tunnel.name, came, gone))
            if len(self._news) == 1:
                self._tasks.begin(self._take_news())

    async def _take_news(self) -> None:
        """In their order, the tunnel of each as it is configured by then."""
        while self._news:
            name, came, gone = self._news[0]
            await self._add_paths(came)
            if self._config.has_tunnel(name):
                self._mtus.change_shapes(self._config.tunnel(name), came, gone)
                self._publish(name)
            self._news.popleft()

    async def _take_over(self, tunnel: Tunnel) -> None:
        """A tunnel that is new, or configured otherwise."""
        present = set(self._mtus.shapes(tunnel.name))
        if present:
            self._mtus.reconsider(tunnel)
            return
        shapes = await self._first_shapes(tunnel)
        await self._add_paths(shapes)
        self._mtus.assume(tunnel, shapes)

    async def _add_paths(self, shapes: AbstractSet[OuterShape]) -> None:
        now, paths, used = self._clock.now(), self._mtus.paths, ends_of(shapes)
        for ends in used:
            self._unused.pop(ends, None)
        for ends in [ends for ends in used if ends not in paths]:
            link = await self._host.peers.mtu(*ends)
            paths.setdefault(ends, PathMtu(ends.remote.version, link, self._intervals, now))

    # ---- who needs to know

    def _set_plane(self, name: str) -> None:
        if self._plane is not None and name in self._numbers():
            self._plane.set_tunnel(self._numbers()[name], settings_of(self._config.tunnel(name).packets, self._mtus[name]))

    def _publish(self, name: str) -> None:
        """The data plane gets a tunnel's MTU at once, interfaces and routes together with others that change now."""
        self._set_plane(name)
        if not self._host_waits:
            self._host_waits = True
            self._tasks.begin(self._set_host())

    async def _set_host(self) -> None:
        await self._clock.sleep(self._host_rest.seconds)
        self._host_waits = False
        try:
            with self._host_rest.work():
                await self._host.apply_mtus(self._mtus.of_host(self._config))
        except IpsecDpError as error:
            log.warning("MTU: %s", error, extra=told("mtu_failed"))

    def _changed(self, ends: OuterEnds, why: str) -> None:
        log.info(
            "path to %s: MTU %d octets: %s",
            ends,
            self._mtus.paths[ends].outer,
            why,
            extra=told("path_mtu", octets=self._mtus.paths[ends].outer),
        )
        self._listen(ends)
        self._tell_black_hole(ends)
        for name in filter(self._config.has_tunnel, self._mtus.bound(ends)):
            tunnel = self._config.tunnel(name)
            if self._mtus.update(tunnel, ends):
                mtu = self._mtus[name]
                if mtu < IPV6_MTU_MIN and any(selector.version == 6 for selector in tunnel.selectors):
                    log.info(
                        'tunnel "%s": an MTU of %d octets: longer IPv6 packets are fragmented outside (RFC 8200 §5)',
                        name,
                        mtu,
                        extra=told("fragmented_outside", tunnel=name, octets=mtu),
                    )
                self._publish(name)

    def _tell_black_hole(self, ends: OuterEnds) -> None:
        if self._mtus.paths[ends].black_hole:
            self._host.conditions.begin(BLACK_HOLES, str(ends), BLACK_HOLE.format(ends))
        else:
            self._host.conditions.end(BLACK_HOLES, str(ends))

    def _listen(self, ends: OuterEnds) -> None:
        """Where bare ESP over IPv6 must be fragmented, the kernel is to do it, and must learn its MTU."""
        wanted = self._mtus.needs_fragments(ends)
        if wanted and ends not in self._listeners:
            try:
                self._listeners[ends] = self._host.reports.hear_too_big(*ends)
            except IpsecDpError as error:
                outer = self._mtus.paths[ends].outer
                log.warning(
                    "%s: packets that do not fit may be lost on a path of %d octets", error, outer, extra=told("mtu_unheard")
                )
        elif not wanted and ends in self._listeners:
            self._listeners.pop(ends).close()

    # ---- ICMP

    def _reported(self, message: TooBig) -> None:
        """Believed when an SA that sends between these two addresses has used the quoted sequence number in the last seconds."""
        ends = OuterEnds(message.remote, message.local)
        path = self._mtus.paths.get(ends)
        if path is None or self._sad is None:
            return
        if not self._sad.sent_recently(message.spi, message.sequence, message.local, message.remote):
            log.debug(
                "ICMP says that %s takes %d octets, but quotes nothing that was sent lately",
                message.remote,
                message.mtu,
                extra=told("icmp_ignored"),
            )
        elif path.reported(message.mtu, self._clock.now()):
            self._changed(ends, "a hop on the way says so")

    # ---- this host's own answer

    def refused(self, refusal: SendRefusal) -> None:
        """This host did not send an outer packet for its size: what its routes say now is asked for anew."""
        ends = OuterEnds(refusal.remote, refusal.local)
        if ends in self._mtus.paths and ends not in self._asked:
            self._asked.add(ends)
            self._tasks.begin(self._ask_host(ends, refusal.octets))

    async def _ask_host(self, ends: OuterEnds, octets: int) -> None:
        self._host.peers.forget()
        link = await self._host.peers.mtu(*ends)
        self._asked.discard(ends)
        path, now = self._mtus.paths.get(ends), self._clock.now()
        if path is None:
            return
        before = path.outer
        path.link_is(link, now)
        ours = {tunnel.interface for tunnel in self._config.tunnels}
        path.refused(octets, [mtu for name, mtu in self._host.peers.link_mtus().items() if name not in ours], now)
        if path.outer != before:
            self._changed(ends, f"this host sends no packet of {octets} octets")
        self._tell_fixed(ends)

    def _tell_fixed(self, ends: OuterEnds) -> None:
        """Tunnels whose MTU a person wrote do not follow the path: whoever wrote it must hear that it does not fit."""
        outer = self._mtus.paths[ends].outer
        for tunnel in self._config.tunnels:
            if tunnel.packets.mtu and ends in ends_of(self._mtus.shapes(tunnel.name)):
                text = (
                    f'tunnel "{tunnel.name}": mtu = {tunnel.packets.mtu} makes outer packets that this host does not send to '
                    f"{ends}, which takes {outer} octets: they are dropped (too_big); write a smaller mtu, or leave it out"
                )
                self._host.conditions.begin(self.name, tunnel.name, text)

    # ---- time and probes

    async def _tick(self) -> None:
        await self._clock.pause(self._intervals.tick_s, self._next_due)
        busy = self._busy()
        self._quiet_ticks = 0 if busy else self._quiet_ticks + 1
        if self._quiet_ticks % QUIET_TICKS == 0:
            await self._look_at_links()
        async for ends, path in in_slices(tuple(self._mtus.paths.items())):
            now = self._clock.now()
            if now >= path.due and (busy or not path.waits_for_traffic):
                self._ask(ends, path, now)

    def _next_due(self) -> float:
        """When something is to be asked although nothing is sent; inf: never."""
        return min((path.due for path in self._mtus.paths.values() if not path.waits_for_traffic), default=inf)

    def _busy(self) -> bool:
        """Whether anything at all was sent since the last tick."""
        before, self._packets_out = self._packets_out, 0 if self._plane is None else self._plane.counters().packets_out
        return self._packets_out != before

    async def _look_at_links(self) -> None:
        """The host's own MTUs change too; each call looks at a few peers, and the next one at those after them."""
        known = list(self._mtus.paths)
        chosen = [known[(self._next_link + i) % len(known)] for i in range(min(REFRESHED_AT_ONCE, len(known)))]
        self._next_link += len(chosen)
        for ends in chosen:
            if self._forgotten(ends):
                continue
            link, path = await self._host.peers.mtu(*ends), self._mtus.paths[ends]
            before = path.outer
            path.link_is(link, self._clock.now())
            if path.outer != before:
                self._changed(ends, "MTU of the first hop")
                self._host.conditions.become(self.name, {})
            self._listen(ends)  # other tunnels may use this path now

    def _forgotten(self, ends: OuterEnds) -> bool:
        """A path that no SA has gone by for a while is forgotten: peers that call from anywhere leave many behind."""
        if self._mtus.used(ends):
            self._unused.pop(ends, None)
            return False
        now = self._clock.now()
        if now - self._unused.setdefault(ends, now) < self._intervals.raise_s:
            return False
        for known in (self._mtus.paths, self._unused, self._sent):
            known.pop(ends, None)
        if ends in self._listeners:
            self._listeners.pop(ends).close()
        self._host.conditions.end(BLACK_HOLES, str(ends))
        return True

    def _ask(self, ends: OuterEnds, path: PathMtu, now: float) -> None:
        names = [
            name for name in self._mtus.bound(ends) if self._config.has_tunnel(name) and self._config.tunnel(name).auth is not None
        ]
        if not names or self._ike is None:
            if path.aged(now):
                self._changed(ends, "no hop said otherwise for a while")
            return
        size = path.next_probe(now, active=self._active(ends))
        if size is not None and not any(self._ike.probe(name, size, self._intervals.probe_s) for name in names):
            path.not_sent(now)

    def _active(self, ends: OuterEnds) -> bool:
        """Whether SAs sent anything by a path since the last call."""
        sent = 0 if self._sad is None else self._sad.sent(*ends)
        before, self._sent[ends] = self._sent.get(ends, 0), sent
        return sent != before

    def probed(self, result: ProbeResult) -> None:
        """A probe has arrived, or was lost although the peer is there."""
        for ends in ends_of(self._mtus.shapes(result.tunnel)):
            path = self._mtus.paths[ends]
            before = path.outer
            path.probed(result.asked, result.octets, self._clock.now(), passed=result.passed)
            if path.outer != before:
                arrived = "arrived" if result.passed else "was lost"
                self._changed(ends, f"a probe of {result.octets} octets {arrived}")
