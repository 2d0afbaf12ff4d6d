"""The verbs that a running gateway is asked for at its control socket."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.control import LongAnswer, Verb
from ipsec_dp.gateway.explain import GatewayView, explain
from ipsec_dp.gateway.host_steps import HostView
from ipsec_dp.gateway.messages import (
    DownAnswer,
    DownRequest,
    ExplainRequest,
    InitiateRequest,
    NegotiationAnswer,
    RekeyRequest,
    ReloadRequest,
    StatusRequest,
    TerminateRequest,
)
from ipsec_dp.gateway.question import question_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipsec_dp.gateway.composition import Composition, Engine
    from ipsec_dp.gateway.explanation import ExplainAnswer
    from ipsec_dp.gateway.messages import NegotiationRequest, ReloadRefusal, ReloadResult
    from ipsec_dp.keying.ike_driver import IkeDriver


class GatewayVerbs:
    """Those of one gateway. `down` stops it and comes back when nothing is left; it raises ControlError when something is."""

    def __init__(self, parts: Composition, down: Callable[[], Awaitable[None]]) -> None:
        self._parts, self._down = parts, down
        self.table: tuple[Verb[Any], ...] = (
            Verb(StatusRequest, self.status),
            Verb(DownRequest, self.down),
            Verb(ReloadRequest, self.reload),
            Verb(ExplainRequest, self.explain),
            Verb(InitiateRequest, self.initiate),
            Verb(RekeyRequest, self.rekey),
            Verb(TerminateRequest, self.terminate),
        )

    @property
    def _engine(self) -> Engine:
        if self._parts.engine is None:
            raise ControlError("the gateway is starting or stopping; ask again")
        return self._parts.engine

    async def status(self, request: StatusRequest) -> LongAnswer:
        inspection, config, name = self._engine.inspection, self._parts.config, request.name
        if name is not None and not config.has_tunnel(name):
            close = difflib.get_close_matches(name, (tunnel.name for tunnel in config.tunnels), n=1)
            raise ControlError(f'no tunnel "{name}"' + (f'; did you mean "{close[0]}"?' if close else ""))
        return LongAnswer(await inspection.gateway(), "tunnels", inspection.tunnels(name, request.state))

    async def down(self, _: DownRequest) -> DownAnswer:
        await self._down()
        return DownAnswer(stopped=self._parts.config.name)

    async def reload(self, request: ReloadRequest) -> ReloadResult | ReloadRefusal:
        return await self._engine.reloader.reload(self._parts.config.path if request.file is None else Path(request.file))

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

    def _ike_of(self, request: NegotiationRequest) -> IkeDriver:
        known = [tunnel.name for tunnel in self._parts.config.tunnels if tunnel.auth is not None]
        if self._parts.ike is None or request.name not in known:
            raise ControlError(f'no tunnel "{request.name}" that IKE negotiates; there are: {", ".join(known) or "none"}')
        return self._parts.ike
