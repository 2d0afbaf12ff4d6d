"""A trial of site A's tunnel against a whole site B, on the wire of `ladder`."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.environment import Environment
from ipsec_dp.keying.trial_attempt import Attempt, environment_on_trial, versions_to_try

from .ladder import Ladder, peer
from .watcher import NotingWatcher

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Peer

LONGEST = 60.0  # seconds in which a trial must be over, whatever happens


class TrialLadder(Ladder):
    """`mtu`: octets of IP datagram that pass, to site B and back; `refuses`: why A's host lets nothing leave; `rejects`: what an
    ICMP message says of each of A's. `sent`: what the trial has sent."""

    def __init__(self, a: Peer | None = None, b: list[Peer] | None = None, *, version: int = 0, **options: Any) -> None:
        super().__init__(b=b, **options)
        self.b.core = IkeVersions(self.b.core.environment, b or [peer("b")])  # type: ignore[assignment]
        self.mtu, self.refuses, self.rejects = 65535, "", ""
        self.sent: list[act.Send] = []
        self.spis = count(0x9000)
        self.given: list[int] = []
        self.released: list[int] = []
        self.watcher = NotingWatcher()
        self.calendar = timedelta(0)
        environment = Environment(
            random.Random("trial").randbytes,
            self._allocate,
            lambda now: self.a.calendar + self.calendar + timedelta(seconds=now),
            watcher=self.watcher,
        )
        each = versions_to_try(a or peer("a"), pinned=False)[version]
        self.attempt = Attempt(environment_on_trial(environment), each, self.path("a"), self.released.append)

    def _allocate(self, _tunnel: str) -> int:
        self.given.append(next(self.spis))
        return self.given[-1]

    @property
    def outcome(self) -> Any:
        return self.attempt.outcome

    def transmit(self, sends: list[act.Send]) -> None:
        waiting = list(sends)
        while waiting:
            send = waiting.pop(0)
            self.sent.append(send)
            if self.refuses:
                waiting += self.attempt.unsent(send.datagram, self.refuses, self.clock())
            elif len(send.datagram) + 28 + 4 * send.path.natt <= self.mtu:
                self.wire.send("a", "b", (send.datagram, send.path))
            if self.rejects:
                waiting += self.attempt.unreachable(send.datagram, send.path, self.rejects, self.clock())

    def hear(self) -> bool:
        delivery = self.wire.take("a")
        if delivery is None:
            return False
        datagram, path = delivery.data
        path = replace(path, local=path.remote, remote=path.local)
        if self.attempt.knows(datagram):
            self.transmit(self.attempt.receive(datagram, path, self.clock()))
        return True

    def try_it(self) -> TrialLadder:
        """Until it is over, by nothing but what comes and the clock."""
        ends = self.clock() + LONGEST
        self.transmit(self.attempt.begin(self.clock()))
        while True:
            while self.deliver("b") or self.hear():
                pass
            if self.attempt.over:
                return self
            times = [self.attempt.next_timeout()]
            times += [at for at in (self.b.core.next_timeout(),) if at is not None]
            at = max(min(times), self.clock())
            assert at <= ends, f"the trial is not over after {LONGEST} s: {self.outcome}"
            self.clock.advance(at - self.clock() + 1e-6)
            self.b.do(self.b.core.timer(self.clock()))
            self.transmit(self.attempt.timer(self.clock()))
