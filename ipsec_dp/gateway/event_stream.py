"""The events of a gateway for whoever follows them: tunnels, their SAs, monitors, drops that begin.

While nobody follows, the last few are kept as they came, and no more is made of them. What a follower does not read in time is
counted and no more: its queue has an end, and the oldest events go first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.stream_event import SCHEMA, EventName, StreamEvent
from ipsec_dp.ike.actions import Event, Origin
from ipsec_dp.keying.levels import NAMES
from ipsec_dp.util.slices import in_slices, within_slice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from datetime import datetime

    from ipsec_dp.keying.status import KeyingStatus
    from ipsec_dp.util.clock import Clock

QUEUE_MOST = 1024  # events that wait for one follower
KEPT_MOST = 256  # events that are remembered whether anybody follows or not
FOLLOWERS_MAX = 28  # more than there can be of those who may only read; others find room besides

# What the log calls it too, of what a follower hears.
OF_IKE: Final = {kind: cast("EventName", name) for kind, name in NAMES.items() if name in get_args(EventName)}
# States of a tunnel that are told, by the event. Out of `failed` nothing is told before something is up: it is tried again.
OF_STATE: Final[dict[str, EventName]] = {
    "up": "tunnel_up",
    "rekeying": "tunnel_up",
    "partial": "tunnel_partial",
    "failed": "tunnel_failed",
}
DOWN_AFTER: Final = frozenset({"tunnel_up", "tunnel_partial"})


class Follower:
    """Who reads the events, of all tunnels or of `tunnel` and of none."""

    def __init__(self, stream: EventStream, tunnel: str | None) -> None:
        self._stream, self._tunnel = stream, tunnel
        self._lines: deque[bytes] = deque()
        self._missed = 0
        self._some = asyncio.Event()
        self.ended = False

    def wants(self, tunnel: str | None) -> bool:
        return tunnel is None or self._tunnel in (None, tunnel)

    def put(self, line: bytes) -> None:
        if len(self._lines) >= QUEUE_MOST:
            self._lines.popleft()
            self._missed += 1
        self._lines.append(line)
        self._some.set()

    def take(self) -> list[bytes]:
        """What waits, oldest first; before it, how many there were that are gone."""
        lines = [*([] if self._missed == 0 else [self._stream.missed(self._missed)]), *self._lines]
        self._missed = 0
        self._lines.clear()
        self._some.clear()
        return lines

    def end(self) -> None:
        """No more comes."""
        self.ended = True
        self._some.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """What comes, until the end."""
        while True:
            await self._some.wait()
            ended = self.ended
            for line in self.take():
                yield line
            if ended:
                return

    def close(self) -> None:
        """Follows no longer."""
        self._stream.forget(self)


class EventStream:
    """Of the gateway `name`. `keying`: how a tunnel is now; None: it is gone, or has keys set by hand."""

    def __init__(self, name: str, keying: Callable[[str], KeyingStatus | None], clock: Clock) -> None:
        self._name, self._keying, self._clock = name, keying, clock
        self._followers: set[Follower] = set()
        self._told: dict[str, tuple[EventName | None, str]] = {}  # of each tunnel: the last event of its state, and the state
        self._changed: dict[str, None] = {}
        self._last: deque[tuple[datetime, EventName, str, dict[str, Any]]] = deque(maxlen=KEPT_MOST)

    # ---- who follows

    async def follow(self, tunnels: Iterable[str], only: str | None = None) -> Follower:
        """Events from now on. `tunnels`: those there are. Raises ControlError where too many follow already."""
        if len(self._followers) >= FOLLOWERS_MAX:
            raise ControlError(f"{FOLLOWERS_MAX} clients follow the events already, which is all there can be; end some of them")
        follower = Follower(self, only)
        self._followers.add(follower)
        async for name in in_slices(tuple(tunnels)):
            if name not in self._told and (now := self._keying(name)) is not None:
                self._told[name] = OF_STATE.get(now.state), now.state
        follower.put(self._event("begin", f"gateway {self._name}: events from now on", gateway=self._name).line)
        return follower

    def forget(self, follower: Follower) -> None:
        self._followers.discard(follower)
        if not self._followers:
            self._told.clear()
            self._changed.clear()

    def missed(self, count: int) -> bytes:
        """The line that stands for events that are gone."""
        text = f"{count} event{'' if count == 1 else 's'} not told: not read in time"
        return self._event("missed", text, count=count).line

    def close(self) -> None:
        """The gateway stops: whoever follows is told, and nothing after it."""
        self._put(None, "end", f"gateway {self._name} has stopped")
        for follower in tuple(self._followers):
            follower.end()
            self.forget(follower)

    # ---- what happens

    def ike(self, event: Event) -> None:
        """One of IKE's; those of strangers are of no tunnel, and are not told."""
        if not event.tunnel:
            return
        if self._followers and event.tunnel not in self._changed:
            self._look_soon(event.tunnel)
        name = OF_IKE.get(event.kind)
        if name is not None:
            cause = None if event.cause is None else str(event.cause)
            unproven = event.origin in (Origin.CLAIMED, Origin.STRANGER)
            self._put(event.tunnel, name, event.text, cause=cause, child=event.child, unproven=unproven)

    def uncalled(self, tunnel: str) -> None:
        """There is no way to its peer: no IKE began that could tell."""
        if self._followers and tunnel not in self._changed:
            self._look_soon(tunnel)

    def monitor(self, tunnel: str, up: bool, text: str) -> None:
        self._put(tunnel, "monitor_up" if up else "monitor_down", text)

    def last(self) -> list[StreamEvent]:
        """Those that are remembered, the oldest first: of SAs, monitors and drops; of tunnels while somebody followed."""
        return [_stream_event(at, name, text, fields) for at, name, text, fields in self._last]

    def drops(self, reason: str, count: int, text: str) -> None:
        """A reason begins to drop packets."""
        self._put(None, "drops", text, reason=reason, count=count)

    # ---- how tunnels are

    def _look_soon(self, tunnel: str) -> None:
        """When what reported it is done with it."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._look)
        self._changed[tunnel] = None

    def _look(self) -> None:
        for name in within_slice(tuple(self._changed)):
            self._changed.pop(name, None)
            self._look_at(name)
        if self._changed:
            asyncio.get_running_loop().call_soon(self._look)

    def _look_at(self, name: str) -> None:
        before, was = self._told.get(name, (None, None))
        now = self._keying(name)
        event = None if now is None else OF_STATE.get(now.state)
        if event is None and before in DOWN_AFTER:
            event = "tunnel_down"
        if event is None or event == before:
            return
        state, text = ("down", "gone") if now is None else (now.state, now.state_text)
        error = None if now is None or event == "tunnel_up" else now.last_error
        said = state if text in ("", state) else f"{state}: {text}"
        self._told[name] = event, state
        self._put(name, event, said if error is None else f"{said}; {error}", state=state, was=was, error=error)

    def _put(self, tunnel: str | None, name: EventName, text: str, **fields: Any) -> None:
        self._last.append((self._clock.utc(), name, text, {"tunnel": tunnel, **fields}))
        those = [follower for follower in self._followers if follower.wants(tunnel)]
        if those:
            line = self._event(name, text, tunnel=tunnel, **fields).line
            for follower in those:
                follower.put(line)

    def _event(self, name: EventName, text: str, **fields: Any) -> StreamEvent:
        return _stream_event(self._clock.utc(), name, text, fields)


def _stream_event(at: datetime, name: EventName, text: str, fields: dict[str, Any]) -> StreamEvent:
    return StreamEvent(schema=SCHEMA, event=name, at=at.isoformat(timespec="milliseconds"), text=text, **fields)
