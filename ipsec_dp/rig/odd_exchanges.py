"""What an odd peer does with an IKE SA that is up: further CHILD_SAs, rekeys, DELETE (RFC 7296 §1.3, §1.4.1)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ipsec_dp.ike import dh, negotiation, suites
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.groups import groups_of
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.rig.odd_parts import unchanged
from ipsec_dp.rig.odd_sas import OddIkeSa

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.rig.odd_parts import Change, Part
    from ipsec_dp.rig.odd_sas import OddChild
    from ipsec_dp.rig.odd_speaker import OddSpeaker


def new_spi() -> bytes:
    """Of ESP, none that is reserved."""
    return bytes([1 + os.urandom(1)[0] % 255]) + os.urandom(3)


def rekey_notify(child: OddChild) -> p.Notify:
    """REKEY_SA with the SPI on which we receive (RFC 7296 §1.3.3)."""
    return p.Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, child.incoming.spi)


def create_child(peer: OddSpeaker, rekeys: OddChild | None = None, change: Change = unchanged) -> Message | None:
    """The response to CREATE_CHILD_SA for a further CHILD_SA, or for one in the place of another; it is there where it was made."""
    agreed, spi, nonce = peer.agreed, new_spi(), peer.nonce()
    groups = groups_of(agreed.esp)
    key = dh.initiate(groups[0], os.urandom) if groups else None
    parts: list[Part] = [
        *([] if rekeys is None else [rekey_notify(rekeys)]),
        p.SecurityAssociation(negotiation.with_spi(agreed.esp, spi)),
        p.Nonce(nonce),
        *([] if key is None else [p.KeyExchangePayload(key.group.id, key.public)]),
        p.TrafficSelectorsInitiator(agreed.local),
        p.TrafficSelectorsResponder(agreed.remote),
    ]
    answer = peer.ask(ExchangeType.CREATE_CHILD_SA, change(parts))
    theirs = None if answer is None else answer.get(p.Nonce)
    if answer is not None and theirs is not None:
        ke = answer.get(p.KeyExchangePayload)
        secrets = [key.shared_secret(ke.data)] if key is not None and ke is not None else []
        peer.take_child(answer, spi, (nonce, theirs.data), secrets)
    return answer


def rekey_ike(peer: OddSpeaker, change: Change = unchanged) -> tuple[Message | None, OddIkeSa]:
    """The response to CREATE_CHILD_SA for an IKE SA in the place of this one, and the old one.

    Where there is a new one it is the peer's `sa` from now on, and the old one is still to be deleted.
    """
    old, suite, keys = peer.sa, peer.sa.suite, peer.sa.keys
    if suite is None or keys is None:
        raise RuntimeError("there is no IKE SA to rekey")
    new, nonce, key = OddIkeSa(os.urandom(8)), peer.nonce(), dh.initiate(suite.group, os.urandom)
    parts: list[Part] = [
        p.SecurityAssociation(negotiation.with_spi(peer.agreed.ike, new.spi_i)),
        p.Nonce(nonce),
        p.KeyExchangePayload(key.group.id, key.public),
    ]
    answer = peer.ask(ExchangeType.CREATE_CHILD_SA, change(parts))
    if answer is None:
        return None, old
    sa, theirs, ke = answer.get(p.SecurityAssociation), answer.get(p.Nonce), answer.get(p.KeyExchangePayload)
    if sa is None or theirs is None or ke is None:
        return answer, old
    new.spi_r, chosen = sa.proposals[0].spi, suites.ike_suite(sa.proposals[0])
    seed = keymat.next_skeyseed(suite.prf, keys.sk_d, nonce, theirs.data, [key.shared_secret(ke.data)])
    new.establish(chosen, keymat.ike_keys(chosen, seed, nonce, theirs.data, new.spi_i, new.spi_r))
    peer.sa = new
    peer.others.append(old)
    return answer, old


def delete_child(peer: OddSpeaker, child: OddChild) -> Message | None:
    """The response to a DELETE of a CHILD_SA, which is no longer ours."""
    if child in peer.children:
        peer.children.remove(child)
    return peer.ask(ExchangeType.INFORMATIONAL, [p.Delete(ProtocolId.ESP, (child.incoming.spi,))])


def delete_ike(peer: OddSpeaker) -> Message | None:
    """The response to a DELETE of the IKE SA."""
    peer.gone = True
    return peer.ask(ExchangeType.INFORMATIONAL, [p.Delete(ProtocolId.IKE)])
