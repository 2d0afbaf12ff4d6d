"""`version = "2-preferred"`: what a tunnel offers where it falls to IKEv1, and what it cannot be together with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ipsec_dp.config.ikev1 import check_auth, check_proxy_ids, phase1_texts, phase2_texts
from ipsec_dp.ike.proposal import ProposalError, parse_esp, parse_ike

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.config import model, tables
    from ipsec_dp.config.findings import Place
    from ipsec_dp.config.named_files import NamedFiles
    from ipsec_dp.ike.proposal import Proposal

PREFERRED: Final = "2-preferred"


class Refused(NamedTuple):
    """A value of a key in [tunnel.ike] with which no tunnel may fall to IKEv1."""

    key: str
    value: str
    why: str


# What a fall would take away without a word: keys that IKEv1 has no counterpart of, from when there are such; `mode = "aggressive"`
# is refused for every version but "1".
REFUSED: Final = (Refused("post_quantum", "required", "IKEv1 has no key exchange that a quantum computer does not break"),)


def fallback_phase1(table: tables.Ike, legacy: bool) -> tuple[Proposal, ...]:
    """Its IKE proposals by IKEv1, as far as that has numbers for them; empty where it may not fall, or one of them is none."""
    if table.version != PREFERRED:
        return ()
    return _parsed(parse_ike, phase1_texts(msgspec.structs.replace(table, version="1")), legacy)


def fallback_phase2(table: tables.Esp, version: str, legacy: bool) -> tuple[Proposal, ...]:
    """The same of ESP."""
    return _parsed(parse_esp, phase2_texts(table, "1"), legacy) if version == PREFERRED else ()


def _parsed(parse: Callable[..., tuple[Proposal, ...]], texts: tuple[str, ...], legacy: bool) -> tuple[Proposal, ...]:
    try:
        return parse(texts, legacy=legacy)
    except ProposalError:
        return ()  # it is told where the proposals are looked at


def check_preferred(tunnel: model.Tunnel, table: tables.Tunnel, place: Place, named_files: NamedFiles) -> None:
    """What a tunnel cannot have that may fall to IKEv1."""
    if table.ike.version != PREFERRED or tunnel.manual is not None:
        return
    from ipsec_dp.ike.v1.registry import suites_phase1, suites_phase2

    written = msgspec.structs.asdict(table.ike)
    for row in REFUSED:
        if written.get(row.key) == row.value:
            place.error("ike.version", f'"{PREFERRED}" with {row.key} = "{row.value}": {row.why}', 'write version = "2"')
    if tunnel.auth is not None and tunnel.auth.ppks and tunnel.auth.ppk == "required":
        wrong = f'"{PREFERRED}" with a PPK that is required (ppk_id): IKEv1 has none'
        place.error("ike.version", wrong, 'write version = "2", or ppk = "if-offered"')
    if not tunnel.remotes:
        wrong = f'"{PREFERRED}" takes IKEv1 from the addresses of its peer alone, and remote = "any" has none'
        place.error("ike.version", wrong, 'name the peer\'s address, or write version = "2"')
    for key, proposals, found, example in (
        ("ike.proposals", tunnel.ike.ikev1_proposals, suites_phase1(tunnel.ike.ikev1_proposals), "aes256-sha256-modp2048"),
        ("esp.proposals", tunnel.esp.ikev1_proposals, suites_phase2(tunnel.esp.ikev1_proposals), "aes256-sha256"),
    ):
        if proposals and not found:
            wrong = "IKEv1 has numbers for none of them, so that the tunnel could not fall to it"
            place.error(key, wrong, f'add e.g. "{example}", or write version = "2"')
    check_proxy_ids(tunnel, place)
    check_auth(tunnel, place, named_files)
