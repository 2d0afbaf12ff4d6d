"""When a tunnel is to be negotiated, with which of its remotes, and how its state reads meanwhile. Pure: no clock, no socket.

What the operator wrote (`start`, the liveness action, several remotes) is a table here; the driver asks it and obeys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from ipsec_dp.ike.actions import Cause, Kind, Origin
from ipsec_dp.keying.status import Tally
from ipsec_dp.util.leaves import Here

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.config import Tunnel
    from ipsec_dp.ike.actions import Event

State = Literal["down", "waiting", "negotiating", "partial", "up", "rekeying", "failed"]

BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0
SOON_S: Final = 60.0  # what goes sooner after it came up is called again after a pause that grows
JITTER: Final = 0.25  # part of each pause that is left to chance, so that many tunnels do not call at once

# What follows the end of an IKE SA that was up. "again": negotiate anew; "wait": for traffic or the peer; "off": only when asked.
AFTER_DOWN: Final[dict[Cause, dict[str, str]]] = {
    Cause.LOCAL: {"start": "off", "on-demand": "wait", "respond": "wait"},
    Cause.IDLE: {"start": "wait", "on-demand": "wait", "respond": "wait"},
}
AFTER_DOWN_ELSE: Final = {"start": "again", "on-demand": "wait", "respond": "wait"}
# A peer that no longer answers: what liveness.action says, whatever `start` is.
AFTER_DEATH: Final = {"restart": "again", "trap": "wait", "clear": "off"}
INTENDED: Final = frozenset({Cause.LOCAL, Cause.IDLE, Cause.REPLACED})
DEATHS: Final = frozenset({Cause.LIVENESS, Cause.TIMEOUT})

UNDER_WAY: Final = frozenset({"negotiating", "partial", "up", "rekeying"})

WAITS_TO_BE_CALLED: Final = "waiting for the peer to call; should it wait too, `ipsec-dp initiate` calls it from here"


class IntentState(Struct, frozen=True, forbid_unknown_fields=True):
    """What an `Intent` knows, for another process of this host. Instants are seconds of the gateway's clock."""

    state: Here[State]
    failures: Here[int]
    short_lives: Here[int]
    remote: Here[int]
    next_attempt: Here[float | None]
    error: Here[str | None]
    claim: Here[str | None]
    off: Here[bool]
    no_child: Here[str | None]
    error_of: Here[bytes | None]
    came_up_at: Here[float | None]
    up_at: Here[float]
    not_before: Here[float]
    tally: Here[Tally]


class Intent:
    """One tunnel's wishes. `chance` gives from 0 to 1; `planned` hears when the next attempt is to come, when that changes; None:
    none is."""

    def __init__(
        self, tunnel: Tunnel, chance: Callable[[], float], planned: Callable[[float | None], None] = lambda _: None
    ) -> None:
        self._tunnel = tunnel
        self._chance = chance
        self._failures = 0
        self._short_lives = 0  # in a row
        self._remote = 0
        self.state: State = "waiting"
        self._planned = planned
        self._next_attempt: float | None = None
        self._error: str | None = None
        self._claim: str | None = None  # what went wrong with somebody who has not shown that he is the peer
        self._off = False
        self._no_child: str | None = None  # why the IKE SA has no CHILD_SA
        self._error_of: bytes | None = None  # the IKE SA that is up and lacks a CHILD_SA because of `_error`
        self._came_up_at: float | None = None
        self.up_at = float("-inf")  # when the last CHILD_SA that rekeyed no other came up
        self._not_before = float("-inf")  # for traffic after a failure
        self.tally = Tally()

    def export(self) -> IntentState:
        """For a process that goes on with this tunnel."""
        return IntentState(
            state=self.state,
            failures=self._failures,
            short_lives=self._short_lives,
            remote=self._remote,
            next_attempt=self._next_attempt,
            error=self._error,
            claim=self._claim,
            off=self._off,
            no_child=self._no_child,
            error_of=self._error_of,
            came_up_at=self._came_up_at,
            up_at=self.up_at,
            not_before=self._not_before,
            tally=self.tally,
        )

    def resume(self, state: IntentState, now: float, *, has_ike_sa: bool) -> None:
        """Goes on from there. `has_ike_sa`: one came along; where it did not, a tunnel that was up begins anew."""
        self._failures, self._short_lives, self._remote = state.failures, state.short_lives, state.remote
        self._error, self._claim, self._off = state.error, state.claim, state.off
        self._not_before, self.tally, self.up_at = state.not_before, state.tally, state.up_at
        if has_ike_sa or state.state not in UNDER_WAY:
            self.state, self._no_child, self._error_of = state.state, state.no_child, state.error_of
            self._came_up_at, self.next_attempt = state.came_up_at, state.next_attempt
        else:
            self.start(now)

    @property
    def next_attempt(self) -> float | None:
        """When the tunnel is to be called, None: it is not."""
        return self._next_attempt

    @next_attempt.setter
    def next_attempt(self, at: float | None) -> None:
        if at != self._next_attempt:
            self._planned(at)
        self._next_attempt = at

    @property
    def can_call(self) -> bool:
        """Whether there is an address or a name to call."""
        return bool(self._tunnel.remotes)

    @property
    def came_up_at(self) -> float:
        """When it came up, if it is up; -inf: it is not."""
        return float("-inf") if self._came_up_at is None else self._came_up_at

    @property
    def waits_for(self) -> str:
        """Who begins, where nothing else does."""
        if not self.can_call:
            return "waiting for the peer to call"
        if self._tunnel.start == "respond":
            return WAITS_TO_BE_CALLED
        return "waiting for traffic"

    @property
    def refusal(self) -> str | None:
        """Why there is no CHILD_SA, where one was refused, here or there, since the last one came up."""
        return self._no_child

    @property
    def text(self) -> str:
        """The state in words."""
        match self.state:
            case "waiting":
                return self.waits_for
            case "down":
                return "stopped; `ipsec-dp initiate` starts it again"
            case "negotiating":
                return "negotiating"
            case "failed":
                return "the last attempt failed" + (f"; {self.waits_for}" if self.next_attempt is None else ", it will be repeated")
            case _:
                return self.state

    @property
    def last_error(self) -> str | None:
        """What went wrong last; what is not proven to be the peer's only where nothing else is known and the tunnel is not up."""
        return self._error or (None if self.state in ("up", "rekeying") else self._claim)

    # ---- what happens

    def start(self, now: float) -> None:
        """The gateway is up."""
        if self._tunnel.start == "start" and self.can_call:
            self.next_attempt = now

    def reconfigure(self, tunnel: Tunnel, now: float) -> None:
        """The tunnel is configured differently now, in a way that ends no IKE SA."""
        begins = tunnel.start == "start" != self._tunnel.start and self.state in ("down", "waiting", "failed")
        self._tunnel = tunnel
        if begins:
            self._off = False
            self.start(now)

    def traffic(self, now: float) -> bool:
        """A packet found no SA; whether an attempt is due because of it. It does not shorten the pause after a failure."""
        if self._off or self._tunnel.start == "respond" or not self.can_call or self.state in ("negotiating", "up", "rekeying"):
            return False
        if self.next_attempt is None:
            self.next_attempt = max(now, self._not_before)
        return self.next_attempt <= now

    def asked(self, now: float) -> None:
        """A person says `initiate`."""
        self._off, self._failures, self.next_attempt = False, 0, now

    def reachable(self, now: float) -> None:
        """There is a way to the peer that was not there: the pause after a failure is over."""
        self._failures, self._not_before = 0, now
        if self.next_attempt is not None:
            self.next_attempt = now

    def due(self, now: float) -> bool:
        """Whether an attempt is to begin now."""
        return self.next_attempt is not None and self.next_attempt <= now and self.can_call

    @property
    def pending(self) -> bool:
        """Whether an attempt is under way or planned."""
        return self.next_attempt is not None or self.state == "negotiating"

    def attempt(self, now: float) -> tuple[int, int] | None:
        """The try that is due now: the index of the remote to call and how often the list was gone through before, so that of
        several addresses of a name each has its turn; or None. The tunnel is then negotiating."""
        if not self.due(now):
            return None
        self.next_attempt = None
        self.state = "negotiating"
        self._count(attempts=1)
        turn, index = divmod(self._remote, len(self._tunnel.remotes))
        return index, turn

    def _count(self, attempts: int = 0, failures: int = 0, flaps: int = 0) -> None:
        before = self.tally
        self.tally = Tally(attempts=before.attempts + attempts, failures=before.failures + failures, flaps=before.flaps + flaps)

    def claimed(self, event: Event) -> None:
        """Somebody at the peer's address, or who says so, came to nothing: worth reading, and nothing else. While the tunnel is up
        it says nothing about why it may be down later."""
        if self.state not in ("up", "rekeying"):
            self._claim = event.text

    def cannot_carry(self, why: str) -> None:
        """A CHILD_SA was agreed on, and this host cannot have it."""
        self._error = self._no_child = why
        self._error_of = None

    def event(self, event: Event, now: float, *, others: bool = False) -> None:
        """What the core reports of this tunnel and of nobody else. `others`: it has another IKE SA, up or under way."""
        match event.kind:
            case Kind.IKE_UP | Kind.IKE_REKEYED | Kind.IKE_REAUTHENTICATED:
                self.state, self._off, self.next_attempt = "up", False, None
                self._renewed()
            case Kind.CHILD_UP | Kind.CHILD_REKEYED:
                self.state, self._off, self.next_attempt = "up", False, None
                self._failures, self._no_child = 0, None
                if event.kind is Kind.CHILD_UP:
                    self._carries(event, now)
            case Kind.WHOLE:
                self._error = self._error_of = self._claim = self._no_child = None
            case Kind.IKE_FAILED:
                self.failed(event.text, now, others=others, here=event.cause is Cause.LOCAL)
            case Kind.CHILD_FAILED:
                self._error = self._no_child = event.text
                self._error_of = event.spi_i
                if event.origin is Origin.PEER and not event.again and event.renewal is None:  # it called, and is refused here
                    self._count(failures=1)
            case Kind.WARNING if event.cause is Cause.AUTHENTICATION:  # a proof was withdrawn, and the tunnel begins anew
                self._error, self._error_of = event.text, None
            case Kind.IKE_DOWN:
                self._down(event, now, others=others)
            case _:
                return

    def _carries(self, event: Event, now: float) -> None:
        """The tunnel is up, so what was wrong is so no longer; what this very IKE SA lacks besides is still worth telling."""
        if self._came_up_at is None:
            self._came_up_at = now
        self.up_at = now
        if event.spi_i != self._error_of:
            self._error = self._error_of = self._claim = None

    def _renewed(self) -> None:
        """Why an attempt to renew what is up failed is the past. In IKEv1 no CHILD_SA comes up that would say so."""
        if self._came_up_at is not None and self._no_child is None and self._error_of is None:
            self._error = None

    def failed(self, why: str, now: float, *, others: bool = False, here: bool = False) -> None:
        """An attempt came to nothing: the next one goes to the next remote, after a pause that grows. `here`: we ended it, which
        says nothing against this remote."""
        self._error, self._error_of = why, None
        self._count(failures=1)
        if others:  # it was not needed, or is not the last hope
            return
        self.state = "failed"
        self._remote += not here
        again_at = now + self._pause(self._failures)
        self._failures = min(self._failures + 1, 16)
        if self._tunnel.start == "start" and self.can_call:
            self.next_attempt = again_at
        elif self._tunnel.start == "on-demand":
            self._not_before = again_at
            self.next_attempt = None

    def _pause(self, failures: int) -> float:
        return min(BACKOFF_FIRST_S * 2.0**failures, BACKOFF_MAX_S) * (1.0 - JITTER * self._chance())

    def _down(self, event: Event, now: float, *, others: bool) -> None:
        cause = event.cause or Cause.PEER
        if others:  # they are this tunnel's
            return
        since, self._came_up_at = self._came_up_at, None
        short = since is not None and now - since < SOON_S
        self._short_lives = min(self._short_lives + 1, 16) if short else 0
        start = self._tunnel.start
        what = AFTER_DEATH[self._tunnel.ike.liveness.action] if cause in DEATHS else AFTER_DOWN.get(cause, AFTER_DOWN_ELSE)[start]
        if cause not in INTENDED:
            self._count(flaps=int(since is not None))
            self._error, self._error_of = self._no_child or event.text, None
        self.state = "down" if what == "off" else "waiting"
        self._off = what == "off"
        if what == "again" and self.can_call:
            self.state = "failed"
            if self._no_child is not None:  # it would end in the same way
                self.failed(self._no_child, now)
            elif self._short_lives > 1:  # it may end in the same way
                self.next_attempt = now + self._pause(self._short_lives - 1)
            else:
                self.next_attempt = now + BACKOFF_FIRST_S * self._chance()
        elif what == "wait" and self._no_child is not None:
            self.state = "failed"
