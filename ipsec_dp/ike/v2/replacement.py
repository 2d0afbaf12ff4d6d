"""One IKE SA in the place of another without a break: which one, and who sends meanwhile (RFC 7296 §2.8.3).

The new IKE SA has CHILD_SAs of its own. As responder we cannot know when the peer has the answer to IKE_AUTH and can receive on
them, so the old ones go on sending until packets come in on the new ones, or the old IKE SA is deleted, or PATIENCE is over.
As initiator they go on until all the new ones are up (`reauth.finish`).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.peer import Unique

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child

PATIENCE: Final = 5.0  # seconds in which a lost answer to IKE_AUTH was repeated twice
DOUBLED: Final = 1.0  # seconds the peer has to delete the one of two that does not stay, when it began the other one
LEFT_AFTER: Final = 10.0  # seconds the peer has to delete the IKE SA that it replaced


def succeeds(new: Context, old: Context) -> bool:
    """True when `new`, authenticated just now between the same ends as `old`, is in all likelihood to take its place: we made it
    for that, or the peer comes from the very address and port that `old` has."""
    if new.succession.before is old:
        return True
    return not new.sa.initiator and new.peer.tunnel == old.peer.tunnel and new.path.remote == old.path.remote


def replaces(new: Context, old: Context) -> bool:
    """True when `new` replaces `old` without a break; not when the peer has begun anew, nor where any number may stand."""
    if new.succession.before is old:
        return True
    if new.ends.initial_contact or new.peer.unique is Unique.NEVER or replaced(old):
        return False
    return not overlap(old, new) and succeeds(new, old)


def overlap(one: Context, other: Context) -> bool:
    """True when each side began one for the same tunnel before it had the other's (`settle`)."""
    mine, theirs = one.sa, other.sa
    at_once = mine.started <= theirs.established_at and theirs.started <= mine.established_at
    return mine.initiator != theirs.initiator and one.peer.tunnel == other.peer.tunnel and at_once


def settle(one: Context, other: Context, now: float) -> None:
    """Both sides began at once, and both IKE SAs are up: one takes the place of the other without a break.

    Which one is what both sides see: that with an INITIAL_CONTACT, which some peers obey, then that with the higher lowest nonce.
    Who began it deletes the other as soon as packets have changed over.
    """
    loser, winner = sorted((one, other), key=lambda each: (each.ends.initial_contact, each.sa.lowest_nonce))
    if loser.succession.after is not None and replaced(loser):
        return
    root = loser.succession.before or winner.succession.before  # what both were to replace
    for upper, lower in ((winner, loser), (loser, root)):
        upper.succession.before = lower
        if lower is not None:
            lower.succession.after = upper
    if not winner.sa.initiator:
        loser.deadlines.leave_at = now + DOUBLED


def before(new: Context) -> Iterator[Context]:
    """Those in whose place `new` is, the last one first."""
    one = new.succession.before
    while one is not None:
        yield one
        one = one.succession.before


def linked(one: Context, other: Context) -> bool:
    """True when one of them is in the other's place."""
    return other in before(one) or one in before(other)


def begin(new: Context, old: Context, now: float) -> None:
    """Both are up, and `new` replaces `old`. As responder: the peer deletes it, or we do when the peer forgets to."""
    new.succession.before, old.succession.after = old, new
    old.deadlines.reauth_at = old.deadlines.proof_until = inf
    if not new.sa.initiator:
        old.deadlines.leave_at = now + LEFT_AFTER


def made_by_peer(new: Context, now: float) -> None:
    """The peer has made a CHILD_SA on `new`: it may make further ones, and deletes the IKE SA that they replace after the last."""
    new.wanted.leave_to_peer(now, new.host.environment.rng)
    old = new.succession.before
    if old is not None and old.deadlines.leave_at < inf:
        old.deadlines.leave_at = now + LEFT_AFTER


def replaced_by(old: Context, new: Context) -> None:
    """A rekey of the IKE SA has put `new` in the place of `old`."""
    gone, here = old.succession, new.succession
    here.before, here.after = gone.before, gone.after
    gone.before = gone.after = None
    if here.after is not None:
        here.after.succession.before = new
    if here.before is not None:
        here.before.succession.after = new


def lacking(old: Context, now: float) -> bool:
    """Whether what is in the place of `old` has not yet all CHILD_SAs that this one sends by: then it stays a little longer."""
    new = old.succession.after
    if new is None or now >= new.sa.established_at + LEFT_AFTER:
        return False
    sending = [pair for one in old.children.values() if one.sending for pair in one.pairs]
    if all(any(child.holds(pair) for child in new.children.near(pair)) for pair in sending):
        return False
    old.deadlines.leave_at = now + DOUBLED
    return True


def replaced(context: Context) -> bool:
    """True when another IKE SA that is up stands in its place."""
    after = context.succession.after
    return after is not None and after.authenticated and after.alive


def must_wait(new: Context, child: Child, now: float) -> bool:
    """Whether a CHILD_SA that has just been made must not send yet, because one of the IKE SA before still does; or not at all,
    because `new` itself is replaced."""
    if not replaced(new) and not _holders(new, child):
        return False
    child.waits = True
    child.switch_at = child.switch_by = inf
    if not new.sa.initiator and not replaced(new):
        child.switch_at, child.switch_by = now + lifetimes.SWITCH_LOOK, now + PATIENCE
    return True


def taken_over(new: Context, child: Child) -> list[Child]:
    """CHILD_SAs of the IKE SAs before that `child` takes the place of when it begins to send."""
    return _holders(new, child)


def _holders(new: Context, child: Child) -> list[Child]:
    """What sends of those before and lies within `child`, which holds most of it at least: no packet is left without an SA."""
    near = (one for old in before(new) if old.alive for one in old.children.near_any(child.pairs))
    return [one for one in near if one.sending and any(child.holds(pair) for pair in one.pairs)]
