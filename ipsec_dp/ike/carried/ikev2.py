"""IKE SAs of IKEv2 out of one manager, as values. What they share, a table of CHILD_SAs or what is wanted, stands there once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried import values as v
from ipsec_dp.ike.carried.damaged import SpoiledRecord, left_out, no_sa, no_table
from ipsec_dp.ike.carried.keys import KeysOf, from_date
from ipsec_dp.ike.carried.part import wiped_on_error
from ipsec_dp.ike.carried.tasks import Exporting, task_part, their_series_part
from ipsec_dp.ike.carried.windows import window_part
from ipsec_dp.ike.carried.wishes import wanted_part
from ipsec_dp.ike.v2.deadlines import Deadlines
from ipsec_dp.ike.v2.downgrades import Withstood
from ipsec_dp.ike.v2.followup import SerialTask
from ipsec_dp.ike.v2.sa import Child, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.manager import IkeManager
    from ipsec_dp.ike.v2.child_table import ChildTable
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import IkeSa
    from ipsec_dp.ike.v2.session import IkeSession
    from ipsec_dp.ike.v2.standing import Abilities, Ends
    from ipsec_dp.ike.wanted import Wanted

T = TypeVar("T")
CARRIED: Final = frozenset({State.PROVISIONAL, State.ESTABLISHED, State.EXPIRED, State.REKEYED, State.DELETING, State.LINGERING})
TIMES: Final = tuple(field.name for field in fields(Deadlines) if field.name not in ("failures", "reprieved"))


def is_carried(session: Context) -> bool:
    """Both sides have proven themselves, and something can still come of it."""
    return session.authenticated and session.state in CARRIED


class Ikev2Source:
    """What is carried of one manager. `stride` None: it has stopped; else how many SK IVs it keeps for itself."""

    def __init__(self, manager: IkeManager, now: float, keys: KeysOf, stride: int | None) -> None:
        self.manager, self.now, self.keys, self.stride = manager, now, keys, stride
        ours, due = manager.carried()
        self.sessions = [session for session in ours if is_carried(session)]
        self.due = {session: place for place, session in enumerate(due)}
        self.left_out = [
            m.LeftOut(tunnel=one.peer.tunnel, spi_i=one.sa.spi_i, why=f"{one.state} when it was to be carried: it is begun anew")
            for one in (*ours, *manager.strangers())
            if not one.authenticated and one.alive
        ]

    def withstood(self) -> list[m.WithstoodValue]:
        """Of peers that have no IKE SA which is carried: those say it themselves."""
        here = {Withstood(one.peer.tunnel, one.ends.identities, False).who for one in self.sessions if one.ends.identities}
        known = self.manager.downgrades.known
        return [m.WithstoodValue(one.tunnel, *v.identity_values(one.identities), one.ever) for one in known if one.who not in here]


class Ikev2Export:
    """Some of its IKE SAs with all that they name; `first`: and what is of none, which goes with the first of them. In the place of
    one that cannot be exported is what no import takes, which leaves out whoever belongs to it; `left_out` says why."""

    def __init__(self, source: Ikev2Source, sessions: Sequence[IkeSession], *, first: bool) -> None:
        self._now, self._keys, self._stride = source.now, source.keys, source.stride
        self._source, self._manager, self._first = source, source.manager, first
        self.sessions = sessions
        self.left_out: list[m.LeftOut] = []
        self._known = Exporting({session: place for place, session in enumerate(sessions)}, {})
        self._tables: dict[int, tuple[int, ChildTable]] = {}
        self._having: dict[int, int] = {}  # the place of the first IKE SA that has a table
        self._wanted: dict[int, tuple[int, Wanted]] = {}
        self._abilities: dict[int, tuple[int, Abilities]] = {}

    def part(self) -> m.Ikev2Part:
        """The source is as it was."""
        part = m.Ikev2Part()
        with wiped_on_error((part,)):
            part.sas.extend(map(self._sa, self.sessions))
            part.tables.extend(self._table(table) for _, table in self._tables.values())
            part.loose.extend(self._loose({one.number for table in part.tables for one in table.children}))
            due = sorted((one for one in self.sessions if one in self._source.due), key=self._source.due.__getitem__)
            part.wanted.extend(wanted_part(one) for _, one in self._wanted.values())
            part.abilities.extend(_abilities_part(one) for _, one in self._abilities.values())
            part.due.extend(self._known.places[one] for one in due)
            return self._with_the_rest(part) if self._first else part

    def _cannot_be(self, session: Context, error: Exception) -> SpoiledRecord:
        """It is said, and what is said of it in its place."""
        named = SpoiledRecord(session.peer.tunnel, session.sa.spi_i)
        self.left_out.append(left_out(named, error))
        return named

    def _with_the_rest(self, part: m.Ikev2Part) -> m.Ikev2Part:
        counts, retransmissions = self._manager.tallies()
        lengths, withstood = v.length_values(self._manager.lengths), self._source.withstood()
        return replace(part, lengths=lengths, counts=counts, retransmissions=retransmissions, withstood=withstood)

    def retire(self) -> None:
        """They are another's from now on: here nothing is sealed any more, and the keys are gone."""
        for session in self.sessions:
            if session.sa.outgoing is not None:
                session.sa.outgoing.ivs.retire()
            if session.sa.keys is not None:
                session.sa.keys.wipe()
            for key in session.sa.kept or ():
                key[:] = bytes(len(key))
            ours = (task.series for task in session.pending() if isinstance(task, SerialTask) and task.series is not None)
            for series in (*session.series.values(), *ours):
                series.wipe()

    # ---- an IKE SA

    def _sa(self, session: IkeSession) -> m.IkeSaPart:
        try:
            return self._whole_sa(session)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            return no_sa(self._cannot_be(session, error))

    def _whole_sa(self, session: IkeSession) -> m.IkeSaPart:
        """Its keys come last: nothing fails behind them, which would leave copies."""
        sa, handshake, succession = session.sa, session.handshake, session.succession
        if sa.suite is None or session.ends.identities is None:
            raise ValueError("an IKE SA that is up, and has no suite or no identities")
        spi, end = handshake.request_key
        self._having.setdefault(id(session.children), self._known.places[session])
        return m.IkeSaPart(
            tunnel=session.peer.tunnel,
            state=session.state.value,
            initiator=sa.initiator,
            spi_i=sa.spi_i,
            spi_r=sa.spi_r,
            suite=v.suite_value(sa.suite),
            sk_iv=self._sk_iv(sa),
            started=sa.started,
            established_at=sa.established_at,
            lowest_nonce=sa.lowest_nonce,
            own_quantum=sa.post_quantum.own,
            seed_quantum=sa.post_quantum.seed,
            path=v.path_value(session.path),
            nat=v.nat_value(session.nat),
            request_key=(spi, v.end_value(end)),
            by_request=self._manager.knows_request(session),
            hints=[(str(hint), "" if hint.cause is None else hint.cause.value) for hint in handshake.hints],
            ends=_ends_part(session.ends, session.ends.identities),
            abilities=_place_of(session.abilities, self._abilities),
            window=window_part(session.window, sa.outgoing, self._known),
            queue=[task_part(task, self._known) for task in session.queue.waiting()],
            table=_place_of(session.children, self._tables),
            wanted=_place_of(session.wanted, self._wanted) if "wanted" in vars(session) else None,
            series=[their_series_part(one, self._known) for one in session.series.values()],
            before=self._known.place(succession.before),
            after=self._known.place(succession.after),
            handed_over=succession.handed_over,
            withdrawn=session.withdrawn,
            deadlines=self._times(session),
            failures=session.deadlines.failures,
            reprieved=session.deadlines.reprieved,
            exchange=session.exchange,
            withstood=self._manager.downgrades.ever(session.peer, session.ends.identities),
            kept=None if sa.kept is None else m.KeptKeysPart(encryption=sa.kept[0][:], integrity=sa.kept[1][:]),
            keys=_keys_part(sa),
        )

    def _sk_iv(self, sa: IkeSa) -> m.Exact | m.Reserved | None:
        if sa.outgoing is None:
            return None
        ivs = sa.outgoing.ivs
        if self._stride is None:
            ivs.check()
            return m.Exact(next=ivs.next, serial=ivs.reservations, epoch=ivs.epoch)
        return m.Reserved(begins=ivs.reserve(self._stride), stride=self._stride, serial=ivs.reservations, epoch=ivs.epoch)

    def _times(self, session: IkeSession) -> dict[str, float]:
        """One that another was to replace which is not carried is replaced anew, at once."""
        times = {name: getattr(session.deadlines, name) for name in TIMES}
        after = session.succession.after
        if after is not None and after.alive and after not in self._known.places:
            times["reauth_at"] = min(times["reauth_at"], self._now)
        return times

    # ---- CHILD_SAs

    def _table(self, table: ChildTable) -> m.TablePart:
        children: list[m.ChildPart] = []
        try:
            with wiped_on_error(children):
                return self._whole_table(table, children)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            return no_table(self._cannot_be(self.sessions[self._having[id(table)]], error))

    def _whole_table(self, table: ChildTable, children: list[m.ChildPart]) -> m.TablePart:
        came, went = table.changes
        holder = self._known.place(table.holder)
        children.extend(self._child(child) for child in table.values() if child.table is table)
        return m.TablePart(
            holder=self._having[id(table)] if holder is None else holder,
            children=children,
            all=[self._known.named.setdefault(number, child).number for number, child in table.items()],
            came={number: v.pair_values(pairs) for number, pairs in came.items()},
            went=went,
            busy=table.busy,
        )

    def _loose(self, held: set[int]) -> Iterator[m.ChildPart]:
        """Those that are in no table, and what they name in turn. One that cannot be exported is not there for whoever names it."""
        seen = held.copy()
        while more := [child for number, child in self._known.named.items() if number not in seen]:
            for child in more:
                seen.add(child.number)
                with suppress(Exception):
                    yield self._child(child)

    def _child(self, child: Child) -> m.ChildPart:
        here = child.table is not None and child.installed
        keymat_in, keymat_out = self._keys(child.spi_in) if here else (b"", b"")
        holder = None if child.table is None else child.table.holder
        window = 0 if holder is None else holder.peer.replay_window
        return m.ChildPart(
            number=child.number,
            spi_in=child.spi_in,
            spi_out=child.spi_out,
            suite=v.suite_value(child.suite),
            initiator=child.initiator,
            ts_local=v.selector_values(child.ts_local),
            ts_remote=v.selector_values(child.ts_remote),
            pairs=v.pair_values(child.pairs),
            created=child.created,
            used=child.used,
            lowest_nonce=child.lowest_nonce,
            times=dict(child.times),
            state=child.state.value,
            installed=child.installed,
            sending=child.sending,
            limits=v.limits_value(child.limits),
            replay_window=window,
            switch_by=child.switch_by,
            fragments_also=child.fragments_also,
            resource=child.resource,
            alike=child.alike,
            waits=child.waits,
            failures=child.failures,
            reprieved=child.reprieved,
            replaces=child.replaces,
            successor=self._known.child(child.successor),
            post_quantum=child.post_quantum,
            keymat_in=bytearray(keymat_in),
            keymat_out=bytearray(keymat_out),
        )


def _place_of(one: T, found: dict[int, tuple[int, T]]) -> int:
    """Its place among those that several IKE SAs may share."""
    return found.setdefault(id(one), (len(found), one))[0]


def _keys_part(sa: IkeSa) -> m.KeysPart | None:
    keys = sa.keys
    return None if keys is None else m.KeysPart(**{name: getattr(keys, name)[:] for name in keys.__slots__})


def _ends_part(ends: Ends, identities: tuple[Identity, Identity]) -> m.EndsPart:
    return m.EndsPart(
        called=ends.called,
        identities=v.identity_values(identities),
        certificates=[one.public_bytes(Encoding.DER) for one in ends.certificates],
        until=from_date(ends.until),
        listed_until=from_date(ends.listed_until),
        renew_at=from_date(ends.renew_at),
        initial_contact=ends.initial_contact,
        account=None if ends.account is None else ends.account.level,
    )


def _abilities_part(abilities: Abilities) -> m.AbilitiesPart:
    return m.AbilitiesPart(
        fragmentation=abilities.fragmentation,
        longest=abilities.longest,
        longest_until=abilities.longest_until,
        followed=abilities.followed,
        slow=abilities.slow,
        hashes=None if abilities.hashes is None else sorted(abilities.hashes),
        single_pair=abilities.single_pair,
        told=sorted(abilities.notes.told),
        complaints=abilities.notes.complaints.level,
    )
