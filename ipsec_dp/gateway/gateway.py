"""One gateway: brought up in the order that never lets protected traffic out, and taken down in reverse.

Up: its name (one gateway of a name at a time) → guard → control socket → metrics → data plane → TUN interfaces → policy → manual
SAs → loops → routes → services → IKE. Down: the same backwards, the guard last. A start that fails leaves the guard where it is, as
a crash does; the next start adopts it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp.databases.sad import Sad
from ipsec_dp.errors import ControlError, IpsecDpError
from ipsec_dp.gateway import unlocked_keys
from ipsec_dp.gateway.asked_reloads import AskedReloads
from ipsec_dp.gateway.composition import Composition, GatewayFailedError
from ipsec_dp.gateway.control import ControlServer
from ipsec_dp.gateway.substitutes import NO_SUBSTITUTES
from ipsec_dp.gateway.upgrade.giving import Giving
from ipsec_dp.gateway.upgrade.stream import HandOverError
from ipsec_dp.gateway.verbs import GatewayVerbs
from ipsec_dp.host.claim import RunningError
from ipsec_dp.keying.manual import ManualSas
from ipsec_dp.network.linux_host import LinuxHost
from ipsec_dp.network.remains import advice
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.faults import explained
from ipsec_dp.util.tasks import Tasks
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipsec_dp.config import Config
    from ipsec_dp.gateway.composition import Engine
    from ipsec_dp.gateway.confirmation import Trial, Unconfirmed
    from ipsec_dp.gateway.gateway_log import GatewayLog
    from ipsec_dp.gateway.messages import UpgradeAnswer
    from ipsec_dp.gateway.substitutes import Substitutes
    from ipsec_dp.gateway.upgrade.taking import Successor
    from ipsec_dp.network.host import Host
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

PROGRESS_FROM = 1000  # tunnels: a start with so many takes seconds, and its log says where it is


class _NoControl:
    """A rig asks by `verbs`."""

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass


def tell_unseen(why: str, name: str) -> None:
    """Of gateway `name`: nobody knows what its start has left closed."""
    log.warning(
        "what keeps protected traffic from leaving in clear cannot be seen: %s; %s", why, advice(name), extra=told("guard_unseen")
    )


class Gateway:
    """`start`, `wait` until someone calls `stop` (or nobody confirms the start), `close`."""

    def __init__(
        self,
        config: Config,
        control_path: Path | None,
        *,
        host: Host | None = None,
        clock: Clock | None = None,
        trial: Trial | None = None,
        substitutes: Substitutes = NO_SUBSTITUTES,
        log: GatewayLog | None = None,
    ) -> None:
        """`control_path` None: no control socket. `host` None: this machine; `clock` None: the system's. `trial`: the start has to
        be confirmed. `substitutes`: what a rig puts in the place of other parts. `log`: None where nothing is written."""
        clock = SystemClock() if clock is None else clock
        self._parts = Composition(config, LinuxHost(config, clock) if host is None else host, clock, substitutes, log)
        self.giving = Giving(
            self._parts,
            control=self._listening,
            stopping=self._stopping_now,
            gone=self._leave,
            lost=self._lose,
        )
        self._verbs = GatewayVerbs(self._parts, self._down, self._upgrade)
        passed_on = partial(self.giving.pass_on, signal.SIGHUP)
        self._tasks = Tasks()
        self._reloads = AskedReloads(
            self._verbs, self._tasks.begin, reloading=substitutes.reloading, stopping=self._stopping_now, passed_on=passed_on
        )
        self._control: ControlServer | _NoControl = _NoControl()
        if control_path is not None:
            self._control = ControlServer(control_path, self._verbs.table, config.control_group, substitutes.place)
        self._stack = AsyncExitStack()
        self._stopping = asyncio.Event()
        self._torn_down = asyncio.Event()
        self._trial = trial
        self._touched = False  # the host is as we made it
        self._starting: asyncio.Task[None] | None = None
        self._start_on_trial: Unconfirmed | None = None
        self._failure: str | None = None
        self.left_to: int | None = None  # the process that goes on in the place of this one
        self._given_away = False
        self._successor: Successor | None = None  # what we are, where we take another one's place
        self._left: str | None = None  # why something was not taken away

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._parts.config

    @property
    def verbs(self) -> GatewayVerbs:
        """What may be asked of it."""
        return self._verbs

    @property
    def engine(self) -> Engine | None:
        """Its parts that need a data plane; None: it is not up."""
        return self._parts.engine

    @property
    def conditions(self) -> Conditions:
        """What is wrong at the moment."""
        return self._parts.host.conditions

    async def tunnels_up(self) -> tuple[int, int] | None:
        """How many are, and how many are configured; None: it is not up, or settles."""
        if self._parts.engine is None:
            return None
        up = 0
        async for tunnel in self._parts.engine.readings.tunnels():
            up += tunnel.up
        return up, len(self.config.tunnels)

    def loops_pass(self) -> bool:
        """Whether every loop of the data plane has let go of its packets since the last call that said so."""
        engine = self._parts.engine or (None if self._successor is None else self._successor.engine)
        return engine is None or engine.readings.loops_pass()

    async def metrics_page(self) -> bytes:
        """As Prometheus reads it, whether it is up or not."""
        return b"".join(await self._parts.metrics_page())

    # ---- up

    async def start(self) -> None:
        """Brings everything up. Raises IpsecDpError; then `close` takes away what was made, but for the guard.

        On trial its time begins here: a start that hangs is broken off when it is over.
        """
        self._starting = asyncio.get_running_loop().create_task(self._start())
        if self._trial is not None:
            self._start_on_trial = self._parts.confirmation.expect(
                self.config.name, "this start", self._trial.seconds, self._trial.otherwise, self._not_confirmed
            )
        try:
            await self._starting
        except asyncio.CancelledError:
            if self._failure is None:
                raise
            self._touched = True
            raise GatewayFailedError(self._failure) from None
        self._reloads.release()

    def _not_confirmed(self) -> None:
        self._fail("the start was not confirmed")
        if self._starting is not None:
            self._starting.cancel()

    async def _start(self) -> None:
        try:
            with explained("the gateway could not be started"):
                await self._parts.host.close_guard()
                await self._control.start()
                self._stack.push_async_callback(self._parts.metrics.close)
                await self._parts.metrics.apply(self.config)
                with self._parts.substitutes.starting():
                    await self._start_inside()
        except RunningError:
            raise
        except IpsecDpError:
            self._touched = True
            await self._log_what_holds()
            raise
        self._touched = True

    async def _log_what_holds(self) -> None:
        """What the kernel has, not what was wanted of it."""
        try:
            with explained("asking the kernel"):
                log.warning("%s", (await self._parts.host.remains()).advice, extra=told("guard_holds"))
        except IpsecDpError as error:
            tell_unseen(str(error), self.config.name)

    async def _start_inside(self) -> None:
        stack, parts, host, tunnels = self._stack, self._parts, self._parts.host, self.config.tunnels
        self._log_progress("the guard is closed; looking for the ways to the peers")
        plane = parts.data_plane()
        stack.callback(plane.close)
        if not plane.arena().locked:
            log.warning(
                "%s: they are not locked in memory; %s",
                unlocked_keys.ALL,
                unlocked_keys.REMEDY,
                extra=told("keys_not_locked"),
            )
        await host.interfaces.make(stack, plane, parts.spd)
        await parts.mtus.first()
        plane.install_policy(parts.spd.snapshot())
        self._log_progress("interfaces and policy are there; loading secrets")
        sad, links = Sad(plane, parts.clock.now, parts.clock.random), host.outer_links(plane)
        stack.callback(links.close)
        manual = ManualSas(sad, parts.spd, parts.clock.random)
        paths = {tunnel.name: await host.peers.path(tunnel, links) for tunnel in tunnels if tunnel.manual is not None}
        manual.install(tunnels, paths)
        ike = parts.ike_driver(plane, sad, links)
        engine = parts.make_engine(plane, sad, links, manual, ike)
        engine.events.listen(stack)
        engine.housekeeping.start(stack)
        engine.drop_watch.start(stack)
        stack.callback(host.reports.machine_clones(engine.clone_watch.cloned).close)
        stack.callback(host.reports.unreachable(ike.unreachable).close)
        parts.mtus.begin(plane, sad, ike)
        stack.push_async_callback(parts.mtus.close)
        host.start_workers(plane)
        stack.callback(plane.stop)
        self._log_progress("adding routes")
        await parts.nat_flows.before_routes(self.config)
        await host.routing.start(stack)
        stack.push_async_callback(parts.services.close)
        await parts.services.apply(self.config)
        ike.start(stack, await host.peers.listen_at(tunnels))
        parts.engine = engine
        count = f"{len(tunnels)} tunnel{'' if len(tunnels) == 1 else 's'}"
        log.info("gateway %s is up: %s, provider %s", self.config.name, count, plane.provider, extra=told("gateway_up"))

    def _log_progress(self, text: str) -> None:
        if len(self.config.tunnels) >= PROGRESS_FROM:
            log.info("starting %d tunnels: %s", len(self.config.tunnels), text, extra=told("gateway_starting"))

    async def take_over(self, successor: Successor, lives: Callable[[float], object]) -> None:
        """`start`, in the place of another process; `lives`: as it has it. Raises IpsecDpError; `close` then takes nothing away."""
        if not isinstance(self._control, ControlServer):
            raise HandOverError("a gateway without a control socket takes nobody's place")
        self._successor, parts = successor, self._parts
        try:
            with explained("the gateway could not be taken over"):
                parts.engine = await successor.take(parts, self._stack, self._control, lives)
        except IpsecDpError as error:
            successor.refuse("; ".join(error.lines))
            raise
        self._touched = True
        count = len(self.config.tunnels)
        text = f"{count} tunnel{'' if count == 1 else 's'}, provider {parts.engine.plane.provider}"
        log.info("gateway %s goes on in this process: %s", self.config.name, text, extra=told("gateway_taken_over"))

    async def take_file(self, successor: Successor) -> None:
        """What the file said when it was looked at. Before any other reload, which has a later one, where nothing was waited for
        since `take_over`. Comes back at once when the gateway is stopped."""
        if self._parts.engine is None or self._stopping_now():
            return
        async with self._verbs.reloading:
            taking = self._tasks.begin(successor.take_file(self._parts.engine.reloader, self.conditions))
            stopping = self._tasks.begin(self._stopping.wait())
            await asyncio.wait((taking, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        self._reloads.release()

    # ---- in another process

    def _listening(self) -> tuple[Path, int]:
        if not isinstance(self._control, ControlServer):
            raise ControlError("this gateway has no control socket")
        return self._control.path, self._control.descriptor

    def _stopping_now(self) -> bool:
        return self._stopping.is_set()

    def _leave(self, process: int) -> None:
        """Another process has everything: this one ends, and takes nothing away."""
        self.left_to = process
        self._stopping.set()

    def _lose(self, why: str) -> None:
        """Nobody has the SAs any more: this process ends, and what is protected stays closed."""
        self._given_away = True
        self._fail(why)

    @property
    def _takes_nothing_away(self) -> bool:
        """What there is in the kernel and in the peers is another process's, or to stay closed."""
        waits = self._successor is not None and not self._successor.alone
        return self.left_to is not None or self._given_away or waits

    async def _upgrade(self, path: Path | None) -> UpgradeAnswer:
        if self.left_to is not None:
            raise ControlError("another process goes on")
        with self._reloads.held():
            return await self.giving.upgrade(path)

    # ---- while it is up

    def start_reload(self) -> None:
        """SIGHUP. One before the gateway is there, or while it is handed over, is heard after that, in whichever process."""
        self._reloads.ask()

    def stop(self, why: str) -> None:
        """Ends `wait`. Where another process goes on by now it is the one that is meant."""
        log.info("stopping: %s", why, extra=told("gateway_stopping"))
        self.giving.pass_on(signal.SIGTERM)
        self._stopping.set()

    async def _down(self) -> None:
        """Stops, and waits until nothing is left. Raises ControlError when something is."""
        self.stop("down")
        await self._torn_down.wait()
        if self.left_to is not None:
            raise ControlError("another process has taken the place of this one meanwhile, and is stopping: ask it again")
        if self._left is not None:
            raise ControlError(f"stopped, but not everything is taken away: {self._left}")

    def _fail(self, cause: str) -> None:
        self._failure = cause
        self._stopping.set()

    async def wait(self) -> int:
        """The exit status, once stopped. Raises GatewayFailedError when it did not stop by a person's will."""
        await self._stopping.wait()
        if self._failure is not None:
            raise GatewayFailedError(self._failure)
        return 0

    @property
    def _is_confirmed(self) -> bool:
        return self._start_on_trial is not None and self._start_on_trial.confirmed

    # ---- down

    async def _go(self) -> None:
        """Ends, and leaves everything where it is: interfaces, sockets, routes and peers are others'."""
        self._parts.engine = None
        self._stack.pop_all()
        self._parts.stream.close()
        self._parts.key_log.close()
        self._torn_down.set()
        if isinstance(self._control, ControlServer):
            self._control.leave()
        await self._control.close()

    async def close(self) -> None:
        """Takes everything away, unless it is another process's or is to stay closed."""
        if not self._takes_nothing_away:
            await self.giving.give_up()
        await (self._go() if self._takes_nothing_away else self._take_away())

    async def _take_away(self) -> None:
        """Takes everything away; the guard only after a clean run and unless the configuration keeps it.

        A start that failed on trial, or was not confirmed, leaves closed what is protected, and open the way of who administers.
        """
        clean = self._stopping.is_set() and self._failure is None
        trial = None if clean or not self._touched or self._is_confirmed else self._trial
        engine, self._parts.engine = self._parts.engine, None
        self._parts.confirmation.cancel()
        try:
            if engine is not None:  # or a reload would go on with a host that is open
                await engine.reloader.close()
            try:
                await self._stack.aclose()
            finally:  # what could not be taken away locks nobody out
                if trial is not None:
                    await self._parts.host.close_for(trial.retreat)
            if clean and not self.config.keep_closed:
                await self._parts.host.open_guard()
        except IpsecDpError as error:
            self._left = str(error)
            raise
        finally:
            self._torn_down.set()
            await self._parts.host.close()
            self._parts.stream.close()
            self._parts.key_log.close()
            await self._control.close()
