"""The verbs that a running gateway is asked for at its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import errno
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ipsec_dp.errors import ControlError, DataPlaneError, IpsecDpError
from ipsec_dp.gateway.control import LongAnswer, Verb
from ipsec_dp.gateway.explain import GatewayView, explain
from ipsec_dp.gateway.following import FollowedAnswer
from ipsec_dp.gateway.host_steps import HostView
from ipsec_dp.gateway.live_capture import SNAP_MAX, CapturedAnswer, CaptureLines, tapped, wall_offset
from ipsec_dp.gateway.log_events import SUBSYSTEMS
from ipsec_dp.gateway.messages import (
    CONFIRM_MAX_S,
    CaptureAnswer,
    CaptureRequest,
    ConfirmAnswer,
    ConfirmRequest,
    DownAnswer,
    DownRequest,
    ExplainRequest,
    FollowAnswer,
    FollowRequest,
    InitiateRequest,
    LogAnswer,
    LogRequest,
    NegotiationAnswer,
    PreviewRequest,
    RekeyRequest,
    ReloadRequest,
    ReloadResult,
    ReportAnswer,
    ReportRequest,
    StatusRequest,
    TerminateRequest,
    TestRequest,
    UnpinRequest,
    UpgradeAnswer,
    UpgradeRequest,
)
from ipsec_dp.gateway.question import question_of
from ipsec_dp.gateway.reload import ReloadFailedError
from ipsec_dp.gateway.stream_event import SCHEMA
from ipsec_dp.gateway.trial_answer import answer_of, asking, notes_on, state_note
from ipsec_dp.gateway.upgrade.answer import refused
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.text import named
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ipsec_dp.gateway.composition import Composition, Engine
    from ipsec_dp.gateway.explanation import ExplainAnswer
    from ipsec_dp.gateway.messages import NegotiationRequest, ReloadRefusal
    from ipsec_dp.gateway.reload import Reloader
    from ipsec_dp.gateway.trial_answer import TrialAnswer
    from ipsec_dp.keying.ike_driver import IkeDriver


log = logging.getLogger(__name__)

NAMED_MOST = 20  # tunnels in an error
NAME_MOST = 64  # characters of a tunnel's name
COMPARED = 16  # names at once


class GatewayVerbs:
    """Those of one gateway. `down` stops it and comes back when nothing is left; it raises ControlError when something is."""

    def __init__(
        self,
        parts: Composition,
        down: Callable[[], Awaitable[None]],
        upgrade: Callable[[Path | None], Awaitable[UpgradeAnswer]] | None = None,
    ) -> None:
        """`upgrade`: None where there is nothing that could be handed over."""
        self._parts, self._down, self._upgrade = parts, down, upgrade
        self._going_back: asyncio.Task[None] | None = None
        self.reloading = asyncio.Lock()  # from the question whether something waits to be confirmed until this one does
        self.table: tuple[Verb[Any], ...] = (
            Verb(StatusRequest, self.status, reads=True),
            Verb(UpgradeRequest, self.upgrade, roots=True),
            Verb(DownRequest, self.down),
            Verb(ReloadRequest, self.reload),
            Verb(PreviewRequest, self.preview),
            Verb(CaptureRequest, self.capture),
            Verb(ExplainRequest, self.explain, reads=True),
            Verb(InitiateRequest, self.initiate),
            Verb(RekeyRequest, self.rekey),
            Verb(TerminateRequest, self.terminate),
            Verb(UnpinRequest, self.unpin),
            Verb(TestRequest, self.test),
            Verb(ConfirmRequest, self.confirm),
            Verb(FollowRequest, self.follow, reads=True),
            Verb(LogRequest, self.log),
            Verb(ReportRequest, self.report),
        )

    @property
    def _engine(self) -> Engine:
        if self._parts.engine is None:
            raise ControlError("the gateway is starting or stopping; ask again")
        return self._parts.engine

    async def status(self, request: StatusRequest) -> LongAnswer:
        inspection, name = self._engine.inspection, request.name
        await self._check_tunnel(name)
        return LongAnswer(await inspection.gateway(), "tunnels", inspection.tunnels(name, request.state))

    async def _check_tunnel(self, name: str | None) -> None:
        config = self._parts.config
        if name is not None and not config.has_tunnel(name):
            close = await _closest(name, [tunnel.name for tunnel in config.tunnels])
            raise ControlError(f'no tunnel "{name}"' + ("" if close is None else f'; did you mean "{close}"?'))

    async def follow(self, request: FollowRequest) -> FollowedAnswer:
        """What happens from now on, until the client leaves or the gateway stops."""
        _, config = self._engine, self._parts.config  # that it is up
        await self._check_tunnel(request.name)
        follower = await self._parts.stream.follow([tunnel.name for tunnel in config.tunnels], request.name)
        return FollowedAnswer(FollowAnswer(schema=SCHEMA, gateway=config.name), follower)

    async def capture(self, request: CaptureRequest) -> CapturedAnswer:
        """What packets there are from now on, until the client has enough or the gateway stops."""
        engine, config, clock = self._engine, self._parts.config, self._parts.clock
        await self._check_tunnel(request.name)
        if not 0 <= request.snap <= SNAP_MAX or not (request.inner or request.outer):
            raise ControlError("a capture is of inner packets, outer datagrams or both, and keeps 0 (all) to 65535 octets of each")
        spd, ike = self._parts.spd, engine.ike
        tunnel = None if request.name is None else config.tunnel(request.name)
        try:
            tap = engine.tap(
                inner=request.inner,
                outer=request.outer,
                snap=request.snap,
                tunnel=None if tunnel is None else tapped(tunnel, spd, ike),
                wall_offset=wall_offset(clock),
            )
        except DataPlaneError as error:
            busy = error.errno == errno.EBUSY
            raise ControlError("a capture runs already, and there is one at a time; end it first" if busy else str(error)) from None
        lines = CaptureLines(tap, spd.interface_names, clock, gateway=config.name, snap=request.snap)
        return CapturedAnswer(CaptureAnswer(gateway=config.name), lines)

    async def log(self, request: LogRequest) -> LogAnswer:
        """The levels of the log, after they are what is asked for."""
        if request.subsystem is not None and request.subsystem not in SUBSYSTEMS:
            raise ControlError(f'no subsystem "{request.subsystem}" of the log; there are: {", ".join(SUBSYSTEMS)}')
        if request.level is not None:
            self._parts.log.set_level(request.level, request.subsystem)
        if request.trace_ike is not None:
            self._parts.log.set_trace(on=request.trace_ike)
        return self._parts.log.answer

    async def report(self, _: ReportRequest) -> ReportAnswer:
        """Also of a gateway that is starting or stopping."""
        parts = self._parts
        events = tuple(msgspec.to_builtins(event) for event in parts.stream.last())
        return ReportAnswer(
            gateway=parts.config.name, config=str(parts.config.path.absolute()), log=parts.log.answer, events=events
        )

    async def down(self, _: DownRequest) -> DownAnswer:
        await self._down()
        return DownAnswer(stopped=self._parts.config.name)

    async def upgrade(self, request: UpgradeRequest) -> UpgradeAnswer:
        """Not while a reload is under way, and no reload while it is."""
        if self.reloading.locked() or self._going_back is not None:
            raise refused(ControlError("a reload or another upgrade is under way; ask again"))
        if self._upgrade is None:
            raise ControlError("this gateway cannot be handed over to another process")
        async with self.reloading:
            return await self._upgrade(None if request.program is None else Path(request.program))

    async def follow_program(self) -> bool:
        """The installed program goes on, once no reload is under way; whether it does. What came of it is in the log."""
        async with self.reloading:
            if self._upgrade is not None and self._going_back is None:
                with contextlib.suppress(IpsecDpError):
                    await self._upgrade(None)
                    return True
        return False

    async def reload(self, request: ReloadRequest) -> ReloadResult | ReloadRefusal:
        """With `confirm_s` the former configuration comes back by itself, at once where the new one failed half-way."""
        async with self.reloading:
            reloader, waits_for = self._engine.reloader, self._parts.confirmation.waits_for
            if waits_for is not None:
                raise ControlError(f"{waits_for} is not confirmed yet: first `ipsec-dp confirm {self._parts.config.name}`")
            if self._going_back is not None:
                raise ControlError("the former configuration is coming back; ask again")
            return await self._reload(request, reloader)

    async def _reload(self, request: ReloadRequest, reloader: Reloader) -> ReloadResult | ReloadRefusal:
        path = self._parts.config.path if request.file is None else Path(request.file)
        if request.confirm_s is None:
            return await reloader.reload(path)
        if not 1 <= request.confirm_s <= CONFIRM_MAX_S:
            raise ControlError(f"{request.confirm_s:g} s to confirm: give 1 to {CONFIRM_MAX_S}")
        try:
            result = await reloader.reload(path, on_trial=True)
        except ReloadFailedError as error:
            if not reloader.incomplete:
                raise
            await reloader.go_back()
            raise ReloadFailedError(f"{error}; so the former configuration is in force again") from error
        if not isinstance(result, ReloadResult):
            return result
        otherwise = "the former configuration comes back"
        self._parts.confirmation.expect(
            self._parts.config.name, f"the reload of {path}", request.confirm_s, otherwise, self._begin_going_back
        )
        return msgspec.structs.replace(result, confirm_within_s=request.confirm_s)

    async def preview(self, request: PreviewRequest) -> ReloadResult | ReloadRefusal:
        """What a reload would do now. Nothing changes."""
        return await self._engine.reloader.preview(self._parts.config.path if request.file is None else Path(request.file))

    def _begin_going_back(self) -> None:
        self._going_back = asyncio.get_running_loop().create_task(self._go_back())

    async def _go_back(self) -> None:
        try:
            await self._engine.reloader.go_back()
        except IpsecDpError as error:
            log.error("%s", error, extra=told("going_back_failed"))
        finally:
            self._going_back = None

    async def confirm(self, request: ConfirmRequest) -> ConfirmAnswer:
        name = self._parts.config.name
        if request.name not in (None, name):
            raise ControlError(f"this is gateway {name}, not {request.name}")
        reloader = self._engine.reloader  # what has not come up yet is not to be kept
        confirmed = self._parts.confirmation.confirm()
        reloader.forget_former()
        return ConfirmAnswer(gateway=name, confirmed=confirmed)

    async def explain(self, request: ExplainRequest) -> ExplainAnswer:
        """What decides about a packet now."""
        inspection = self._engine.inspection
        texts = [None if value is None else str(value) for value in (request.protocol, request.sport, request.dport)]
        question = question_of(request.source, request.destination, *texts, inbound=request.inbound, iif=request.iif)
        host = self._parts.host
        view = GatewayView(HostView(host.peers.way, host.peers.own_addresses, host.guard.host_filter), inspection.children_holding)
        return (await explain(self._parts.config, question, view)).answer

    async def initiate(self, request: InitiateRequest) -> NegotiationAnswer:
        self._ike_of(request).initiate(request.name)
        return NegotiationAnswer(tunnel=request.name, verb="initiate")

    async def rekey(self, request: RekeyRequest) -> NegotiationAnswer:
        self._ike_of(request).rekey(request.name, ike=request.ike)
        return NegotiationAnswer(tunnel=request.name, verb="rekey")

    async def terminate(self, request: TerminateRequest) -> NegotiationAnswer:
        self._ike_of(request).terminate(request.name)
        return NegotiationAnswer(tunnel=request.name, verb="terminate")

    async def unpin(self, request: UnpinRequest) -> NegotiationAnswer:
        self._ike_of(request).unpin(request.name)
        return NegotiationAnswer(tunnel=request.name, verb="unpin")

    async def test(self, request: TestRequest) -> TrialAnswer:
        """Where the tunnel is up, and nobody has said that it may be tested all the same, what that may do, and nothing else."""
        ike, tunnel = self._ike_of(request), self._parts.config.tunnel(request.name)
        before = ike.status(request.name)
        if before.ike is not None and not request.beside:
            return asking(tunnel)
        attempts = await ike.attempt(request.name)
        told = notes_on(tunnel, self._parts.config.warnings, self._parts.host.conditions.texts)
        return answer_of(tunnel, attempts, (*told, *state_note(before, told)), self._parts.clock.utc())

    def _ike_of(self, request: NegotiationRequest) -> IkeDriver:
        known = [tunnel.name for tunnel in self._parts.config.tunnels if tunnel.auth is not None]
        if request.name not in known:
            raise ControlError(f'no tunnel "{request.name}" that IKE negotiates; there are: {named(known, NAMED_MOST) or "none"}')
        return self._engine.ike


async def _closest(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that is likest, if any is like it; none where it is no name at all, but longer than one may be."""
    found: list[str] = []
    if len(name) > NAME_MOST:
        return None
    async for few in in_slices([names[first : first + COMPARED] for first in range(0, len(names), COMPARED)]):
        found = difflib.get_close_matches(name, (*found, *few), n=1)
    return found[0] if found else None
