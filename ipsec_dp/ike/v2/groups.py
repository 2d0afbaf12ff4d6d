"""Which key exchange methods an offer holds, and which one a responder may ask for instead (RFC 7296 §1.3, §2.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import dh
from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.transforms import GROUP_OF_ID, Group, TransformType

if TYPE_CHECKING:
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.v2.payloads import Notify


def groups_of(proposals: tuple[Proposal, ...]) -> list[Group]:
    """Every key exchange method that is offered, in order of preference."""
    ids = [t.id for p in proposals for t in p.transforms if t.type == TransformType.KE]
    return [GROUP_OF_ID[number] for number in dict.fromkeys(ids) if number in GROUP_OF_ID]


def wanted_group(notify: Notify, proposals: tuple[Proposal, ...], tried: Group, key: str) -> Group:
    """The group an INVALID_KE_PAYLOAD names, if we offered it and did not try it; else KeyExchangeError, which says what to set in
    `key` of the configuration, where `proposals` are from (RFC 7296 §1.3, §2.7)."""
    if len(notify.data) != 2:
        raise dh.KeyExchangeError(f"INVALID_KE_PAYLOAD of {len(notify.data)} octets, which names no group")
    number = int.from_bytes(notify.data, "big")
    group = next((group for group in groups_of(proposals) if group.id == number), None)
    if group is None:
        raise dh.KeyExchangeError(f"the peer wants {_not_offered(number, proposals, key)}")
    if group.id == tried.id:
        raise dh.KeyExchangeError(f"the peer wants {group.keyword}, and refuses a public value of that very group")
    return group


def _not_offered(number: int, proposals: tuple[Proposal, ...], key: str) -> str:
    name = iana.name(iana.KEY_EXCHANGES, "a key exchange without a name:", number)
    ours = "/".join(group.keyword for group in groups_of(proposals)) or "none"
    wanted = f"{name} (group {number}), which {key} does not name"
    known = GROUP_OF_ID.get(number)
    if known is None:
        return f"{wanted} and nobody can name here: let the peer take one of {ours}"
    legacy = " (with legacy = true)" if known.legacy else ""
    return f"{wanted}: add {known.keyword} there{legacy}, or let the peer take one of {ours}"
