"""A driver of the IKE core between doubles: the core, the CHILD_SAs and the links note what is called, the clock is a fake one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import Any

from ipsec_dp.databases.pad import peer_of
from ipsec_dp.databases.sad_events import IkeDatagram
from ipsec_dp.dataplane import Endpoint
from ipsec_dp.host import HostError
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.environment import NO_TRACE
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import configured

LOCAL = ip_address("192.0.2.1")
PATH = act.Path(act.Endpoint(LOCAL, 500), act.Endpoint(ip_address("192.0.2.2"), 500))
ON_DEMAND, AT_ONCE = 'start = "on-demand"', 'start = "start"'


class Double:
    """Notes what is called, and answers as it is told: with a value, or by raising it."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, *arguments))
            answer = self.answers.get(name, [])
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] in names]


class Site:
    """A driver of the tunnels of a configuration, between doubles; every name and address is found but those in `lost`."""

    trace: Any = NO_TRACE

    def __init__(self, directory: Any, *tables: str) -> None:
        self.directory, self.clock, self.lost = directory, FakeClock(), set[str]()
        self.core = Double(
            next_timeout=None, acquire=None, latest=(), probe=None, knows=True, fallback=None, pinned=None
        )  # all at once, not in turn
        self.children, self.links, self.changed, self.stack = Double(), Double(send_ike=None), list[str](), AsyncExitStack()
        self.turns = list[int]()
        self.probed = list[act.ProbeResult]()
        self.conditions = Conditions(self.clock)
        tunnels, peers = self.read(*tables)
        parts: dict[str, Any] = {"core": self.core, "children": self.children, "links": self.links, "conditions": self.conditions}
        parts["trace"] = self.trace
        self.uncalled = list[str]()
        parts["uncalled"] = self.uncalled.append
        self.driver = IkeDriver(
            tunnels, peers, locate=self.locate, changed=self.changed.append, clock=self.clock, probed=self.probed.append, **parts
        )

    def read(self, *tables: str) -> Any:
        tunnels = configured(self.directory, *tables).tunnels
        return tunnels, {each.name: peer_of(each) for each in tunnels}

    async def locate(self, of: Any, remote: Any, turn: int) -> Any:
        self.turns.append(turn)
        if of.name in self.lost:
            raise HostError(f"no route to {remote}")
        return remote, LOCAL

    def run(self, life: Any) -> None:
        """`life` after the start, and the end."""

        async def whole() -> None:
            async with self.stack:
                self.driver.start(self.stack, [LOCAL])
                await settle()
                await life()

        asyncio.run(whole())

    def called(self) -> list[str]:
        return [name for _, name, *_ in self.core.of("initiate")]

    def hand(self, *actions: Any) -> None:
        """The core returns these to the next message."""
        self.core.answers["receive"] = list(actions)
        end = Endpoint(LOCAL, 4500)
        self.driver.datagram(IkeDatagram(0, end, end, b"message"))


def event(kind, name="to-b", cause=None):
    return act.Report(act.Event(kind, name, bytes(8), bytes(8), "", "why", cause=cause, origin=act.Origin.OURS))
