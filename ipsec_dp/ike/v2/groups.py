"""Which key exchange methods an offer holds, and which one a responder may ask for instead (RFC 7296 §1.3, §2.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import dh
from ipsec_dp.ipsec.transforms import GROUP_OF_ID, Group, TransformType

if TYPE_CHECKING:
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.v2.payloads import Notify


def groups_of(proposals: tuple[Proposal, ...]) -> list[Group]:
    """Every key exchange method that is offered, in order of preference."""
    ids = [t.id for p in proposals for t in p.transforms if t.type == TransformType.KE]
    return [GROUP_OF_ID[number] for number in dict.fromkeys(ids) if number in GROUP_OF_ID]


def wanted_group(notify: Notify, proposals: tuple[Proposal, ...], tried: Group) -> Group:
    """The group an INVALID_KE_PAYLOAD names, if we offered it and did not try it; else KeyExchangeError (RFC 7296 §1.3, §2.7)."""
    number = int.from_bytes(notify.data, "big") if len(notify.data) == 2 else -1
    group = next((group for group in groups_of(proposals) if group.id == number), None)
    if group is None or group.id == tried.id:
        raise dh.KeyExchangeError(f"the peer wants group {number}, which is not another of those we offered")
    return group
