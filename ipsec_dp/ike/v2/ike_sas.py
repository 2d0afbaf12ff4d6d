"""All IKE SAs of a gateway: each acts, then what became of it is looked at, and of those in its succession. No other one is.

What is to happen to many at once is begun with a few, and waits for the others (`later`) until `timer` comes to them, or anything
else wants to happen to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ipsec_dp.ike.authenticated import Accounts
from ipsec_dp.ike.later import AT_ONCE, Later
from ipsec_dp.ike.timer_queue import TimerQueue
from ipsec_dp.ike.v2 import ike_rekey, replacement, uniqueness
from ipsec_dp.ike.v2.lingering import Lingering
from ipsec_dp.ike.v2.reception import Reception
from ipsec_dp.ike.v2.sa import CARRYING, State
from ipsec_dp.ike.v2.session_index import SessionIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.actions import Action
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.strangers import StrangersEvents
    from ipsec_dp.ike.v2.admission import Admission
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child
    from ipsec_dp.ike.v2.session import IkeSession

Step = Callable[[float], "list[Action]"]  # of `now`


class IkeSas:
    """`admission`: of those that are held, what strangers have; whatever ends gives it back. `events`: which of those that
    strangers cause are told."""

    def __init__(self, environment: Environment, admission: Admission[IkeSession], events: StrangersEvents) -> None:
        self.sessions = SessionIndex()
        self._admission, self._events = admission, events
        self._timers: TimerQueue[IkeSession] = TimerQueue()
        self._later: Later[IkeSession, list[Action]] = Later()
        self._children: WeakValueDictionary[int, Child] = WeakValueDictionary()
        self._reception = Reception(environment.watcher, environment.keys)
        self._lingering: Lingering[IkeSession] = Lingering()
        self._accounts = Accounts()
        self._spawned: list[IkeSession] = []  # by the session that acts just now
        self._met: list[IkeSession] = []  # whose place it takes, or the other way round

    @property
    def empty(self) -> bool:
        """True when nothing at all is held of any peer."""
        return self.sessions.empty and not self._timers and not self._admission.half_open and not self._lingering

    # ---- many at once, and time

    def each(self, steps: Iterable[tuple[IkeSession, Step]], now: float) -> list[Action]:
        """Lets something happen to each of many sessions: to AT_ONCE of them now."""
        self._later.add(steps)
        return self._go_on(now)

    def _go_on(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for session in self._later.first():
            actions += self.run(session, now, list)
        return actions

    def unfinished(self) -> bool:
        """Whether anybody still waits for what is to happen to many."""
        return bool(self._later)

    def next_timeout(self) -> float | None:
        return -inf if self._later else self._timers.next()

    def timer(self, now: float) -> list[Action]:
        """A part of what is due by `now`."""
        actions = self._go_on(now)
        for _ in range(AT_ONCE if not self._later else 1):
            session = self._timers.pop(now)
            if session is None:
                break
            actions += self.run(session, now, partial(session.timer, now))
        return actions

    def due(self) -> list[IkeSession]:
        """Whoever has something to do, the first one first."""
        return [session for session, _ in self._timers.entries()]

    # ---- who is found

    def current(self, tunnel: str) -> IkeSession | None:
        """The newest IKE SA of a tunnel that is up, else one that we are making."""
        ours = None
        for session in self.sessions.newest_of_tunnel(tunnel):
            if not session.in_use or session.state in (State.EXPIRED, State.DELETING):
                continue
            if session.state is State.ESTABLISHED and not replacement.replaced(session):
                return session
            if ours is None and session.sa.initiator:
                ours = session
        return ours

    def others(self, session: Context) -> list[IkeSession]:
        """Further IKE SAs that are up between the same identities, of whatever tunnel."""
        up = (other for other in self.sessions.of_ends(session) if other is not session)
        return [one for one in up if one.state in CARRYING and one.in_use]

    def child(self, number: int) -> tuple[Child | None, IkeSession | None]:
        """A CHILD_SA, and the IKE SA that has it; None: not any more."""
        one = self._children.get(number)
        return one, None if one is None or one.table is None else self.sessions.get(one.table.holder.sa.own_spi)

    def holds(self, child: Child) -> None:
        """A CHILD_SA was made."""
        self._children[child.number] = child

    # ---- one acts

    def run(self, session: IkeSession, now: float, step: Callable[[], list[Action]]) -> list[Action]:
        """Let a session act, then see what became of it, and of those in its succession."""
        was_up, before = session.authenticated, _succession(session)
        actions: list[Action] = []
        for done in self._later.catch_up(session, now):
            actions += done
        actions += step()
        spawned, self._spawned = self._spawned, []
        for new in spawned:
            self.sessions.add(new)
        for new in spawned:
            actions += self.run(new, now, partial(send_next, new, now))
        if session.authenticated and not was_up:
            actions += self._came_up(session, now)
        met, self._met = self._met, []
        for one in {**before, **_succession(session), **dict.fromkeys(met)}:
            self.settle(one)
        return self._events.allowed(actions, now)

    def run_child(self, tunnel: str, child: int, now: float, step: Callable[[IkeSession, Child], None]) -> list[Action]:
        """The same for the IKE SA of a tunnel that has a CHILD_SA; nothing where there is none."""
        one, session = self.child(child)
        if one is None or session is None or session.peer.tunnel != tunnel or session.succession.handed_over:
            return []

        def run() -> list[Action]:
            if child in session.children:
                step(session, one)
            return send_next(session, now)

        return self.run(session, now, run)

    def spawned(self, session: IkeSession) -> None:
        """The one that acts has made it."""
        self._spawned.append(session)

    def met(self, session: IkeSession) -> None:
        """The one that acts is in its succession from now on."""
        self._met.append(session)

    def _came_up(self, session: IkeSession, now: float) -> list[Action]:
        """AUTH has shown whose it is."""
        actions: list[Action] = []
        self._admission.half_open.discard(session)
        self.sessions.add(session)
        self._open_account(session)
        for one, consequence in uniqueness.consequences(session, self.others(session), now):
            actions += self.run(one, now, partial(_do, one, consequence))
        for one in uniqueness.in_vain(session, self.sessions.of_tunnel(session.peer.tunnel)):
            actions += self.run(one, now, partial(_do, one, partial(uniqueness.give_up, one, session, now)))
        return actions

    def _open_account(self, session: IkeSession) -> None:
        """Of what the peer may cost."""
        session.ends.account = self._accounts.of(session.ends.meaning(), len(session.peer.proxy_ids))

    # ---- what became of one

    def hold_stranger(self, session: IkeSession) -> None:
        """One for somebody who has proven nothing yet."""
        self.sessions.add_stranger(session)
        self._timers.set(session, session.next_timeout())
        self._reception.note(session)

    def settle(self, session: IkeSession) -> None:
        """Its timer, or its end."""
        if session.state is State.CLOSED:
            self._drop(session)
        elif session.sa.own_spi in self.sessions:
            self._timers.set(session, session.next_timeout())
            self._reception.note(session)
            if session.state is State.LINGERING and session.authenticated and session not in self._lingering:
                self._release(self._lingering.add(session, session.ends.meaning()))

    def _release(self, oldest: IkeSession | None) -> None:
        """One that has ended makes room for others that have."""
        if oldest is not None:
            oldest.release()
            self._drop(oldest)

    def _drop(self, session: IkeSession) -> None:
        self._later.discard(session)
        self.sessions.drop(session)
        self._reception.gone(session)
        self._timers.discard(session)
        self._lingering.discard(session)
        self._admission.half_open.discard(session)

    def take_over(self, session: IkeSession, *, by_request: bool) -> None:
        """An IKE SA that was carried here is one of these from now on; `settle` follows for all that came together."""
        if by_request:
            self.sessions.add_stranger(session)
        self.sessions.add(session)
        self._open_account(session)


def _succession(session: IkeSession) -> dict[IkeSession, None]:
    """The session and those that are to replace it or be replaced by it: what one step may change."""
    ways = session.succession
    if ways.before is ways.after is None and not isinstance(session.task, ike_rekey.IkeRekey):
        return {session: None}
    found: dict[IkeSession, None] = {}
    waiting: list[Any] = [session]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in found:
            found[one] = None
            rival = one.task.rival if isinstance(one.task, ike_rekey.IkeRekey) else None
            waiting += [one.succession.before, one.succession.after, rival]
    return found


def _do(session: IkeSession, step: Callable[[], None]) -> list[Action]:
    step()
    return session.take()


def send_next(session: IkeSession, now: float) -> list[Action]:
    """What it has to say by now, and what is to be done."""
    session.send_next(now)
    return session.take()
