"""States of an ISAKMP SA and of an IPsec SA, and into which each may go from where.

    initiator  NEW -> SA_SENT -> KE_SENT -> AUTH_SENT -> ESTABLISHED        messages 1, 3 and 5 are ours
    responder  NEW -> SA_ANSWERED -> KE_ANSWERED -> ESTABLISHED             messages 2, 4 and 6 are
    both       any -> CLOSED

and in aggressive mode, where both sides prove who they are in their second message:

    initiator  NEW -> AGGRESSIVE_SENT -> ESTABLISHED                        messages 1 and 3 are ours
    responder  NEW -> AGGRESSIVE_ANSWERED -> ESTABLISHED                    message 2 is

What a message may do in a state says `transitions`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class IsakmpState(StrEnum):
    """Of an ISAKMP SA."""

    NEW = "new"
    SA_SENT = "message 1 sent"
    SA_ANSWERED = "message 2 sent"
    KE_SENT = "message 3 sent"
    KE_ANSWERED = "message 4 sent"
    AUTH_SENT = "message 5 sent"
    AGGRESSIVE_SENT = "message 1 of aggressive mode sent"
    AGGRESSIVE_ANSWERED = "message 2 of aggressive mode sent"
    ESTABLISHED = "established"
    CLOSED = "closed"


S = IsakmpState
STEPS: Final = (
    (S.NEW, S.SA_SENT, "we begin"),
    (S.NEW, S.SA_ANSWERED, "the peer does"),
    (S.SA_SENT, S.KE_SENT, "it has chosen"),
    (S.SA_ANSWERED, S.KE_ANSWERED, "its public value is here"),
    (S.KE_SENT, S.AUTH_SENT, "its public value is here"),
    (S.KE_ANSWERED, S.ESTABLISHED, "it has proven who it is"),
    (S.AUTH_SENT, S.ESTABLISHED, "it has proven who it is"),
    (S.NEW, S.AGGRESSIVE_SENT, "we begin"),
    (S.NEW, S.AGGRESSIVE_ANSWERED, "the peer does"),
    (S.AGGRESSIVE_SENT, S.ESTABLISHED, "it has proven who it is"),
    (S.AGGRESSIVE_ANSWERED, S.ESTABLISHED, "it has proven who it is"),
    *((state, S.CLOSED, "its time is over, or it is ended") for state in S if state is not S.CLOSED),
)
UNSHOWN: Final = frozenset({S.NEW, S.SA_ANSWERED, S.AGGRESSIVE_ANSWERED})  # nobody has brought our cookie back
PAIRS: Final = frozenset((before, after) for before, after, _ in STEPS)


class IpsecSaState(StrEnum):
    """Of a pair of IPsec SAs."""

    WAITING = "waiting"  # made as responder; whether the peer knows it message 3 shows, or ESP
    UP = "up"
    REPLACED = "replaced"  # another sends in its place; what is under way may still come in
    DELETED = "deleted"  # one side has told the other; the same


ORDER: Final = tuple(IpsecSaState)
