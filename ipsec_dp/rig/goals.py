"""What can be waited for, as something that holds or does not yet. What cannot come is refused at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, get_args

from ipsec_dp.ike.actions import Kind
from ipsec_dp.keying.initiation import State
from ipsec_dp.rig.loop import RigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipsec_dp.rig.surface import RigEvent

STATES: Final = frozenset(get_args(State)) | {"up", "partial", "rekeying"}
PACKET: Final = "packet"


class Watchable(Protocol):
    """Of a gateway, what goals look at. `inbox`: inner packets that came out; `events`: what IKE told; both oldest first."""

    @property
    def inbox(self) -> Sequence[bytes]: ...

    @property
    def events(self) -> Sequence[RigEvent]: ...

    def state_of(self, tunnel: str) -> str | None:
        """None: IKE has no such tunnel."""


class Goal(NamedTuple):
    """`holds` may be asked at any time; `asks`: only while nothing runs, since it may ask gateways itself."""

    holds: Callable[[], bool]
    text: str
    asks: bool = False


class Goals:
    """Of one gateway. An event that was waited for is not waited for again: the next wait is for the one after it."""

    def __init__(self, site: Watchable) -> None:
        self._site = site
        self._awaited: Counter[tuple[Kind, str | None]] = Counter()

    def of(self, event: str | Kind | Callable[[], bool], tunnel: str | None) -> Goal:
        """`tunnel`: of a state, or of an event that is to be this tunnel's. RigError: there is no such event."""
        if callable(event):
            return Goal(event, "what was given", asks=True)
        if event == PACKET:
            return Goal(lambda: bool(self._site.inbox), "a packet")
        if event in STATES and tunnel is not None:
            return Goal(lambda: self._site.state_of(tunnel) == event, f"the state {str(event)!r}")
        if event in set(Kind):
            return Goal(self._comes(Kind(event), tunnel), f"the event {str(event)!r}")
        states, kinds = ", ".join(sorted({PACKET, *STATES})), ", ".join(sorted(map(str, Kind)))
        raise RigError(f"there is no event {str(event)!r}, so it cannot come; states: {states}; events: {kinds}")

    def _comes(self, kind: Kind, tunnel: str | None) -> Callable[[], bool]:
        wanted = self._awaited[kind, tunnel] + 1
        looked, found = 0, 0

        def comes() -> bool:
            nonlocal looked, found
            told = self._site.events
            new, looked = told[looked:], len(told)
            found += sum(event.kind is kind and tunnel in (None, event.tunnel) for event in new)
            if found >= wanted:
                self._awaited[kind, tunnel] = wanted
            return found >= wanted

        return comes
