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
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child

PATIENCE: Final = 5.0  # seconds in which a lost answer to IKE_AUTH was repeated twice
DOUBLED: Final = 1.0  # seconds the peer has to delete the one of two that it began at the same time, and that the lower nonce names
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
    return not new.ends.initial_contact and new.peer.unique is not Unique.NEVER and not overlap(old, new) and succeeds(new, old)


def overlap(one: Context, other: Context) -> bool:
    """True when each side began one before it had the other's: neither replaces, the lower nonce goes."""
    mine, theirs = one.sa, other.sa
    at_once = mine.started <= theirs.established_at and theirs.started <= mine.established_at
    return mine.initiator != theirs.initiator and at_once


def begin(new: Context, old: Context, now: float) -> None:
    """Both are up, and `new` replaces `old`. As responder: the peer deletes it, or we do when the peer forgets to."""
    new.succession.before, old.succession.after = old, new
    old.deadlines.reauth_at = old.deadlines.proof_until = inf
    if not new.sa.initiator:
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


def replaced(context: Context) -> bool:
    """True when another IKE SA that is up stands in its place."""
    after = context.succession.after
    return after is not None and after.authenticated and after.alive


def must_wait(new: Context, child: Child, now: float) -> bool:
    """Whether a CHILD_SA that has just been made must not send yet, because one of the IKE SA before still does."""
    old = new.succession.before
    if old is None or not old.alive or not _holders(old, child):
        return False
    child.waits = True
    child.switch_at, child.switch_by = (inf, inf) if new.sa.initiator else (now + lifetimes.SWITCH_LOOK, now + PATIENCE)
    return True


def taken_over(new: Context, child: Child) -> list[Child]:
    """CHILD_SAs of the IKE SA before that `child` takes the place of when it begins to send."""
    old = new.succession.before
    return [] if old is None or not old.alive else _holders(old, child)


def _holders(old: Context, child: Child) -> list[Child]:
    """What sends of `old` and lies within `child`, which holds most of it at least: no packet is left without an SA."""
    near = old.children.near_any(child.pairs)
    return [one for one in near if one.sending and any(child.holds(pair) for pair in one.pairs)]
