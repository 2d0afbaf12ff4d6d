"""What CHILD_SAs a tunnel is to have, what of that lacks and why, and what is asked for next: the one place that decides it.

Pure: `now` is an argument. It is looked at whenever a CHILD_SA came, went or changed (`Wanted.look`), and asked when the window is
free (`Wanted.next`). Nothing is queued, so nothing is lost: what could not be asked for yet lacks, and is found the next time.

    start = "start"     every proxy ID, for ever; what a person or an idle timeout ended comes back when it is asked for
    any other           what traffic or a person asked for, until it is there, or refused

What is refused, or goes soon after it came, is asked for again after a pause that doubles, and of all such proxy IDs together one
in AGAIN_EVERY seconds: a peer that deletes each CHILD_SA at once costs less than one message a second, however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ike.lifetimes import jitter, retry_after
from ipsec_dp.ike.proxy_ids import near
from ipsec_dp.ike.questions import TURNS, Questions, Rank, Turn, WaitingPackets
from ipsec_dp.ike.served import Served
from ipsec_dp.ike.traffic_selectors import ANY, ProxyId
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipsec_dp.ike.environment import Rng

SOON: Final = 60.0  # seconds: what goes sooner after it came is a failure
AGAIN_EVERY: Final = 4.0  # seconds between two questions for what failed before
THEIR_TURN: Final = 1.0  # seconds that a peer which deleted a CHILD_SA has to make another itself
PATIENCE: Final = 5.0  # seconds that a peer which called has to ask for its next CHILD_SA
ASKED: Final = 1.0  # seconds before a question that was not sent is looked at again
MAX_DELAYS: Final = 16  # TEMPORARY_FAILURE answers after which it counts as refused
SHOWN: Final = 3  # proxy IDs that a line of text names

EITHER: Final = tuple(ProxyId(one, one) for one in ANY)
"""What an unset proxy ID stands for: one IP version of both is enough, where the peer does not have the other."""


class Lack(NamedTuple):
    """A proxy ID that is wanted and has no CHILD_SA. `failed`: it was refused, or went. `again_at`: inf: when somebody asks."""

    proxy_id: ProxyId
    why: str
    failed: bool
    again_at: float

    def text(self, now: float) -> str:
        """ "10.1.1.0/24 <-> 10.2.1.0/24: the peer deleted it; asked for again in 4 s"."""
        wait = max(self.again_at - now, 0.0)
        again = "" if not self.failed else "; asked for again with the next packet" if wait == inf else f"; again in {wait:.0f} s"
        return f"{self.proxy_id}: {self.why or 'asked for'}{again}"


@dataclass(slots=True)
class Wish:
    """What is known of one proxy ID. `failures`: refused, or gone soon, so often in a row."""

    not_before: float = -inf
    failures: int = 0
    delays: int = 0
    why: str = ""
    refused: bool = False
    up_at: float = inf

    def failed(self, why: str, now: float, rng: Rng) -> None:
        self.not_before = now + retry_after(self.failures, rng)
        self.failures += 1
        self.why = why

    def went(self, now: float, rng: Rng, *, here: bool) -> None:
        """What was there since `up_at` is so no longer; `here`: we ended it."""
        if now - self.up_at < SOON:
            self.failed("", now, rng)
        else:
            self.failures = 0
            self.not_before = now if here else now + THEIR_TURN * jitter(rng, 1.0, 1.5)


_NEW: Final = Wish()  # of what nothing is known yet


@dataclass(slots=True)
class WantedParts:
    """All that a `Wanted` knows besides what is configured, so that another goes on from it. `waiting`: who waits where, and until
    when, where that was found out (`placed`)."""

    wishes: dict[ProxyId, Wish]
    asked: dict[ProxyId, bool]
    packets: dict[ProxyId, ProxyId]
    dismissed: set[ProxyId]
    held: set[ProxyId]
    up: dict[int, tuple[ProxyId, ...]]
    whole: set[ProxyId]
    told: dict[int, str]
    troubled: bool
    placed: bool
    floors: dict[Turn, float]
    waiting: list[tuple[ProxyId, Turn, float]]


class Wanted:
    """Of one IKE SA, and of those that rekey it. `lasting`: every one of the proxy IDs `configured`, for ever.

    Whatever happens to one proxy ID, no other is looked at: there may be thousands, and all come up one after the other.
    """

    def __init__(self, configured: tuple[ProxyId, ...], *, lasting: bool) -> None:
        self.served, self._lasting = Served(configured), lasting
        self._wishes: dict[ProxyId, Wish] = {}
        self._asked: dict[ProxyId, bool] = {}  # by a person (True) or by traffic alone
        self._packets = WaitingPackets()
        self._dismissed: set[ProxyId] = set()  # ended as intended: wanted when somebody asks
        self._held: set[ProxyId] = set()
        self._lacks: set[ProxyId] = set()  # wanted, and not there; of these:
        self._untried: set[ProxyId] = set()  # the peer was not asked yet, or has put it off
        self._refused: set[ProxyId] = set()
        self._questions = Questions()
        self._placed = False  # these five are yet to be found out: whoever does not ask does not pay for it
        self._told: dict[int, str] = {}  # why a CHILD_SA went
        self._troubled = False  # something failed since everything was there

    def configure(self, configured: tuple[ProxyId, ...], *, lasting: bool) -> None:
        """What the tunnel says now."""
        others = configured != self.served.configured.all
        if not others and lasting is self._lasting:
            return
        self._lasting = lasting
        if others:
            self.served.configure(configured)
            known = set(configured)
            for kept in (self._wishes, self._asked, self._packets):
                for gone in kept.keys() - known:
                    kept.pop(gone)
            self._held = self.served.held()
        self._placed = False

    def parts(self) -> WantedParts:
        """For `resume` of another one."""
        return WantedParts(
            self._wishes,
            self._asked,
            dict(self._packets),
            self._dismissed,
            self._held,
            self.served.up,
            self.served.whole,
            self._told,
            self._troubled,
            self._placed,
            self._questions.floors,
            self._questions.entries() if self._placed else [],
        )

    def resume(self, parts: WantedParts) -> None:
        """It goes on from what another knew, of all that is still configured."""
        known = self.served.configured.known
        self._wishes = {one: wish for one, wish in parts.wishes.items() if one in known}
        self._asked = {one: by_whom for one, by_whom in parts.asked.items() if one in known}
        for proxy_id, packet in parts.packets.items():
            if proxy_id in known:
                self._packets.wait(packet, proxy_id)
        self._dismissed, self._told, self._troubled = parts.dismissed & known, parts.told, parts.troubled
        self.served.resume(parts.up, parts.whole & known)
        self._held = parts.held & known
        self._questions.floors |= parts.floors
        if parts.placed:
            self._place_all()
            for proxy_id, place, at in parts.waiting:
                if proxy_id in known:
                    self._questions.drop(proxy_id)
                    self._questions.put(proxy_id, place, at)

    # ---- what is wanted

    def ask_for_all(self) -> None:
        """A person says so: at once, whatever failed before."""
        self._asked = dict.fromkeys(self.served.configured.all, True)
        self.begin_anew()

    def ask_for(self, packet: ProxyId) -> None:
        """Traffic does. It shortens no pause."""
        proxy_id = next((one for one in near(self.served.configured.all, packet) if one.covers(packet)), None)
        if proxy_id is None:
            return
        self._asked.setdefault(proxy_id, False)
        self._packets.wait(packet, proxy_id)
        self._wish(proxy_id).refused = False
        self._dismissed.discard(proxy_id)
        self._place(proxy_id)

    def begin_anew(self) -> None:
        """What is known of failures is no longer true."""
        self._dismissed.clear()
        self._questions.release()
        for wish in self._wishes.values():
            wish.not_before, wish.failures, wish.delays, wish.refused = -inf, 0, 0, False
        self._placed = False

    def dismiss(self, child: int) -> None:
        """This CHILD_SA ends as intended: what it served is wanted when somebody asks for it."""
        for proxy_id in self.served.by(child):
            self._dismissed.add(proxy_id)
            self._place(proxy_id)

    def inherit(self, old: Wanted) -> None:
        """On an IKE SA in the place of `old`'s: what was there or asked for too, and nothing of what failed."""
        self._asked |= dict.fromkeys((one for one in self.served.configured.all if one in old._asked or one in old._held), True)
        self._dismissed |= old._dismissed
        self._placed = False

    @property
    def all(self) -> tuple[ProxyId, ...]:
        """Every proxy ID that is wanted, in the order of the configuration."""
        return tuple(one for one in self.served.configured.all if self._is_wanted(one))

    def _is_wanted(self, proxy_id: ProxyId) -> bool:
        return proxy_id in self._asked or (self._lasting and proxy_id not in self._dismissed)

    def _wish(self, proxy_id: ProxyId) -> Wish:
        return self._wishes.setdefault(proxy_id, Wish())

    # ---- what is there

    def told(self, child: int, why: str) -> None:
        """Why a CHILD_SA is about to go."""
        self._told[child] = why

    def look(self, came: Mapping[int, tuple[ProxyId, ...]], went: Mapping[int, bool], now: float, rng: Rng) -> bool:
        """Since the last look. `came`: CHILD_SAs that are there to stay, with their selectors; `went`: those that are so no longer,
        True: we delete it. True when nothing lacks any more after something did."""
        for pairs in came.values():
            self._settle_packets(pairs)
        for proxy_id, last in self.served.look(came, went).items():
            self._compare(proxy_id, last, went.get(last, False), now, rng)
        self._told.clear()
        whole = self._troubled and bool(self._held) and not self._lacking()
        self._troubled = self._troubled and not whole
        return whole

    def _settle_packets(self, pairs: Iterable[ProxyId]) -> None:
        """What traffic asked for is there where a CHILD_SA holds the packet."""
        for proxy_id in self._packets.held_by(pairs):
            self._packets.pop(proxy_id)
            if not self._asked.get(proxy_id, True):
                del self._asked[proxy_id]
            self._place(proxy_id)

    def _compare(self, proxy_id: ProxyId, last: int, here: bool, now: float, rng: Rng) -> None:
        """With the last look. `last`: the CHILD_SA that went, and whether we ended it."""
        wish, was, is_held = self._wish(proxy_id), proxy_id in self._held, self.served.holds(proxy_id)
        if is_held and not was:
            self._held.add(proxy_id)
            wish.up_at, wish.why, wish.refused, wish.delays = now, "", False, 0
            self._dismissed.discard(proxy_id)
            if not self._lasting:
                self._asked.pop(proxy_id, None)
        elif was and not is_held:
            self._held.discard(proxy_id)
            wish.went(now, rng, here=here)
            if self._is_wanted(proxy_id):
                self._troubled = True
                wish.why = self._told.get(last, "the peer took less of it at a rekey")
        self._place(proxy_id)

    # ---- what lacks

    def _lacking(self) -> set[ProxyId]:
        if not self._placed:
            self._place_all()
        return self._lacks

    def _place_all(self) -> None:
        self._placed = True
        self._questions.clear()
        for kept in (self._lacks, self._untried, self._refused):
            kept.clear()
        for proxy_id in self.served.configured.all:
            self._place_one(proxy_id)

    def _place(self, proxy_id: ProxyId) -> None:
        """Something about it is another thing now: whether it lacks, and when it may be asked for."""
        if not self._placed:
            return
        for one in EITHER if self.served.configured.all == EITHER else (proxy_id,):  # where one depends on the other
            self._place_one(one)

    def _place_one(self, proxy_id: ProxyId) -> None:
        wish = self._wishes.get(proxy_id, _NEW)
        enough = bool(self._held) and self.served.configured.all == EITHER  # one IP version of both does
        lacks = proxy_id not in self._held and self._is_wanted(proxy_id) and not (wish.refused and enough)
        for kept, belongs in (
            (self._lacks, lacks),
            (self._untried, lacks and not wish.failures),
            (self._refused, lacks and wish.refused),
        ):
            if belongs:
                kept.add(proxy_id)
            else:
                kept.discard(proxy_id)
        if lacks or proxy_id in self._packets:
            self._questions.put(proxy_id, *self._turn(proxy_id, wish))
        else:
            self._questions.drop(proxy_id)

    def _turn(self, proxy_id: ProxyId, wish: Wish) -> tuple[Turn, float]:
        """Where it waits, and until when."""
        rank = Rank.FAILED if wish.failures else Rank.PACKET if proxy_id in self._packets else Rank.UNTRIED
        never = wish.refused and not self._lasting
        return Turn(rank, proxy_id in self._asked), inf if never else wish.not_before

    def lacking(self) -> tuple[Lack, ...]:
        """Of what is wanted, that which has no CHILD_SA."""
        found = []
        for proxy_id in self.served.configured.all if self._lacking() else ():
            if proxy_id in self._lacks:
                wish = self._wishes.get(proxy_id, _NEW)
                place, at = self._turn(proxy_id, wish)
                again_at = max(at, self._questions.floors[place])
                found.append(Lack(proxy_id, wish.why, wish.failures > 0 or bool(wish.why), again_at))
        return tuple(found)

    @property
    def untried(self) -> bool:
        """True while something lacks that the peer was not asked for yet, or that it put off."""
        return bool(self._lacking()) and bool(self._untried)

    @property
    def refused(self) -> bool:
        """True when the peer has refused all that is wanted."""
        return not self._held and bool(self._lacking()) and len(self._refused) == len(self._lacks)

    # ---- when it is asked for

    def leave_to_peer(self, now: float, rng: Rng) -> None:
        """The peer called, or has just made a CHILD_SA: the next question is its own for a while, lest each is asked twice."""
        until = now + PATIENCE * jitter(rng, 1.0, 1.2)
        self._questions.hold_back(until, *(place for place in TURNS if not place.asked))

    def next(self, now: float) -> tuple[ProxyId, ProxyId | None] | None:
        """The proxy ID to ask for now, and the packet that asked; None: none. It is then not given again for a moment."""
        self._lacking()
        found = self._questions.take(now)
        if found is None:
            return None
        proxy_id, place = found
        if place.rank is Rank.FAILED:
            self._questions.hold_back(now + AGAIN_EVERY, *(one for one in TURNS if one.rank is Rank.FAILED))
        self._wish(proxy_id).not_before = now + ASKED
        self._place(proxy_id)
        return proxy_id, self._packets.get(proxy_id)

    def next_due(self) -> float:
        """When `next` has something; inf: never. It may lie in the past."""
        self._lacking()
        return self._questions.next_due()

    # ---- what the peer says

    def were_refused(self, proxy_ids: Iterable[ProxyId], why: str, now: float, rng: Rng) -> bool:
        """The peer, or this host, makes no CHILD_SA for these. False when that is known, so that it is told once."""
        news = False
        for proxy_id in proxy_ids:
            wish = self._wish(proxy_id)
            news = news or why != wish.why
            wish.failed(why, now, rng)
            wish.refused = self._troubled = True
            self._packets.pop(proxy_id)
            self._place(proxy_id)
        return news

    def were_put_off(self, proxy_ids: Iterable[ProxyId], why: str, now: float, rng: Rng) -> None:
        """TEMPORARY_FAILURE (RFC 7296 §2.25): asked for again after a while."""
        for proxy_id in proxy_ids:
            wish = self._wish(proxy_id)
            wish.delays += 1
            if wish.delays > MAX_DELAYS:
                self.were_refused((proxy_id,), why, now, rng)
            else:
                wish.not_before = now + retry_after(wish.delays, rng)
                self._place(proxy_id)


def text(lacking: Iterable[Lack], now: float) -> str:
    """What lacks and why, as one line: failures first."""
    found = sorted(lacking, key=lambda one: not one.failed)
    return named([one.text(now) for one in found], SHOWN)
