"""All ISAKMP SAs of a gateway and all that there is with peers: whose turn it is, and what became of each after it has acted.

What is to happen to many at once is begun with a few, and waits for the others (`later`) until `timer` comes to them, or anything
else wants to happen to them: who looks for one finds it as it is after that.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike.later import AT_ONCE, Later
from ipsec_dp.ike.timer_queue import TimerQueue
from ipsec_dp.ike.v1 import peerings, upkeep
from ipsec_dp.ike.v1.context import IsakmpContext, Peering
from ipsec_dp.ike.v1.peering_index import PeeringIndex
from ipsec_dp.ike.v1.reception import IsakmpReception
from ipsec_dp.ike.v1.session_index import IsakmpIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.v1.admission import IsakmpAdmission
    from ipsec_dp.ike.v1.message import IsakmpHeader

Step = Callable[[float], None]  # of `now`


class IsakmpSas:
    """`admission`: of those that are held, what strangers have; whatever ends gives it back."""

    def __init__(self, environment: Environment, admission: IsakmpAdmission) -> None:
        self.sessions = IsakmpIndex()
        self.peerings = PeeringIndex()
        self._admission = admission
        self._later: Later[IsakmpContext | Peering, None] = Later()
        self._timers: TimerQueue[IsakmpContext | Peering] = TimerQueue()
        self._reception = IsakmpReception(environment.watcher, environment.keys)

    def __bool__(self) -> bool:
        return bool(self.sessions or self.peerings)

    # ---- many at once

    def each(self, steps: Iterable[tuple[IsakmpContext | Peering, Step]], now: float) -> None:
        """Lets something happen to each of many: to AT_ONCE of them now."""
        self._later.add(steps)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        for owner in self._later.first():
            self.catch_up(owner, now)

    def catch_up(self, owner: IsakmpContext | Peering | None, now: float) -> None:
        """What waits for it happens before anything else does to it."""
        if owner is not None and self._later.catch_up(owner, now):
            if isinstance(owner, Peering):
                self.settle(owner, now)
            else:
                self.settle_session(owner, now)

    def unfinished(self) -> bool:
        """Whether anybody still waits for what is to happen to many."""
        return bool(self._later)

    # ---- who is found

    def of_header(self, header: IsakmpHeader, now: float) -> IsakmpContext | None:
        """Whose a message is, and what waits for it has happened."""
        session = self.sessions.find(header.cookie_i, header.cookie_r)
        if session is None or not self._later:
            return session
        self.catch_up(session, now)
        self.catch_up(session.peering, now)
        return self.sessions.find(header.cookie_i, header.cookie_r)

    def current(self, tunnel: str, now: float) -> Peering | None:
        """What there is with the newest peer of a tunnel; None: nothing."""
        for one in self.peerings.of_tunnel(tunnel)[::-1] if self._later else self.peerings.newest_of_tunnel(tunnel):
            self.catch_up(one, now)
            if not one.over:
                return one
        return None

    # ---- time

    def next_timeout(self) -> float | None:
        return -inf if self._later else self._timers.next()

    def timer(self, now: float) -> None:
        """A part of what is due by `now`."""
        self._go_on(now)
        for _ in range(AT_ONCE if not self._later else 1):
            owner = self._timers.pop(now)
            if owner is None:
                break
            self.catch_up(owner, now)
            if isinstance(owner, Peering):
                if not owner.over:
                    upkeep.peering_due(owner, now)
                self.settle(owner, now)
            else:
                self.catch_up(owner.peering, now)
                if owner.alive:
                    upkeep.due(owner, now)
                self.settle_session(owner, now)

    def due(self) -> list[IsakmpContext | Peering]:
        """Whoever has something to do, the first one first."""
        return [owner for owner, _ in self._timers.entries()]

    # ---- what became of one

    def settle_session(self, session: IsakmpContext, now: float) -> None:
        """Its timer or its end, and what is with its peer."""
        peering = session.peering
        if not session.alive:
            self.drop(session)
        elif session.sa.own_cookie in self.sessions:
            self._timers.set(session, upkeep.next_of(session))
            self._reception.note(session)
        if peering is not None:
            self.settle(peering, now)

    def settle(self, peering: Peering, now: float) -> None:
        """What follows for it; its timers or its end."""
        if not peering.over:
            peerings.work(peering, now)
        gone, peering.gone = peering.gone, []
        for session in gone:
            self.drop(session)
        for session in peering.sessions:
            self._timers.set(session, upkeep.next_of(session))
        if peering.over:
            self._timers.discard(peering)
            self._later.discard(peering)
            self.peerings.discard(peering)
        else:
            self.peerings.note(peering)
            self._timers.set(peering, upkeep.next_of_peering(peering))

    def drop(self, session: IsakmpContext) -> None:
        """It is closed."""
        self._reception.gone(session)
        self.sessions.drop(session)
        was_call = self.sessions.discard_call(session)
        self._timers.discard(session)
        self._later.discard(session)
        self._admission.discard(session)
        if was_call:
            for peering in self.peerings.newest_of_tunnel(session.peer.tunnel):
                peering.calling = False

    # ---- what is taken over (`ike.carried`)

    def take_over(self, peering: Peering, by_request: Iterable[IsakmpContext]) -> None:
        """What is with one peer was carried here; `await_times` follows for all that came together. `by_request`: those that a
        repeat of message 1 finds."""
        self.peerings.add(peering)
        for number in peering.sas:
            self.peerings.holds(number, peering)
        for session in peering.sessions:
            self.sessions.add(session)
            self._reception.note(session)
        self.sessions.add_requests(by_request)
        self.peerings.note(peering)

    def await_times(self, owner: IsakmpContext | Peering) -> None:
        """It was taken over with all that belongs to it."""
        at = upkeep.next_of_peering(owner) if isinstance(owner, Peering) else upkeep.next_of(owner)
        self._timers.set(owner, at)
