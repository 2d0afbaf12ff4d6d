"""Values back into IKE SAs of IKEv2. Until `Ikev2Import.commit` the manager does not know of any of them."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cryptography import x509

from ipsec_dp.ike.actions import Action, Cause, InstallInbound, InstallOutbound, SwitchOutbound
from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried import values as v
from ipsec_dp.ike.carried.ike_keys import ike_sa_of, wipe_session
from ipsec_dp.ike.carried.ikev2 import TIMES
from ipsec_dp.ike.carried.keys import to_date
from ipsec_dp.ike.carried.part import UNSOUND
from ipsec_dp.ike.carried.places import check_sa, check_table, families
from ipsec_dp.ike.carried.tasks import Importing, task_of, their_series_of
from ipsec_dp.ike.carried.windows import fill_window
from ipsec_dp.ike.carried.wishes import wanted_parts
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.suites import suite_of
from ipsec_dp.ike.traffic_selectors import selector_pairs
from ipsec_dp.ike.v2 import resources
from ipsec_dp.ike.v2.child_respond import Prepared
from ipsec_dp.ike.v2.context import expected_on
from ipsec_dp.ike.v2.deadlines import Deadlines
from ipsec_dp.ike.v2.downgrades import Withstood
from ipsec_dp.ike.v2.exchanges import UnprovenError
from ipsec_dp.ike.v2.sa import Child, ChildState, State
from ipsec_dp.ike.v2.session import IkeSession
from ipsec_dp.ike.v2.standing import Abilities, Ends
from ipsec_dp.ike.wanted import Wanted
from ipsec_dp.util.wiping import unless_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipsec_dp.ike.manager import IkeManager
    from ipsec_dp.ike.v2.child_table import ChildTable

T = TypeVar("T")
S: Final = State
_UP: Final = (S.PROVISIONAL, S.ESTABLISHED)
_WAYS: Final = {  # by which an IKE SA comes to stand where it stood, through steps that the table has
    S.PROVISIONAL: _UP[:1],
    S.ESTABLISHED: _UP,
    S.EXPIRED: (*_UP, S.EXPIRED),
    S.DELETING: (*_UP, S.DELETING),
    S.LINGERING: (*_UP, S.LINGERING),
    S.REKEYED: (S.PROVISIONAL, S.REKEYED),
}
_CHILD_TIMES: Final = frozenset({"soft", "hard", "idle_at", "switch_at", "remove_at", "more_at"})


class Ikev2Import:
    """One model, for one manager. An IKE SA of which it says what cannot be is left out, with those that it names; making it raises
    one of UNSOUND for what belongs to none alone."""

    def __init__(self, part: m.Ikev2Part, manager: IkeManager, now: float) -> None:
        self._part, self._manager, self._now = part, manager, now
        self.left_out: list[m.LeftOut] = []
        self._reserved: list[tuple[int, int]] = []  # by the place of the IKE SA
        self._known = Importing()
        self._abilities: dict[int, Abilities] = {}
        self._wanted: dict[int, Wanted] = {}
        self._why: dict[int, str] = {}  # by the place of an IKE SA that cannot be
        self._spis: set[bytes] = set()
        self._unsound: set[int] = set()  # places of tables
        self._sessions: list[IkeSession | None] = []
        self._lengths = v.lengths_of(part.lengths)
        self._withstood = [
            Withstood(one.tunnel, v.identities_of((one.ours, one.theirs)), one.ever)
            for one in part.withstood
            if manager.peer(one.tunnel) is not None
        ]
        with unless_whole(self.wipe):
            self._make()

    def _make(self) -> None:
        part = self._part
        self._make_children()
        for place, one in enumerate(part.sas):
            self._sessions.append(self._tried(place, partial(self._session, one)))
        self._known.sas = self._sessions
        self._leave_out()
        self._fill_tables()
        for place, (one, session) in enumerate(zip(part.sas, self._sessions, strict=True)):
            if session is not None:
                self._tried(place, partial(self._connect, place, one, session))
        self._leave_out()
        self._due = [self._sessions[place] for place in part.due]

    def _tried(self, place: int, step: Callable[[], T]) -> T | None:
        """None: it cannot be."""
        try:
            return step()
        except UNSOUND as error:
            self._why.setdefault(place, f"its state says what cannot be ({type(error).__name__})")
            return None

    def _leave_out(self) -> None:
        """Those that cannot be, and whoever names them; nothing of their keys stays."""
        if not self._why:
            return
        for family in families(self._part):
            if not any(place in self._why for place in family):
                continue
            for place in family:
                one, session = self._part.sas[place], self._sessions[place]
                self._sessions[place] = None
                if session is not None:
                    wipe_session(session)
                if session is not None or place in self._why:
                    why = self._why.get(place, "what it belongs to says what cannot be")
                    self.left_out.append(m.LeftOut(tunnel=one.tunnel, spi_i=one.spi_i, why=why))
        self._why = {}

    def wipe(self) -> None:
        """Instead of `commit`: nothing of it comes to be, and no key of it stays."""
        for session in self._sessions:
            if session is not None:
                wipe_session(session)

    @property
    def reserved(self) -> list[tuple[str, int]]:
        """SPIs that are named to peers and have no SA yet, with their tunnels."""
        return [(self._part.sas[place].tunnel, spi) for place, spi in self._reserved if self._sessions[place] is not None]

    def commit(self, number: int) -> None:
        """They are the manager's. `number`: of the CHILD_SA that was made last."""
        self._manager.go_on_from(number, (self._part.counts, self._part.retransmissions))
        self._manager.lengths.resume(self._lengths)
        for each in self._withstood:
            self._manager.downgrades.note(each)
        there = [(one, session) for one, session in zip(self._part.sas, self._sessions, strict=True) if session is not None]
        for one, session in there:
            self._manager.take_over(session, by_request=one.by_request)
            if one.withstood is not None and session.ends.identities is not None:
                self._manager.downgrades.note(Withstood(session.peer.tunnel, session.ends.identities, one.withstood))
            if session.ends.account is not None and one.ends.account is not None:
                session.ends.account.resume(one.ends.account)
        for session in dict.fromkeys((*(due for due in self._due if due is not None), *(session for _, session in there))):
            self._manager.settle(session)

    def actions(self) -> Iterator[Action]:
        """What the data plane is to have: every SA that is installed, who sends, and what is expected of requests under way."""
        for place, part in enumerate(self._part.tables):
            holder = None if place in self._unsound else self._sessions[part.holder]
            if holder is not None:
                for one in part.children:
                    yield from _installs(one, self._known.children[one.number], holder)
        for session in self._sessions:
            if session is not None and session.task is not None and session.task.spi_in is not None:
                yield expected_on(session, session.task.spi_in)

    # ---- CHILD_SAs

    def _make_children(self) -> None:
        """A table with one that cannot be is no table. Those that are in none are there for whoever names them."""
        made, part = self._known.children, self._part
        for place, table in enumerate(part.tables):
            try:
                check_table(table, part)
                for one in table.children:
                    if one.number in made or self._manager.has_child(one.number):
                        raise ValueError("two CHILD_SAs of one number")
                    made[one.number] = _child(one)
            except UNSOUND:
                self._unsound.add(place)
        for one in part.loose:
            with suppress(*UNSOUND):
                made.setdefault(one.number, _child(one))
        for place, table in enumerate(part.tables):
            try:
                self._name_successors(table.children)
            except UNSOUND:
                self._unsound.add(place)
        for one in part.loose:
            with suppress(*UNSOUND):
                self._name_successors((one,))

    def _name_successors(self, parts: Iterable[m.ChildPart]) -> None:
        for one in parts:
            if one.successor is not None:
                self._known.children[one.number].successor = self._known.child(one.successor)

    def _fill_tables(self) -> None:
        """Whoever shares one has the same."""
        having: dict[int, list[IkeSession]] = {}
        for one, session in zip(self._part.sas, self._sessions, strict=True):
            if session is not None:
                having.setdefault(one.table, []).append(session)
        whose: list[tuple[Child, ChildTable]] = []
        for place, sessions in having.items():
            part = self._part.tables[place]
            holder = self._sessions[part.holder]
            if holder is None or holder not in sessions:
                continue
            table = holder.children  # as it was made: with nothing in it
            self._tried(part.holder, partial(self._fill, table, part))
            for session in sessions:
                session.children = table
            whose += [(self._known.children[one.number], table) for one in part.children]
        for child, table in whose:
            child.table = table

    def _fill(self, table: ChildTable, part: m.TablePart) -> None:
        for number in part.all:
            table[number] = self._known.children[number]
        table.resume({number: v.pairs_of(pairs) for number, pairs in part.came.items()}, dict(part.went))
        table.busy = part.busy

    # ---- IKE SAs

    def _session(self, part: m.IkeSaPart) -> IkeSession | None:
        """By itself. None: nobody is known of whom it is."""
        peer = self._manager.peer(part.tunnel)
        if peer is None:
            self.left_out.append(m.LeftOut(tunnel=part.tunnel, spi_i=part.spi_i, why="its tunnel is no longer configured"))
            return None
        check_sa(part, self._part)
        if part.table in self._unsound:
            raise ValueError("one of its CHILD_SAs cannot be")
        sa = ike_sa_of(part)
        with unless_whole(sa.wipe):
            if sa.own_spi in self._spis or self._manager.has_spi(sa.own_spi):
                raise ValueError("two IKE SAs of one SPI")
            self._spis.add(sa.own_spi)
            session = IkeSession(self._manager.gateway, Candidates((peer,)), sa, v.path_of(part.path), self._now)
            self._resume(session, part)
        return session

    def _resume(self, session: IkeSession, part: m.IkeSaPart) -> None:
        """What it knows by itself."""
        sa = session.sa
        sa.started, sa.established_at = part.started, part.established_at
        session.nat = v.nat_of(part.nat)
        spi, end = part.request_key
        session.handshake.request_key = spi, v.endpoint(end)
        session.handshake.hints = [UnprovenError(text, Cause(cause) if cause else None) for text, cause in part.hints]
        session.ends, session.abilities = _ends(part.ends), self._abilities_at(part.abilities)
        if part.wanted is not None:
            session.wanted = self._wanted_at(part.wanted, session)
        if not part.deadlines.keys() <= set(TIMES):
            raise ValueError("a time that nobody knows")
        session.deadlines = Deadlines(**part.deadlines, failures=part.failures, reprieved=part.reprieved)
        session.exchange, session.withdrawn = part.exchange, part.withdrawn
        for state in _WAYS[State(part.state)]:
            session.enter(state)

    def _wanted_at(self, place: int, session: IkeSession) -> Wanted:
        if place not in self._wanted:
            self._wanted[place] = Wanted(session.peer.proxy_ids, lasting=session.peer.start == "start")
            self._wanted[place].resume(wanted_parts(self._part.wanted[place]))
        return self._wanted[place]

    def _abilities_at(self, place: int) -> Abilities:
        if place not in self._abilities:
            self._abilities[place] = _abilities(self._part.abilities[place])
        return self._abilities[place]

    def _connect(self, place: int, part: m.IkeSaPart, session: IkeSession) -> None:
        """With all that it names."""
        succession, known = session.succession, self._known
        succession.before, succession.after = known.at(part.before), known.at(part.after)
        succession.handed_over = part.handed_over
        fill_window(session.window, part.window, session.sa.outgoing, known)
        if session.task is not None and session.task.spi_in is not None:
            self._reserved.append((place, session.task.spi_in))
        for waiting in part.queue:
            session.queue.add(task_of(waiting, known))
        for each in part.series:
            if each.link in session.series:
                raise ValueError("two series of one link")
            series = session.series[each.link] = their_series_of(each, known)
            if isinstance(series.purpose, Prepared):
                self._reserved.append((place, series.purpose.spis[0]))


def _child(part: m.ChildPart) -> Child:
    if not _CHILD_TIMES.issuperset(part.times):
        raise ValueError("a time that nobody knows")
    child = Child(
        part.number,
        v.spi_of(part.spi_in),
        v.spi_of(part.spi_out),
        v.esp_suite_of(part.suite),
        part.initiator,
        v.selectors_of(part.ts_local),
        v.selectors_of(part.ts_remote),
        v.pairs_of(part.pairs),
        part.created,
        part.used,
        part.lowest_nonce,
        times=dict(part.times),
        state=ChildState(part.state),
        installed=part.installed,
        sending=part.sending,
        switch_by=part.switch_by,
        waits=part.waits,
        failures=part.failures,
        reprieved=part.reprieved,
        replaces=part.replaces,
    )
    child.post_quantum, child.limits = v.withstands_of(part.post_quantum), v.limits_of(part.limits)
    child.fragments_also, child.resource = part.fragments_also, part.resource
    child.alike = part.alike
    return child


def _installs(part: m.ChildPart, child: Child, holder: IkeSession) -> list[Action]:
    """The keys are copies, for whoever installs them wipes them."""
    if not child.installed or not part.keymat_in:
        return []
    tunnel, suite, pairs = holder.peer.tunnel, suite_of(child.suite), selector_pairs(child.pairs)
    common: dict[str, Any] = {"path": holder.path, "udp": holder.udp, "fragments_also": child.fragments_also}
    common |= {"suite": suite, "selectors": pairs, "limits": child.limits, "resource": child.resource or resources.FIRST}
    found: list[Action] = [
        InstallInbound(
            tunnel,
            child.number,
            child.spi_in,
            keymat=part.keymat_in[:],
            replay_window=part.replay_window,
            replaces=child.replaces,
            **common,
        )
    ]
    if part.keymat_out:
        found.append(InstallOutbound(tunnel, child.number, child.spi_out, keymat=part.keymat_out[:], **common))
    if child.sending:
        found.append(SwitchOutbound(tunnel, child.number))
    return found


def _ends(part: m.EndsPart) -> Ends:
    return Ends(
        part.called,
        v.identities_of(part.identities),
        tuple(map(x509.load_der_x509_certificate, part.certificates)),
        to_date(part.until),
        to_date(part.listed_until),
        to_date(part.renew_at),
        part.initial_contact,
    )


def _abilities(part: m.AbilitiesPart) -> Abilities:
    found = Abilities(
        fragmentation=part.fragmentation,
        longest=part.longest,
        longest_until=part.longest_until,
        followed=part.followed,
        slow=part.slow,
        hashes=None if part.hashes is None else frozenset(part.hashes),
        single_pair=part.single_pair,
    )
    found.notes.told = set(part.told)
    found.notes.complaints.resume(part.complaints)
    return found
