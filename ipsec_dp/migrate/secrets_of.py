"""Shared keys of a source: which one belongs to a tunnel, and the content of the file that is to hold it.

strongSwan and Libreswan choose the key that most of the two identities fit; one without identities fits everybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.migrate.draft import SourceLine, TunnelDraft

ANYBODY: Final = frozenset({"%any", "%any4", "%any6", "any", "0.0.0.0", "::", "*"})  # noqa: S104 - words, nothing binds
_HEX: Final = re.compile(r"0x(?:[0-9A-Fa-f]{2})+")
_BASE64: Final = re.compile(r"0s[A-Za-z0-9+/]+={0,2}")
_PLAIN: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A secret with the identities or addresses that it is for. `literal`: 0x and 0s at its beginning are a part of it."""

    at: SourceLine
    identities: tuple[str, ...]
    text: str = field(repr=False)
    literal: bool = False


def _bare(identity: str) -> str:
    return identity.strip().lower().removeprefix("@").removeprefix("fqdn:").removeprefix("ipv4:").removeprefix("ipv6:")


def key_for(keys: Iterable[SharedKey], ours: Iterable[str], theirs: Iterable[str]) -> SharedKey | None:
    """The key that fits best: both sides by name before the peer's alone, that before anybody's."""
    mine, peers = {_bare(each) for each in ours}, {_bare(each) for each in theirs}
    best: tuple[int, SharedKey] | None = None
    for key in keys:
        named = {_bare(each) for each in key.identities}
        anybody = not named or bool(named & ANYBODY)
        score = 4 * bool(named & peers) + 2 * bool(named & mine)
        fits = bool(named & peers) or anybody
        if fits and (best is None or score > best[0]):
            best = score, key
    return None if best is None else best[1]


def content_of(text: str, *, literal: bool = False) -> bytes:
    """What a psk_file holds so that its key is what `text` is in the source: 0x… and 0s… as they are, unless it is `literal`; other
    text as itself where our file can say it, else in hexadecimal."""
    if not literal and (_HEX.fullmatch(text) or _BASE64.fullmatch(text)):
        return text.encode() + b"\n"
    if _PLAIN.fullmatch(text) and not text.startswith(("0x", "0s", "0X", "0S")) and text[0] not in "\"'":
        return text.encode() + b"\n"
    return b"0x" + text.encode().hex().encode() + b"\n"


def give(tunnel: TunnelDraft, key: SharedKey) -> None:
    """The key to a tunnel, in a file of its name."""
    tunnel.secret = content_of(key.text, literal=key.literal)
    tunnel.put("auth.psk_file", f"{tunnel.name}.psk", f"the key of line {key.at.line}")
