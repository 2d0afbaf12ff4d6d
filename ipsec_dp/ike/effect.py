"""What a change of the configuration asks of a tunnel's SAs."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Effect(IntEnum):
    """What a change asks for, the lesser first. A tunnel needs the greatest of its changed keys."""

    IN_PLACE = 0  # at once, or with the next SA; no SA ends
    RECHECK = 1  # the peer's certificate is judged again: its IKE SA ends only when it is no longer good
    SELECTORS = 2  # CHILD_SAs that are no longer configured end, further ones are made
    REKEY = 3  # new CHILD_SAs take the place of the old ones, without a gap
    REAUTH = 4  # another IKE SA, by what we prove ourselves with now, takes the place of the old one, without a gap
    RESTART = 5  # its SAs are deleted, and it begins anew

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS: Final = {
    Effect.IN_PLACE: "in place",
    Effect.RECHECK: "certificates looked at again",
    Effect.SELECTORS: "CHILD_SAs of changed proxy IDs",
    Effect.REKEY: "new CHILD_SAs",
    Effect.REAUTH: "authenticated again",
    Effect.RESTART: "new IKE SA",
}
