"""A rig's gateways for tests that are coroutines: the same questions, awaited.

    async with AsyncGateway(SITE_A, wire=wire) as a:
        await a.wait("up")

A rig in memory waits for nothing but its own clock, so each of them does its work and lets the caller's event loop have a turn.
What a gateway in a namespace is asked takes real time: it is asked in a thread, one question after the other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ipsec_dp.rig.memory_gateway import Gateway
from ipsec_dp.rig.surface import WAIT_S
from ipsec_dp.rig.wireshark import ESP_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipsec_dp.gateway.explanation import ExplainAnswer
    from ipsec_dp.gateway.messages import ReloadResult
    from ipsec_dp.gateway.status import ChildSaStatus, GatewayStatus, TunnelStatus
    from ipsec_dp.ike.actions import Kind
    from ipsec_dp.rig.configs import Written
    from ipsec_dp.rig.surface import RigEvent

T = TypeVar("T")


class AsyncGateway:
    """`Gateway`, made of the same; `plain` is that gateway, for what needs no await. Comes up with `async with`, or `start`."""

    def __init__(self, config: Written, **options: Any) -> None:
        self._config, self._options = config, options
        self._made: Gateway | None = None
        self._turn: asyncio.Lock | None = None if options.get("netns") is None else asyncio.Lock()

    async def _ask(self, call: Callable[[], T]) -> T:
        if self._turn is not None:
            async with self._turn:
                return await asyncio.to_thread(call)
        answer = call()
        await asyncio.sleep(0)
        return answer

    @property
    def plain(self) -> Gateway:
        """Raises RuntimeError before `start`."""
        if self._made is None:
            raise RuntimeError("the gateway is not started: use `async with`, or await start()")
        return self._made

    async def start(self) -> None:
        """Comes up, once. Raises what `Gateway` does."""
        if self._made is None:
            self._made = await self._ask(lambda: Gateway(self._config, **self._options))

    async def close(self) -> None:
        """As `RigGateway`."""
        if self._made is not None:
            await self._ask(self._made.close)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def advance(self, seconds: float) -> None:
        """Lets so many seconds of the clock happen. ValueError for a step back."""
        await self._ask(lambda: self.plain.clock.advance(seconds))

    async def initiate(self, tunnel: str | None = None) -> None:
        """As `RigGateway`."""
        await self._ask(lambda: self.plain.initiate(tunnel))

    async def rekey(self, tunnel: str | None = None, *, ike: bool = False) -> None:
        """As `RigGateway`."""
        await self._ask(lambda: self.plain.rekey(tunnel, ike=ike))

    async def terminate(self, tunnel: str | None = None) -> None:
        """As `RigGateway`."""
        await self._ask(lambda: self.plain.terminate(tunnel))

    async def reload(self, config: Written | None = None, files: Mapping[str, str | bytes] | None = None) -> ReloadResult:
        """As `RigGateway`."""
        return await self._ask(lambda: self.plain.reload(config, files))

    async def wait(self, event: str | Kind | Callable[[], bool], timeout: float = WAIT_S, tunnel: str | None = None) -> None:  # noqa: ASYNC109 - of another clock
        """As `RigGateway`."""
        await self._ask(lambda: self.plain.wait(event, timeout, tunnel))

    async def inject(self, packet: bytes) -> None:
        """As `RigGateway`."""
        await self._ask(lambda: self.plain.inject(packet))

    async def received(self) -> list[bytes]:
        """As `RigGateway`."""
        return await self._ask(self.plain.received)

    async def sas(self, tunnel: str | None = None) -> tuple[ChildSaStatus, ...]:
        """As `RigGateway`."""
        return await self._ask(lambda: self.plain.sas(tunnel))

    async def status(self) -> GatewayStatus:
        """As `RigGateway`."""
        return await self._ask(self.plain.status)

    async def tunnel(self, tunnel: str | None = None) -> TunnelStatus:
        """As `RigGateway`."""
        return await self._ask(lambda: self.plain.tunnel(tunnel))

    async def counters(self) -> dict[str, int]:
        """As `RigGateway`."""
        return await self._ask(self.plain.counters)

    async def events(self) -> tuple[RigEvent, ...]:
        """As `RigGateway`."""
        return await self._ask(self.plain.events)

    async def keylog(self, table: str = ESP_TABLE) -> str:
        """As `Gateway`."""
        return await self._ask(lambda: self.plain.keylog(table))

    async def capture(self) -> bytes:
        """As `RigGateway`."""
        return await self._ask(self.plain.capture)

    async def explain(self, source: str, destination: str, protocol: str | int | None = None) -> ExplainAnswer:
        """As `RigGateway`."""
        return await self._ask(lambda: self.plain.explain(source, destination, protocol))
