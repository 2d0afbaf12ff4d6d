"""The successor: a process that takes the place of another gateway's, with its devices, its SAs and all that it knows.

Everything that can fail is done before it says that it is prepared, while the other one forwards, and changes nothing in the
kernel. Then the SAs come, and this process is alone: it forwards at once. IKE comes after them; what belongs to no IKE SA then
ends, so that no SA stays whose keys nobody renews. Only when the other process has gone is what it kept in the kernel compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp import __version__
from ipsec_dp.config.named_files import KeptKeys
from ipsec_dp.databases.sad import Sad
from ipsec_dp.databases.sad_shape import SadShape, StandingSad
from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.control_place import InheritedPlace
from ipsec_dp.gateway.privileges import Privileges
from ipsec_dp.gateway.root_requests import RootHelper
from ipsec_dp.gateway.upgrade import configuration
from ipsec_dp.gateway.upgrade import sas as carried
from ipsec_dp.gateway.upgrade.messages import (
    Forwards,
    GatewayOffer,
    GivenIke,
    GivenSas,
    GivenState,
    GoesOn,
    LeftBehind,
    Message,
    MessageKind,
    Ready,
    SasPrepared,
    UpgradeRefused,
    body_of,
    message_of,
)
from ipsec_dp.gateway.upgrade.settling import STEP_S, read_ike, settled, without
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError
from ipsec_dp.gateway.upgrade.waiting import wait_on
from ipsec_dp.host.drop import end_with_nobody
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.keying.manual import ManualSas
from ipsec_dp.network.inheritance import Descriptors
from ipsec_dp.network.linux_host import LinuxHost
from ipsec_dp.util.collection import no_full_collection
from ipsec_dp.util.faults import unexpected
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack
    from pathlib import Path

    from msgspec import Struct

    from ipsec_dp.config import Config
    from ipsec_dp.config.difference import ReadRequest
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.gateway.composition import Composition, Engine
    from ipsec_dp.gateway.control import ControlServer
    from ipsec_dp.gateway.control_place import ListeningPlace
    from ipsec_dp.gateway.reload import Reloader
    from ipsec_dp.gateway.upgrade.waiting import WaitingPacket
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

OFFER_S: Final = 90.0
STATE_S: Final = 60.0  # from ready on, for each of what comes then
IKE_S: Final = 30.0  # for each piece of it
IKE_EACH_S: Final = 0.002  # more for each CHILD_SA, before the first: the other process looks at all of them then
SAY_S: Final = 10.0
GONE_S: Final = 10.0  # for the other process to end
NS_PER_MS: Final = 1e6
NAMED_MOST: Final = 3


class Successor:
    """What came with the offer. `close` gives up what nobody took."""

    def __init__(
        self, channel: HandOverChannel, offer: GatewayOffer, descriptors: list[int], close: Callable[[int], object]
    ) -> None:
        self._channel, self.offer, self.descriptors = channel, offer, Descriptors(descriptors, close)
        self.alone = False  # the other process has given its SAs away
        self.keys = KeptKeys()  # of the configuration, until its peers are made
        self.engine: Engine | None = None  # that forwards, from when it settles
        self._file: Config | None = None  # what it says, where that is not in force
        self.changes: str | None = None
        self.lives: Callable[[float], object] = lambda _: None  # what comes next may take so many seconds

    @classmethod
    def receive(cls, channel: HandOverChannel, close: Callable[[int], object]) -> Successor:
        """Raises HandOverError, which the other process has heard."""
        try:
            got = channel.receive(seconds=OFFER_S)
            try:
                offer = message_of(got.kind, got.body, GatewayOffer)
            except HandOverError:
                got.close()
                raise
        except HandOverError as error:
            with contextlib.suppress(HandOverError):
                channel.send(MessageKind.REFUSED, body_of(UpgradeRefused(str(error))), seconds=SAY_S)
            raise
        got.body[:] = bytes(len(got.body))
        return cls(channel, offer, got.descriptors, close)

    def refuse(self, why: str) -> None:
        """The other process goes on. It may be gone."""
        if not self.alone:
            with contextlib.suppress(HandOverError):
                self._channel.send(MessageKind.REFUSED, body_of(UpgradeRefused(why)), seconds=SAY_S)

    def close(self) -> None:
        self.keys.wipe()
        self.descriptors.close()
        self._channel.close()

    # ---- what is needed before there is a gateway

    def privileges(self) -> Privileges:
        """Raises HandOverError."""
        helper = self.offer.helper
        if helper is None:
            return Privileges.inherited(None, __version__, self.offer.offload_faults)
        inherited = RootHelper.inherited(self.descriptors.take(helper.channel), helper.process)
        return Privileges.inherited(inherited, helper.program, self.offer.offload_faults)

    def config(self, path: Path, learn: Callable[[ReadRequest], bool] = lambda _: False) -> Config:
        """What is in force. What the file says since then is taken over later (`take_file`). Raises IpsecDpError."""
        with no_full_collection():
            found = configuration.read(self.offer, path, learn, self.keys)
        self._file, self.changes = found.file, found.changes
        return found.in_force

    async def take_file(self, reloader: Reloader, conditions: Conditions) -> None:
        """Once everything else is settled. What comes of it is in the log, and what goes wrong in `status`."""
        if self._file is not None:
            await configuration.take_over(self._file, reloader, conditions)

    def place(self, otherwise: Callable[[Path, str | None], ListeningPlace]) -> Callable[[Path, str | None], ListeningPlace]:
        """Who makes the control socket: it is there."""
        listening = socket.socket(fileno=self.descriptors.take(self.offer.listening))
        return lambda path, group: InheritedPlace(listening, otherwise(path, group))

    # ---- with a gateway

    async def take(
        self, parts: Composition, stack: AsyncExitStack, control: ControlServer, lives: Callable[[float], object]
    ) -> Engine:
        """Instead of a start. Raises IpsecDpError: before the state came nothing has happened. `lives` is told from then on, when
        this process is the service manager's, what it has got done: how many seconds what comes next may take."""
        self.lives = lives
        host = parts.host
        if not isinstance(host, LinuxHost):
            raise HandOverError("this gateway has no sockets or interfaces that could be taken")
        with parts.substitutes.starting():
            engine, manual, standing = await self._prepare(parts, stack, host)
        await self._send(MessageKind.READY, Ready(__version__, record_layout()))
        shape = await self._next(SadShape)
        with no_full_collection():
            failed = standing.take(shape)
        if failed:
            raise HandOverError("; ".join(failed[:NAMED_MOST]))
        await self._send(MessageKind.PREPARED, SasPrepared(len(standing.handles)))
        given = await self._next(GivenSas)
        with no_full_collection():
            left_out = self._forward(parts, host, engine, standing, given)
            gap_ms = (time.monotonic_ns() - given.stopped) / NS_PER_MS
            with contextlib.suppress(HandOverError):  # it has gone, and no IKE SA comes
                self._channel.send(MessageKind.FORWARDS, body_of(Forwards(len(engine.sad.records))), seconds=SAY_S)
            self.lives(IKE_S)
            left_out += self.go_on(parts, engine, manual)
        counters = engine.core.counters()
        goes_on = GoesOn(
            gap_ms=gap_ms,
            ike_sas=counters.sessions,
            child_sas=len(engine.sad.children),
            left_out=left_out,
            changes=self.changes,
        )
        with contextlib.suppress(HandOverError):  # it has gone: this process is alone in any case
            self._channel.send(MessageKind.GOES_ON, body_of(goes_on), seconds=SAY_S)
        manual.warn(parts.config.tunnels)
        await self._settle(parts, stack, host, engine, control)
        return engine

    async def _send(self, kind: MessageKind, message: Any) -> None:
        await asyncio.to_thread(self._channel.send, kind, body_of(message), seconds=SAY_S)

    async def _prepare(self, parts: Composition, stack: AsyncExitStack, host: LinuxHost) -> tuple[Engine, ManualSas, StandingSad]:
        """All that needs no SAs."""
        parts.spd.number_as(self.offer.numbers, parts.config)
        plane, offer = parts.data_plane(), self.offer
        stack.callback(plane.close)
        if plane.sa_slots != offer.sa_slots:
            raise HandOverError(f"this program has room for {plane.sa_slots} SAs, and the other for {offer.sa_slots}")
        plane.pause_receiving()
        await host.take(offer.host, self.descriptors)
        host.interfaces.attach_taken(stack, plane, parts.spd)
        try:
            await parts.mtus.take(offer.mtus, plane)
        except (KeyError, ValueError) as error:
            raise HandOverError(f"the MTUs that were offered cannot be: {error}") from None
        plane.install_policy(parts.spd.snapshot())
        sad, links = Sad(plane, parts.clock.now, parts.clock.random), host.outer_links(plane)
        stack.callback(links.close)
        links.open_taken()
        manual = ManualSas(sad, parts.spd, parts.clock.random)
        for tunnel in parts.config.tunnels:
            if tunnel.manual is not None:
                manual.paths[tunnel.name] = await host.peers.path(tunnel, links)
        ike = parts.ike_driver(plane, sad, links, self.keys)
        self.keys.wipe()  # what a tunnel that is not in force yet names
        for local in links.taken_ike:  # nothing reads them before the workers start
            ike.listen(local)
        engine = parts.make_engine(plane, sad, links, manual, ike)
        if engine.core.ikev1 is not None:
            from ipsec_dp.ike.carried import ikev1_import  # noqa: F401 - it is there when the state comes
        return engine, manual, StandingSad(sad, parts.spd.tunnel_numbers, parts.spd.interface_of, links.link)

    async def _next(self, expected: type[Message]) -> Message:
        """HandOverError: the other process goes on, or has gone."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._channel.fileno(), readable.set)
        try:
            async with asyncio.timeout(STATE_S):
                await readable.wait()
        except TimeoutError:
            raise HandOverError("the other process did not go on in time") from None
        finally:
            loop.remove_reader(self._channel.fileno())
        got = self._channel.receive(seconds=SAY_S)
        try:
            return message_of(got.kind, got.body, expected)
        finally:
            self.alone = got.kind == MessageKind.SAS  # whatever is wrong with it: the other one has nothing left
            if self.alone:
                end_with_nobody()
            got.close()

    def _forward(
        self, parts: Composition, host: LinuxHost, engine: Engine, standing: StandingSad, given: GivenSas
    ) -> list[LeftBehind]:
        """What is wrong with an SA is named, and nothing of it ends this. From here to the end of `go_on` it is one turn of the
        event loop, so that IKE does nothing before it has its state."""
        plane = engine.plane
        without("counters", lambda: plane.import_counters(given.counters))
        without("flows", lambda: plane.import_flows(given.flows))

        def wait(waiting: list[WaitingPacket]) -> None:
            without("packets", lambda: wait_on(waiting, plane, parts.spd, host.links.number, parts.clock.now()))

        left_out = carried.taken(engine.sad, standing, given, wait)
        host.start_loops(plane)
        without("a device", plane.resume_receiving)  # the others are read
        parts.upgraded_at = parts.clock.utc().isoformat(timespec="milliseconds")
        return left_out

    def heard(self, expected: type[Message], more: float = 0.0) -> Message | str:
        """What comes of IKE now, within IKE_S and `more`. Why nothing does: the other process could not export it, or has gone."""
        try:
            with contextlib.closing(self._channel.receive(seconds=IKE_S + more, waiting=partial(self.lives, IKE_S))) as got:
                said: Struct = message_of(got.kind, got.body, expected, UpgradeRefused)
        except HandOverError as error:
            return str(error)
        return said if isinstance(said, expected) else getattr(said, "why", "")

    def go_on(self, parts: Composition, engine: Engine, manual: ManualSas) -> list[LeftBehind]:
        """While packets pass. What cannot be taken is named; an SA that no IKE SA has ends."""
        left_out, sad = list[LeftBehind](), engine.sad
        by_hand = {tunnel.name for tunnel in parts.config.tunnels if tunnel.manual is not None}
        expected, sad.expected = sad.expected, {}
        with sad.adopting() as unowned:
            state = self.heard(GivenState, IKE_EACH_S * len(sad.children))
            if isinstance(state, str):
                left_out.append(LeftBehind("", f"all IKE SAs: {state}"))
            else:
                self._take_beside(parts, engine.plane, state)
                left_out += self.take_ike(engine, state)
            engine.ike.begin_anew()
        ended = sad.end_unowned(unowned, {parts.spd.tunnel_numbers[name] for name in by_hand})
        if ended:
            log.info(
                "%d SAs belong to no IKE SA that came along, and end", len(ended), extra=told("upgrade_rest", count=len(ended))
            )
        for spi in expected.keys() - sad.expected.keys():
            sad.release_spi(spi)
        left_out += [
            LeftBehind(name, "its keys are set by hand, and its SAs did not come along")
            for name in by_hand
            if not manual.is_up(name)
        ]
        read_ike(engine.plane, parts.host.conditions)
        return left_out

    def _take_beside(self, parts: Composition, plane: DataPlane, state: GivenState) -> None:
        """What neither IKE nor packets need at once."""
        host, numbers = parts.host, parts.spd.tunnel_numbers
        if isinstance(host, LinuxHost):
            without("interfaces", lambda: host.interfaces.renew_taken(state.host.tuns, state.host.mtus))
        for name in state.traffic.keys() & numbers.keys():
            without("traffic", partial(plane.import_traffic, numbers[name], state.traffic[name]))
        without("counts of IKE", lambda: parts.counts.take(state.counts))
        without("MTUs", lambda: parts.mtus.renew(state.mtus, plane))  # they are what they were when they were offered
        without("monitors", lambda: parts.monitors.take(state.monitors, frozenset(state.host.withdrawn)))

    def take_ike(self, engine: Engine, state: GivenState) -> list[LeftBehind]:
        """Each piece, while the other process makes the next one."""

        def claim(spi: int) -> None:
            with contextlib.suppress(DataPlaneError):  # then its exchange comes to nothing, and is begun anew
                engine.sad.claim_spi(spi)

        left_out: list[LeftBehind] = []
        with contextlib.suppress(ValueError):  # then it is found out anew
            engine.ike.take_findings(state.findings)
        engine.ike.take_intents(state.intents)
        for piece in range(state.pieces):
            given = self.heard(GivenIke)
            if isinstance(given, str):
                left_out.append(LeftBehind("", f"{'further' if piece else 'all'} IKE SAs: {given}"))
                break
            try:
                taken = engine.ike.take(engine.core, given.ike, given.intents, claim)
                left_out += [LeftBehind(each.tunnel, each.why) for each in taken]
            except Exception as error:  # noqa: BLE001 - as in `without`: those of the other pieces go on
                why = str(error) if isinstance(error, IkeError) else str(unexpected("taking a piece of the IKE SAs", error))
                log.warning("a piece of the IKE SAs did not come along: %s", why, extra=told("upgrade_not_taken"))
                left_out += [LeftBehind(each, why) for each in given.intents]
                without("what is wanted of tunnels", partial(engine.ike.take_intents, given.intents))
            self.lives(IKE_S)
        return left_out

    async def _settle(
        self,
        parts: Composition,
        stack: AsyncExitStack,
        host: LinuxHost,
        engine: Engine,
        control: ControlServer,
    ) -> None:
        """Everything else that a gateway does, from now on."""
        self.engine = engine
        self.lives(STEP_S)
        engine.events.listen(stack)
        engine.ike.go_on(stack)
        engine.housekeeping.start(stack)
        stack.callback(host.reports.machine_clones(engine.clone_watch.cloned).close)
        stack.callback(host.reports.unreachable(engine.ike.unreachable).close)
        await parts.mtus.settled()
        parts.mtus.begin(engine.plane, engine.sad, engine.ike)
        stack.push_async_callback(parts.mtus.close)
        if not await asyncio.to_thread(self._channel.wait_end, GONE_S):
            log.warning("the process before this one has not ended", extra=told("upgrade_lingers"))
        self._channel.close()  # it may be full of keys that nobody reads any more
        self.lives(STEP_S)
        engine.drop_watch.start(stack)
        stack.callback(engine.plane.stop)
        await control.start()
        without("the socket of metrics", lambda: self._take_metrics(parts))
        stack.push_async_callback(parts.metrics.close)
        stack.push_async_callback(parts.services.close)
        await settled(
            host.conditions,
            engine.reloader,
            {
                "metrics": partial(parts.metrics.apply, parts.config),
                "guard, zones and rules": host.go_on,
                "routes": partial(host.routing.start, stack),
                "services": partial(parts.services.apply, parts.config),
                "addresses for IKE": partial(_listen, parts, engine),
            },
            self.lives,
        )

    def _take_metrics(self, parts: Composition) -> None:
        if self.offer.metrics is not None:
            parts.metrics.take(socket.socket(fileno=self.descriptors.take(self.offer.metrics)))


async def _listen(parts: Composition, engine: Engine) -> None:
    for local in await parts.host.peers.listen_at(parts.config.tunnels):
        engine.ike.listen(local)
