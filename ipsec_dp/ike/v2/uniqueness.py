"""How many IKE SAs stand between the same two identities (RFC 7296 §2.4, and what `unique` says of a tunnel)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.peer import Unique
from ipsec_dp.ike.v2 import delete, replacement
from ipsec_dp.ike.v2.context import Context
from ipsec_dp.ike.v2.sa import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


C = TypeVar("C", bound=Context)


def admits(new: Context, others: Iterable[Context]) -> bool:
    """False when `unique` forbids `new`, which has just been authenticated, beside `others` of the same identities."""
    if new.peer.unique is not Unique.KEEP:
        return True
    same = [other for other in others if other.peer.tunnel == new.peer.tunnel and other.state is State.ESTABLISHED]
    return all(replacement.overlap(other, new) or replacement.succeeds(new, other) for other in same)


def consequences(new: C, others: Iterable[C], now: float) -> Iterator[tuple[C, Callable[[], None]]]:
    """`new` has come up: which of `others`, or itself, is concerned, and what is done with it. One step may decide the next one."""
    for other in others:
        if replacement.linked(other, new):
            yield other, partial(other.send_next, now)  # the one that stays may be waiting for nothing else
        elif new.ends.initial_contact and new.peer.unique is not Unique.NEVER:
            if other.sa.established_at <= new.sa.started:  # else the peer did not know of it when it said that it has no other
                yield other, partial(other.end, Cause.REPLACED, _began_anew(new, other), now)
        elif new.peer.unique is Unique.REPLACE and new.peer.tunnel == other.peer.tunnel:
            yield other, partial(_delete, other, "a newer IKE SA is between the same identities", now)


def _began_anew(new: Context, other: Context) -> str:
    text = "the peer began anew (INITIAL_CONTACT)"
    if new.peer.tunnel == other.peer.tunnel:
        return text
    return (
        f'{text} with tunnel "{new.peer.tunnel}", which has the same identities: it says that it has no other IKE SA between them. '
        'Give each tunnel identities of its own, or write unique = "never"'
    )


def _delete(one: Context, text: str, now: float) -> None:
    delete.ike(one, Cause.REPLACED, text, now)
    one.send_next(now)


def in_vain(new: Context, calls: Iterable[C]) -> Iterator[C]:
    """Of our `calls` for a tunnel those that nobody has answered when `new` comes up, by which the very peer has called us.

    Answered later they would make a second IKE SA, of which the peer could not know that it was begun at once with the first one.
    """
    if new.sa.initiator or new.peer.unique is Unique.NEVER:
        return
    for one in calls:
        its = one.peer.named or new.path.remote.address in (one.path.remote.address, *one.peer.remotes)
        if one.state is State.INIT_SENT and its:
            yield one


def give_up(one: Context, new: Context, now: float) -> None:
    """A call in vain: what it was made for is wanted of `new`."""
    new.wanted.inherit(one.wanted)
    one.end(Cause.REPLACED, "the peer called first", now, quiet=True)
