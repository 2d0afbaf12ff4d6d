"""A gateway hands itself over to a successor that it starts: asked, offered, ready, told of its SAs, and then, at once, stopped and
handed over: first what packets need, then IKE, whose messages wait a while longer.

Until the successor is prepared everything goes on as before, and whatever fails ends the successor and nothing else. The point of
no return is the export of the SAs, which retires them: it comes after the last burst, within one turn of the event loop, so that
nothing of this process can do anything in between. What fails then ends this process; the guard stays in the kernel. Where
IKE cannot be exported or read after the SAs, a successor that forwards negotiates anew; one that hangs is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp import __version__
from ipsec_dp.config import files
from ipsec_dp.config.difference import known
from ipsec_dp.databases.sad_shape import ToldSad
from ipsec_dp.dataplane import Channel as PuntChannel
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.upgrade import executable, sas
from ipsec_dp.gateway.upgrade.answer import ChangedMeanwhileError, answered, attempted, refused
from ipsec_dp.gateway.upgrade.launch import SuccessorProcess
from ipsec_dp.gateway.upgrade.messages import (
    Forwards,
    GatewayOffer,
    GoesOn,
    HelperOffer,
    Message,
    MessageKind,
    Ready,
    SasPrepared,
    UpgradeRefused,
    body_of,
    heard,
)
from ipsec_dp.gateway.upgrade.offered import Offered, Places, shape_of
from ipsec_dp.gateway.upgrade.reading import Reading
from ipsec_dp.gateway.upgrade.stream import ALIVE_S, HandOverError
from ipsec_dp.host.drop import capabilities_for
from ipsec_dp.network.linux_host import LinuxHost
from ipsec_dp.util import os_errors
from ipsec_dp.util.collection import no_collection
from ipsec_dp.util.wiping import wipe

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.gateway.composition import Composition, Engine
    from ipsec_dp.gateway.messages import UpgradeAnswer
    from ipsec_dp.gateway.privileges import Privileges
    from ipsec_dp.network.inheritance import InheritedHost

log = logging.getLogger(__name__)

READY_S: Final = 120.0  # ten thousand tunnels are read in seconds
SEND_S: Final = 20.0
CATCH_UP_S: Final = 1.0  # with what peers have asked of IKE until now
IDLE_S: Final = 0.25  # in which the last burst is done, or nothing stops
GOES_ON_S: Final = 30.0
GOES_ON_EACH_S: Final = 0.002  # more for each SA: ten times what one takes
PIECE_S: Final = 30.0  # more for each message of IKE, which is a tenth of a second's work; and for nothing to be read of any
CHANGING_S: Final = 10.0  # for whoever changes the host now
GIVE_UP_S: Final = 5.0


class BrokenOffError(IpsecDpError):
    """The successor has gone after the point of no return: nobody has the SAs any more."""


class NotReadOnError(IpsecDpError):
    """Not handed over, and this process does not read all that it read before."""


class Giving:
    """Of one gateway. `control` gives the descriptor of its control socket, `options` how its log was asked for; `gone` is called
    with the successor's process ID when that is alone, `lost` with the reason when nobody has the SAs any more."""

    def __init__(
        self,
        parts: Composition,
        *,
        control: Callable[[], tuple[Path, int]],
        stopping: Callable[[], bool],
        gone: Callable[[int], None],
        lost: Callable[[str], None],
    ) -> None:
        self._parts, self._control, self._stopping, self._gone, self._lost = parts, control, stopping, gone, lost
        self.privileges: Privileges | None = None
        self.hindrance: str | None = None  # why this process may not end while its successor goes on
        self.options: dict[str, Any] = {}
        self.alive: Callable[[], None] = lambda: None  # for a watchdog: while this process hands over nothing else tells it
        self.hands_over: Callable[[int], object] = lambda _: None  # to the process that it is given; for a service manager
        self._under_way = asyncio.Lock()
        self._successor: SuccessorProcess | None = None  # that is to get ready
        self._alone: SuccessorProcess | None = None  # that has everything
        self._given_away = False  # the SAs: nothing of this process goes on

    async def upgrade(self, path: Path | None) -> UpgradeAnswer:
        """What came of it; this process is to end then. Raises ControlError, and everything goes on as if nothing had been asked;
        BrokenOffError."""
        if self._under_way.locked():
            raise refused(HandOverError("an upgrade is under way already"))
        async with self._under_way:
            try:
                return await attempted(partial(self.attempt, path, time.monotonic()))
            except Exception as error:
                if self._given_away:
                    self._lose(error)
                    raise
                if not isinstance(error, IpsecDpError):
                    raise
                raise refused(error, unchanged=not self._stopping() and not isinstance(error, NotReadOnError)) from error

    def _lose(self, error: Exception) -> None:
        if self._alone is None:
            self._lost(str(error) or type(error).__name__)

    async def give_up(self) -> None:
        """The gateway stops: a successor that gets ready ends first, and none is started any more."""
        if self._successor is not None:
            self._successor.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_S), self._under_way:
                pass

    def pass_on(self, number: signal.Signals) -> bool:
        """To the successor, once it is alone: then it is the gateway that is meant."""
        if self._alone is not None:
            self._alone.pass_on(number)
        return self._alone is not None

    def engine_to_give(self) -> Engine:
        """Raises HandOverError: why there is none to give now."""
        engine, config = self._parts.engine, self._parts.config
        if engine is None or self._stopping():
            raise HandOverError("the gateway is starting or stopping")
        if self.hindrance is not None:
            raise HandOverError(self.hindrance)
        if not isinstance(self._parts.host, LinuxHost):
            raise HandOverError("this gateway has no sockets or interfaces that could be handed over")
        if (waits_for := self._parts.confirmation.waits_for) is not None:
            raise HandOverError(f"{waits_for} is not confirmed yet: first `ipsec-dp confirm {config.name}`")
        if engine.reloader.incomplete:
            raise HandOverError("a reload broke off in the middle, or the host lacks something since an upgrade: reload first")
        return engine

    async def attempt(self, path: Path | None, asked: float) -> UpgradeAnswer:
        """`asked`: when, in seconds of the monotonic clock."""
        engine = self.engine_to_give()
        command = await asyncio.to_thread(executable.command_for, path)
        about = None if path is None else await executable.asked(command)
        try:
            async with asyncio.timeout(CHANGING_S):
                await self._parts.host.changing.acquire()
        except TimeoutError:
            raise HandOverError("the host is being changed (a reload, an interface that is made again); ask again") from None
        try:
            engine = self.engine_to_give()
            successor = await asyncio.to_thread(SuccessorProcess.start, command, capabilities_for(self._parts.config.workers))
            self._successor = successor
            try:
                if about is None:  # it is this very program, which gets ready meanwhile; another one does nothing before
                    about = await executable.asked(command)
                offered = await self.offer(successor)
                with no_collection():
                    goes_on = self.hand_over(engine, successor, offered)
            except BaseException:
                await asyncio.to_thread(successor.abandon if self._given_away else successor.end)
                if not self._given_away:
                    engine.reloader.tell_files()  # it may have had others opened, which its file names
                raise
            finally:
                self._successor = None
            successor.leave()
            self._alone = successor
            self._gone(successor.pid)
        finally:
            if not self._given_away:  # else whoever waits to change the host would do it to another process's
                self._parts.host.changing.release()
        return answered(self._parts.config.name, about.version, successor.pid, goes_on, time.monotonic() - asked)

    # ---- while everything goes on

    async def offer(self, successor: SuccessorProcess) -> Offered:
        """What the successor is ready to go on with."""
        if self._stopping():
            raise HandOverError("the gateway is stopping")
        places = Places()
        with contextlib.ExitStack() as stack:
            helper = await self._helper(stack)
            host = self._host.inherited(places)
            inodes, body = places.inodes, body_of(self.made_offer(host, places, helper))
            stack.callback(body.__setitem__, slice(None), bytes(len(body)))
            await asyncio.to_thread(successor.channel.send, MessageKind.OFFER, body, places.descriptors, seconds=SEND_S)
        told = ToldSad(self._engine.sad, self._parts.spd.tunnel_names)
        shape = body_of(told.news())  # made while the other one reads its configuration
        ready = await asyncio.to_thread(heard, successor.channel, READY_S, Ready)
        await asyncio.to_thread(successor.channel.send, MessageKind.SHAPE, shape, seconds=SEND_S)
        await asyncio.to_thread(heard, successor.channel, READY_S, SasPrepared)
        return Offered(host, inodes, told, ready.layout)

    async def _helper(self, stack: contextlib.ExitStack) -> HelperOffer | None:
        """That stays root; `channel` is a descriptor of ours until the stack is left."""
        helper = None if self.privileges is None else self.privileges.helper
        if helper is None or self.privileges is None:
            return None
        try:
            channel = await asyncio.to_thread(helper.stay)
        except OSError as error:
            raise HandOverError(f"the helper that stays root does not answer: {error.strerror}") from None
        stack.callback(os.close, channel)
        return HelperOffer(channel, helper.process, self.privileges.program)

    def made_offer(self, host: InheritedHost, places: Places, helper: HelperOffer | None) -> GatewayOffer:
        config, parts, (control, listening) = self._parts.config, self._parts, self._control()
        return GatewayOffer(
            program=__version__,
            gateway=config.name,
            config=str(config.path.absolute()),
            control=str(control.absolute()),
            listening=places(listening),
            workers=config.workers,
            sa_slots=self._engine.plane.sa_slots,
            key=files.fingerprint_key(),
            numbers=dict(parts.spd.tunnel_numbers),
            known={tunnel.name: known(tunnel) for tunnel in config.tunnels},
            text=config.text,
            host=host,
            mtus=parts.mtus.export(),
            helper=None if helper is None else HelperOffer(places(helper.channel), helper.process, helper.program),
            metrics=None if (metrics := parts.metrics.descriptor) is None else places(metrics),
            offload_faults=dict(parts.substitutes.offload_faults),
            **self.options,
        )

    @property
    def _host(self) -> LinuxHost:
        host = self._parts.host
        if not isinstance(host, LinuxHost):
            raise HandOverError("this gateway has no sockets or interfaces that could be handed over")
        return host

    @property
    def _engine(self) -> Engine:
        if self._parts.engine is None:
            raise HandOverError("the gateway is starting or stopping")
        return self._parts.engine

    # ---- in one turn of the event loop

    def hand_over(self, engine: Engine, successor: SuccessorProcess, offered: Offered) -> GoesOn:
        """Raises HandOverError, and everything goes on; BrokenOffError."""
        if self._stopping() or self._parts.engine is not engine:
            raise HandOverError("the gateway is stopping")
        plane, patience = engine.plane, GOES_ON_S + 2 * GOES_ON_EACH_S * len(engine.sad.children)
        reading = Reading(lambda: successor.channel.unread, PIECE_S, patience, time.monotonic)
        self._catch_up(engine)
        self.alive()
        try:
            plane.pause_receiving()
            plane.stop_ike()
            host, stopped = self._last_look(engine, successor, offered)
            self._name(successor)
        except BaseException as error:
            _read_on(plane, error)
            raise
        self._given_away = True
        try:
            self._parts.metrics.leave()
            given = sas.exported(engine, self._parts.spd, offered.told, offered.layout, stopped, self._parts.clock.now())
            self._say(successor, MessageKind.SAS, given, patience, reading)
            self._hear(successor, patience, Forwards, reading)
            try:
                for kind, body in self._ike_state(engine, host):
                    patience += PIECE_S  # all of them may lie unread in the socket's buffer
                    self._say(successor, kind, body, patience, reading)
            except HandOverError:  # it has gone; or on alone where this process stood still, and said so
                patience = 0.0
            return self._hear(successor, patience, GoesOn, reading)
        except Exception as error:
            raise BrokenOffError(
                f"the successor did not go on, and this process has given its SAs away: {error}; what is protected stays closed, "
                "and the next start negotiates anew"
            ) from error
        finally:
            with contextlib.suppress(Exception):  # whatever becomes of it, this process is about to end
                engine.ike.stop()

    def _name(self, successor: SuccessorProcess) -> None:
        """Whatever becomes of this process: the service lives and ends with that one. The last that may fail, and nothing follows
        before the point of no return: nobody can take it back."""
        try:
            self.hands_over(successor.pid)
        except OSError as error:
            why = os_errors.text_of(error)
            raise ChangedMeanwhileError(f"the service manager does not hear which process goes on ({why}); ask again") from None

    def _say(self, successor: SuccessorProcess, kind: MessageKind, body: bytearray, seconds: float, reading: Reading) -> None:
        try:
            successor.channel.send(kind, body, seconds=SEND_S + seconds, waiting=reading.look)
            reading.said()
        finally:
            wipe(body)

    def _hear(self, successor: SuccessorProcess, seconds: float, expected: type[Message], reading: Reading) -> Message:
        self.wait(successor, seconds, reading)
        return heard(successor.channel, SEND_S, expected)

    def wait(self, successor: SuccessorProcess, seconds: float, reading: Reading) -> None:
        """Until it says something or ends. HandOverError."""
        deadline = time.monotonic() + seconds
        while not successor.channel.wait(min(ALIVE_S, max(0.0, deadline - time.monotonic()))):
            reading.look()
            if time.monotonic() >= deadline:
                raise HandOverError("the other process did not go on in time")
        reading.answered()

    def _catch_up(self, engine: Engine) -> None:
        """While packets still pass: thousands of peers may have asked something at once, and nobody forwards while the last of them
        are answered. Whoever asks on and on holds nothing up."""
        deadline = time.monotonic() + CATCH_UP_S
        while _handled(engine) and time.monotonic() < deadline:
            continue

    def _last_look(self, engine: Engine, successor: SuccessorProcess, offered: Offered) -> tuple[InheritedHost, int]:
        """All that was read before is done, and when it was; and the successor is what it said: the last that may fail."""
        deadline = time.monotonic() + IDLE_S
        while not engine.plane.is_idle():
            if time.monotonic() > deadline:
                raise ChangedMeanwhileError(f"the data plane was not done with its packets within {IDLE_S:g} s; ask again")
            os.sched_yield()
        stopped = time.monotonic_ns()
        while _handled(engine):
            continue
        self._host.links.read_ike()
        engine.ike.finish()
        places = Places()
        host = self._host.inherited(places)
        if shape_of(host) != shape_of(offered.host) or places.inodes != offered.inodes:
            raise ChangedMeanwhileError("interfaces or sockets of the gateway changed meanwhile; ask again")
        if successor.has_ended or successor.channel.has_ended():
            raise HandOverError("the successor has ended")
        return host, stopped

    def _ike_state(self, engine: Engine, host: InheritedHost) -> Iterator[tuple[MessageKind, bytearray]]:
        """The successor forwards by then: what of IKE does not come it is to negotiate anew."""
        try:
            yield from sas.ike_exported(self._parts, engine, host)
        except Exception as error:  # noqa: BLE001 - the successor says it, and what it means
            yield MessageKind.REFUSED, body_of(UpgradeRefused(str(error) or type(error).__name__))


def _read_on(plane: DataPlane, why: BaseException) -> None:
    """Both, whatever becomes of one. Raises NotReadOnError."""
    failed: list[str] = []
    for what, step in (("packets", plane.resume_receiving), ("IKE at port 500", plane.start_ike)):
        try:
            step()
        except Exception as error:  # noqa: BLE001 - it is told, with the first cause
            failed.append(f"{what}: {error}")
    if failed:
        raise NotReadOnError(f"{why}; and what is not read again is {', '.join(failed)}: restart the gateway") from why


def _handled(engine: Engine) -> bool:
    """Whether the data plane had something to tell; some of it is done."""
    found = [event for channel in PuntChannel for event in engine.sad.events(channel)]
    for event in found:
        engine.events.handle(event)
    return bool(found)
