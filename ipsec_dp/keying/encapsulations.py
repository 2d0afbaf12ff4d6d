"""Whose ESP goes as IP protocol 50 although `encapsulation = "auto"` would have it in UDP: where UDP does not get through.

Known by tunnel, and true between two addresses alone. It begins where what was begun on port 500 goes no further on port 4500
(`no_way`), or where IKE passes and nothing comes back over SAs in UDP (`nothing_back`). The latter may have another cause, a host
that does not answer: where nothing comes back over protocol 50 either, UDP is taken again, and not blamed for as long. Both end by
themselves after a while (`ANEW_S`), with a reload, and at another address; what is up then stays as it is, and the next IKE SA is
negotiated with UDP. Where port 4500 alone was the cause, such an IKE SA is begun after that while, beside the one that is up, whose
place it takes if it gets through; after silence a trial would lose packets, and there is none. An attempt over protocol 50 that
fails ends it at once, and so does a peer that will not have it: one where protocol 50 is not permitted deletes at once what it
agreed to.

A host may permit no protocol 50 (a container without CAP_NET_RAW). "auto" is "udp" there: nothing falls back, and a peer that
cannot be asked for UDP is refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from msgspec import Struct

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.keying.status import COSTS
from ipsec_dp.util.leaves import Here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.config import Tunnel
    from ipsec_dp.ike.actions import Event
    from ipsec_dp.ike.interface import IkeStatus
    from ipsec_dp.ike.peer import Encapsulation, Peer
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.status import EncapsulationReason
    from ipsec_dp.util.clock import Clock, Timer
    from ipsec_dp.util.conditions import Conditions

SOURCE: Final = "encapsulation"  # of conditions, by tunnel
HOST: Final = "protocol 50"  # of conditions, by what is configured
_REMEDIES: Final = {
    "auto": "ESP goes in UDP alone, with nothing to fall back to where UDP does not get through or the peer cannot be asked for it;"
    ' encapsulation = "udp" says that this is meant',
    "esp": 'tunnels with encapsulation = "esp" carry nothing; leave that out, and their ESP goes in UDP',
}
ANEW_S: Final = 3600.0  # until UDP is tried anew
SOON_S: Final = 60.0  # after a fallback: what the peer ends within it, it ends because of the fallback
_UNWANTED: Final = frozenset({Cause.PEER, Cause.SELECTORS})  # why a peer's SAs end that will not have protocol 50
_NOTHING_BACK: Final = "IKE passes, and nothing came back of ESP in UDP: let all of UDP port 4500 pass, there and back"


class Between(NamedTuple):
    """Our address and the peer's."""

    local: Address
    remote: Address


class _Because(Enum):
    NO_WAY = "port 4500"
    SILENCE = "nothing comes back"
    NEITHER = "nor over protocol 50"  # UDP is used, and not blamed


_HOURS: Final = f"{ANEW_S / 3600:.0f} h"
_ANEW: Final = {
    _Because.NO_WAY: f"UDP is tried anew after {_HOURS}, and by the first IKE SA that is made after a reload",
    _Because.SILENCE: f"UDP is tried anew by the first IKE SA that is made after {_HOURS}, or after a reload",
}


@dataclass(slots=True)
class _Finding:
    between: Between
    because: _Because
    why: str
    until: float
    timer: Timer
    up: bool = False  # a CHILD_SA came up by it


class FindingState(Struct, frozen=True, forbid_unknown_fields=True):
    """What was found of a tunnel, for another process of this host. Addresses as their octets; `until`: seconds of the gateway's
    clock."""

    local: Here[bytes]
    remote: Here[bytes]
    because: Here[str]
    why: Here[str]
    until: Here[float]
    up: Here[bool]


class Encapsulations:
    """Of one gateway. `apply`: makes IKE know a tunnel's peer as `applied` says it is now. `no_esp`: why this host permits no
    protocol 50; None: it does."""

    def __init__(self, apply: Callable[[str], None], conditions: Conditions, clock: Clock, no_esp: str | None = None) -> None:
        self._apply, self._conditions, self._clock, self._no_esp = apply, conditions, clock, no_esp
        self._found: dict[str, _Finding] = {}
        self.tried_anew: Callable[[str], None] = lambda _: None  # what is up may be replaced, since port 4500 alone was the cause

    def applied(self, peer: Peer) -> Peer:
        """As it is to be met now."""
        if self._no_esp is not None:
            return _with(peer, "udp") if peer.encapsulation == "auto" else peer
        return _with(peer, "esp") if self.fell_back(peer.tunnel) else peer

    def look(self, tunnels: Iterable[Tunnel]) -> None:
        """Says what the host does not permit of what these have configured."""
        if self._no_esp is None:
            return
        configured = Counter[str](tunnel.encapsulation for tunnel in tunnels if tunnel.manual is None)
        wrong = {each: f"{self._no_esp}: {text}" for each, text in _REMEDIES.items() if configured[each]}
        self._conditions.become(HOST, wrong)

    def fell_back(self, tunnel: str) -> bool:
        """Whether its ESP goes as IP protocol 50 for want of a way for UDP."""
        found = self._found.get(tunnel)
        return found is not None and found.because is not _Because.NEITHER

    def shown(self, sa: IkeStatus, peer: Peer) -> tuple[Literal["udp", "esp"], EncapsulationReason]:
        """Of `status`: how the ESP of an IKE SA travels, and why so. What it had configured may not be what is written for the
        peer: a fallback, or UDP on a host that permits nothing else."""
        why: EncapsulationReason = sa.encapsulation_why
        if why == "configured" and not sa.udp and peer.encapsulation != "esp":
            why = "fallback"
        elif why == "configured" and self._no_esp is not None and peer.encapsulation == "auto":
            why = "auto" if sa.nat == "none" else "nat"
        return "udp" if sa.udp else "esp", why

    def calls(self, tunnel: str, between: Between) -> None:
        """It is about to be called: what was found of other addresses says nothing."""
        found = self._found.get(tunnel)
        if found is not None and found.between != between:
            self.forget(tunnel)

    def no_way(self, tunnel: str, between: Between, why: str, *, up: bool = False) -> None:
        """What IKE sends to port 4500 gets no answer. `up`: an IKE SA is, over protocol 50; else call anew."""
        self._note(tunnel, between, _Because.NO_WAY, f"{why}: let UDP port 4500 pass, there and back")
        self._found[tunnel].up = up

    def nothing_back(self, tunnel: str, between: Between) -> bool:
        """Nothing ever came over its SAs, though IKE passes and questions were sent. True: call anew."""
        found = self._found.get(tunnel)
        if self._no_esp is not None:
            return False
        if found is None:
            self._note(tunnel, between, _Because.SILENCE, _NOTHING_BACK)
            return True
        if found.because is _Because.SILENCE:
            self._note(tunnel, between, _Because.NEITHER, "")
            return True
        return False

    def event(self, event: Event) -> bool:
        """What IKE says of a tunnel: an attempt that fails as well shows that UDP was not the cause. True: call anew, since the
        peer will not have protocol 50."""
        found = self._found.get(event.tunnel)
        if found is None:
            return False
        if event.kind is Kind.CHILD_UP:
            found.up = True
        elif event.kind is Kind.IKE_FAILED and found.because is _Because.NO_WAY and not found.up:
            self.forget(event.tunnel)
        elif found.because is _Because.SILENCE and self._unwanted(event, found):
            self._note(event.tunnel, found.between, _Because.NEITHER, "")
            return event.kind is not Kind.IKE_FAILED  # which is repeated anyway
        return False

    def _unwanted(self, event: Event, found: _Finding) -> bool:
        """Whether the peer ends what was to go over protocol 50. Another proxy ID may be refused for reasons of its own, so that a
        CHILD_SA that fails says nothing."""
        if event.kind is Kind.IKE_FAILED:
            return not found.up and event.cause is not Cause.LOCAL
        soon = self._clock.now() < found.until - ANEW_S + SOON_S
        return soon and event.kind in (Kind.CHILD_DOWN, Kind.IKE_DOWN) and event.cause in _UNWANTED

    def export(self) -> dict[str, FindingState]:
        """All that was found, by tunnel."""
        return {
            tunnel: FindingState(one.between.local.packed, one.between.remote.packed, one.because.value, one.why, one.until, one.up)
            for tunnel, one in self._found.items()
        }

    def resume(self, tunnel: str, state: FindingState) -> None:
        """Goes on from there, as long as it lasts; where the host permits no protocol 50 it says nothing. Raises ValueError for
        what was never exported."""
        between = Between(ip_address(state.local), ip_address(state.remote))
        because = _Because(state.because)
        until = min(state.until, self._clock.now() + ANEW_S)
        if self._no_esp is None and until > self._clock.now():
            self._note(tunnel, between, because, state.why, until)
            self._found[tunnel].up = state.up

    def forget(self, tunnel: str) -> None:
        """UDP is tried anew."""
        found = self._found.pop(tunnel, None)
        if found is not None:
            found.timer.cancel()
            self._conditions.end(SOURCE, tunnel)
            self._apply(tunnel)

    def _end(self, tunnel: str) -> None:
        """It has lasted long enough."""
        anew = self._found[tunnel].because is _Because.NO_WAY
        self.forget(tunnel)
        if anew:
            self.tried_anew(tunnel)

    def forget_all(self) -> None:
        """Somebody has changed something."""
        for tunnel in tuple(self._found):
            self.forget(tunnel)

    def _note(self, tunnel: str, between: Between, because: _Because, why: str, until: float | None = None) -> None:
        self.forget(tunnel)
        ends = self._clock.now() + ANEW_S if until is None else until
        timer = self._clock.call_at(ends, self._end, tunnel)
        self._found[tunnel] = _Finding(between, because, why, ends, timer)
        self._apply(tunnel)
        if because is not _Because.NEITHER:
            text = f'tunnel "{tunnel}": its ESP goes as IP protocol 50, a fallback, {COSTS}: {why}, or write encapsulation = "esp"'
            self._conditions.begin(SOURCE, tunnel, f"{text}; {_ANEW[because]}")


def _with(peer: Peer, encapsulation: Encapsulation) -> Peer:
    """It, and its older version, met with another encapsulation."""
    older = None if peer.fallback is None else replace(peer.fallback, encapsulation=encapsulation)
    return replace(peer, encapsulation=encapsulation, fallback=older)
