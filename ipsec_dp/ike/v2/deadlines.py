"""When something of an IKE SA or a CHILD_SA is due, in the seconds of `now`; inf: never (RFC 7296 §2.4, §2.8, §2.8.3)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.environment import NEVER
from ipsec_dp.ike.peer import NAT_KEEPALIVE

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import ChildLimits
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ike.peer import Life, Peer
    from ipsec_dp.ike.v2.sa import Child


@dataclass(slots=True)
class Deadlines:
    """Of an IKE SA."""

    close_at: float = inf  # it ends, whatever its state
    tell_at: float = inf  # that what was begun with us goes no further (`half_open`)
    soft: float = inf
    hard: float = inf
    heard: float = NEVER  # when the peer was last heard
    check_at: float = inf
    keepalive_at: float = inf
    move_at: float = NEVER  # from when on the peer's address may change again
    elsewhere_at: float = NEVER  # from when on it is told again that it sends from another
    reauth_at: float = inf  # authenticate anew
    proof_until: float = inf  # when nobody has, it ends
    keep_until: float = inf  # it has expired, and its CHILD_SAs with it then
    proof_at: float = inf  # look whether the certificates by which the peer proved itself run out
    leave_at: float = inf  # another IKE SA is in its place, and the peer had time enough to delete this one
    failures: int = 0
    reprieved: bool = False  # as in `sa.Child`

    def start(self, peer: Peer, now: float, rng: Rng, *, initiator: bool, called: bool, keeps: bool) -> None:
        """The IKE SA is up. `called`: we began the one that was authenticated, `initiator`: this one, which may have rekeyed
        it; `keeps`: by keepalives what is on the way to the peer."""
        self.soft = now + lifetimes.soft_after(peer.ike_life, initiator=initiator, rng=rng)
        self.hard = now + peer.ike_life.hard_s
        self.heard = now
        self.check_at = now + peer.liveness.interval_s if peer.liveness.interval_s else inf
        self.keepalive_at = now + NAT_KEEPALIVE if keeps else inf
        if peer.reauth_s:
            self.reauth_at = min(self.reauth_at, now + lifetimes.reauth_after(peer.reauth_s, called=called, rng=rng))
            self.proof_until = now + peer.reauth_s * lifetimes.UNPROVEN

    @property
    def next(self) -> float:
        """The first of those that an IKE SA has while it is up."""
        first = min(self.soft, self.hard, self.check_at, self.keepalive_at)
        first = min(first, self.reauth_at, self.proof_until, self.proof_at)
        return min(first, self.leave_at, self.keep_until)

    def retry_rekey(self, now: float, rng: Rng) -> None:
        """A rekey of the IKE SA failed: again after a while, as long as the hard limit allows."""
        self.soft = now + lifetimes.retry_after(self.failures, rng)
        self.failures += 1

    def retry_reauth(self, now: float, rng: Rng) -> None:
        """Authenticating anew failed: again after a while, as long as `proof_until` allows."""
        self.reauth_at = now + lifetimes.retry_after(self.failures, rng)
        self.failures += 1


def start_child(new: Child, life: Life, now: float, rng: Rng) -> ChildLimits:
    """A CHILD_SA is up: its times begin. Returns its other limits."""
    new.soft = now + lifetimes.soft_after(life, initiator=new.initiator, rng=rng)
    new.hard = now + life.hard_s
    new.idle_at = now + life.idle_s if life.idle_s else inf
    return lifetimes.limits_of(life, initiator=new.initiator, rng=rng)


def retry_child(child: Child, now: float, rng: Rng) -> None:
    """A rekey of a CHILD_SA failed: again after a while, as long as its hard limit allows."""
    child.soft = now + lifetimes.retry_after(child.failures, rng)
    child.failures += 1


def reprieve(one: Child | Deadlines, now: float) -> None:
    """A rekey begins, ours or the peer's: what it replaces stays good for REKEY_TIME at the least, once.

    Lifetimes of seconds leave a fraction of one between soft and hard limit, less than a busy machine or a lost message takes.
    """
    if not one.reprieved:
        one.reprieved = True
        one.hard = max(one.hard, now + lifetimes.REKEY_TIME)
