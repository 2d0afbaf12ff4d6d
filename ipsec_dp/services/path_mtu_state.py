"""The MTU of the path to one peer: what is believed of it, what is probed next (RFC 1191, RFC 8201, RFC 8899). No I/O, no clock.

An ICMP message that quotes a packet of ours is a hint from somebody on the path. It lowers the value at once, because packets are
being lost if it is true; then a probe of the former size, which only the peer can answer, shows whether it was. Where ICMP is
filtered, a probe of the size in use finds out, and a search between what passes and what does not. After a while larger sizes are
tried again. What this host itself refuses to send (EMSGSIZE) is beyond doubt: no probe has to refute it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Self

from msgspec import Struct

from ipsec_dp.util.leaves import Here

if TYPE_CHECKING:
    from collections.abc import Iterable

FLOOR = {4: 576, 6: 1280}  # RFC 791 §3.1 asks every host to take so much, RFC 8200 §5 every link
BASE = 1280  # what nearly every path takes: in use while one that loses packets is being searched
PROBE_MAX = 9216  # octets: IKE implementations have a largest message, many one of about 10,000 octets


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds. `raise_s`: until larger sizes are tried again (RFC 8201 §4: not within 5 minutes, 10 are recommended). `confirm_s`:
    between two probes of the size in use while there is traffic. `quiet_s`: until a path without traffic is looked at again.
    `probe_s`: before a probe is repeated. `answer_s`: until a probe without an answer is given up. `tick_s`: between
    two looks at what is due. `together_s`: changes within it are passed to the host as one."""

    raise_s: float = 600.0
    confirm_s: float = 60.0
    quiet_s: float = 5.0
    probe_s: float = 1.0
    answer_s: float = 60.0
    tick_s: float = 1.0
    together_s: float = 0.02


class TunnelMtus(NamedTuple):
    """`mtu`: octets of a tunnel's largest inner packet; `path_mtu`: of the largest outer one, None while there is no peer."""

    mtu: int | None
    path_mtu: int | None


class ProbePurpose(Enum):
    """What the next probe is for."""

    CONFIRM = "does the size in use pass?"
    REFUTE = "does the former size still pass, whatever an ICMP message says?"
    RAISE = "does the link's own size pass again?"
    SEARCH = "what is the largest size that passes?"


class PathMtuState(Struct, frozen=True, forbid_unknown_fields=True):
    """What a `PathMtu` knows, for another process of this host; its fields are explained there."""

    link: Here[int]
    outer: Here[int]
    asking: Here[str]
    passes: Here[int]
    fails: Here[int]
    former: Here[int]
    due: Here[float]
    raise_at: Here[float]
    deaf_until: Here[float]
    found_by_loss: Here[bool]


class PathMtu:
    """One path. `link`: the MTU of the first hop. `outer`: octets of the largest outer packet that is believed to pass."""

    def __init__(self, version: int, link: int, intervals: Intervals, now: float) -> None:
        self.floor = FLOOR[version]
        self.link = self.outer = max(link, self.floor)
        self._intervals = intervals
        self._asking = ProbePurpose.CONFIRM
        self._passes, self._fails = self.floor, self.outer  # bounds of a search
        self._former = 0  # the size before an ICMP message was believed
        self._due = self._raise_at = now
        self._deaf_until = now  # ICMP messages are not believed
        self._under_way = 0  # the size that is being probed
        self._forget_at = now
        self._found_by_loss = False

    def export(self) -> PathMtuState:
        """For a process that goes on with it. A probe that is under way is asked again."""
        return PathMtuState(
            link=self.link,
            outer=self.outer,
            asking=self._asking.name,
            passes=self._passes,
            fails=self._fails,
            former=self._former,
            due=self._due,
            raise_at=self._raise_at,
            deaf_until=self._deaf_until,
            found_by_loss=self._found_by_loss,
        )

    @classmethod
    def resumed(cls, version: int, state: PathMtuState, intervals: Intervals, now: float) -> Self:
        """The inverse. KeyError, ValueError: the state says what cannot be."""
        made = cls(version, state.link, intervals, now)
        if not made.floor <= state.outer <= made.link:
            raise ValueError(f"a path of {state.outer} octets behind a link of {state.link}")
        made.outer, made._asking = state.outer, ProbePurpose[state.asking]
        made._passes, made._fails, made._former = state.passes, state.fails, state.former
        made._due, made._raise_at, made._deaf_until = state.due, state.raise_at, state.deaf_until
        made._found_by_loss = state.found_by_loss
        return made

    @property
    def black_hole(self) -> bool:
        """Whether it takes less than its first hop, and nothing but lost probes showed that."""
        return self._found_by_loss and self.outer < self.link

    @property
    def due(self) -> float:
        """Before then there is nothing to do."""
        return max(self._due, self._forget_at) if self._under_way else self._due

    @property
    def waits_for_traffic(self) -> bool:
        """What is due can wait while nothing is sent."""
        return self._asking in (ProbePurpose.CONFIRM, ProbePurpose.RAISE) and not self._under_way

    # ---- what is reported

    def link_is(self, link: int, now: float) -> None:
        """The MTU of the first hop, as the host has it now."""
        link = max(link, self.floor)
        if link == self.link:
            return
        self.link = self.outer = link
        self._found_by_loss = False
        self._ask(ProbePurpose.CONFIRM, now)

    def reported(self, mtu: int, now: float) -> bool:
        """An ICMP message that quotes what we sent lately says that a hop takes `mtu` octets. Whether it changed anything."""
        if not self.floor <= mtu < self.outer or now < self._deaf_until:
            return False
        self._former = self._former if self._asking is ProbePurpose.REFUTE else self.outer
        self.outer = mtu
        self._found_by_loss = False
        self._raise_at = now + self._intervals.raise_s
        self._ask(ProbePurpose.REFUTE, now)
        return True

    def refused(self, octets: int, links: Iterable[int], now: float) -> bool:
        """This host sends no packet of `octets` by this path. `links`: MTUs of its interfaces, one of them the cause.

        The largest that explains it is taken; where none does, BASE or the floor. Whether it changed anything.
        """
        if octets > self.outer:  # by now
            return False
        fitting = max((mtu for mtu in (*links, BASE, self.floor) if self.floor <= mtu < octets), default=self.floor)
        before, self.outer = self.outer, min(self.outer, fitting)
        self._raise_at = now + self._intervals.raise_s
        self._ask(ProbePurpose.CONFIRM, now)
        return self.outer != before

    # ---- probes

    def next_probe(self, now: float, *, active: bool) -> int | None:
        """Octets of the probe to send now, None: none. `active`: packets were sent by this path since the last call that gave none.

        Who sends it calls `probed` with the outcome; who cannot send probes at all calls `aged` instead.
        """
        if now < self.due:
            return None
        if self._asking is ProbePurpose.CONFIRM and self.outer < self.link and now >= self._raise_at:
            self._asking = ProbePurpose.RAISE
        self._under_way = 0
        if self.waits_for_traffic and not active:
            self._due = now + self._intervals.quiet_s
            return None
        size = self._size()
        if size > PROBE_MAX:
            self._settle(now)
            return None
        self._under_way, self._forget_at = size, now + self._intervals.answer_s
        return size

    def _size(self) -> int:
        match self._asking:
            case ProbePurpose.CONFIRM:
                return self.outer
            case ProbePurpose.REFUTE:
                return self._former
            case ProbePurpose.RAISE:
                return self.link
        if self._passes < BASE < self._fails:
            return BASE
        return (self._passes + self._fails) // 2

    def not_sent(self, now: float) -> None:
        """The probe could not be sent now."""
        self._under_way = 0
        self._due = now + self._intervals.probe_s

    def probed(self, asked: int, octets: int, now: float, *, passed: bool) -> None:
        """What became of the probe of `asked` octets, which had `octets`: ciphers with blocks do not make every size."""
        if asked != self._under_way:
            return
        self._under_way = 0
        match self._asking:
            case ProbePurpose.CONFIRM:
                self._confirmed(now, passed=passed)
            case ProbePurpose.REFUTE:
                self._refuted(octets, now, passed=passed)
            case ProbePurpose.RAISE:
                if passed:
                    self.outer = octets if octets < self.link - 16 else self.link
                    self._settle(now)
                else:
                    self._search(self.outer, self.link, now)
            case ProbePurpose.SEARCH:
                self._narrowed(asked, octets, now, passed=passed)

    def _confirmed(self, now: float, *, passed: bool) -> None:
        if passed or self.outer <= self.floor:
            self._settle(now)
            return
        self._found_by_loss = True
        lost, self.outer = self.outer, BASE if self.floor <= BASE < self.outer else self.floor
        self._raise_at = now + self._intervals.raise_s
        self._search(self.floor, lost, now)

    def _refuted(self, octets: int, now: float, *, passed: bool) -> None:
        """An answer to what cannot have passed proves the message false; from then on others are not believed for a while."""
        if passed and octets > self.outer:
            self.outer = self._former
            self._deaf_until = now + self._intervals.confirm_s
            self._settle(now)
        else:
            self._ask(ProbePurpose.CONFIRM, now)

    def _search(self, passes: int, fails: int, now: float) -> None:
        self._passes, self._fails = passes, fails
        self._ask(ProbePurpose.SEARCH, now)

    def _narrowed(self, asked: int, octets: int, now: float, *, passed: bool) -> None:
        done = passed and octets <= self._passes  # there is no size between
        if passed:
            self._passes = max(self._passes, octets)
        else:
            self._fails = asked
            self.outer = min(self.outer, max(self._passes, self.floor))
        self.outer = max(self.outer, self._passes)
        if done or self._fails - self._passes <= 1:
            self.outer = self._passes
            self._raise_at = now + self._intervals.raise_s
            self._settle(now)
        else:
            self._ask(ProbePurpose.SEARCH, now)

    def _ask(self, what: ProbePurpose, now: float) -> None:
        self._asking, self._due, self._under_way = what, now, 0

    def _settle(self, now: float) -> None:
        self._asking, self._due = ProbePurpose.CONFIRM, now + self._intervals.confirm_s
        if self.outer < self.link:
            self._due = min(self._due, max(self._raise_at, now + self._intervals.quiet_s))

    def aged(self, now: float) -> bool:
        """Without probes, a reduced value is forgotten after a while (RFC 1191 §6.3). Whether it was."""
        self._due = now + self._intervals.quiet_s
        if self.outer == self.link or now < self._raise_at:
            return False
        self.outer = self.link
        return True
