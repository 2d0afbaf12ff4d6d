"""Vendor IDs: what the peer can do, and by what name a person knows it. All others are passed over, and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ike.nat import Said
from ipsec_dp.ike.v1.payloads import VendorIdPayload
from ipsec_dp.ike.v1.wire import PayloadKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage


class KnownVendor(NamedTuple):
    """`octets` in whole, or with a version, a release or capabilities behind them."""

    octets: bytes
    name: str
    whole: bool = True


def _known(octets: str, name: str, *, whole: bool = True) -> KnownVendor:
    return KnownVendor(bytes.fromhex(octets), name, whole)


NAT_T: Final = _known("4a131c81070358455c5728f20e95452f", "NAT-T")  # RFC 3947 §3.1
DRAFTS: Final = (
    _known("7d9419a65310ca6f2c179d9215529d56", "NAT-T draft-03"),
    _known("90cb80913ebb696e086381b5ec427b1f", "NAT-T draft-02"),  # its name with a newline behind it, as the draft has it
    _known("cd60464335df21f87cfdb2fc68b6a448", "NAT-T draft-02"),
)
DPD: Final = _known("afcad71368a1f1c96b8696fc77570100", "DPD")  # RFC 3706 §5.1
FRAGMENTATION: Final = _known("4048b7d56ebce88525e7de7f00d6c2d3", "fragmentation", whole=False)
OF_PHASE_1: Final = bytes.fromhex("80000000")  # behind it: of main and aggressive mode; Cisco has c0000000, Windows nothing
MAKERS: Final = (
    _known("09002689dfd6b712", "XAUTH"),
    _known("12f5f28c457168a9702d9fe274cc", "Cisco Unity", whole=False),
    _known("1f07f70eaa6514d3b0fa96542a50", "Cisco VPN 3000", whole=False),
    _known("3e984048", "Cisco IOS", whole=False),
    _known("1d6e178f6c2c0be284985465450fe9d4", "FortiGate"),
    _known("882fe56d6fd20dbc2251613b2ebe5beb", "strongSwan"),
    KnownVendor(b"OE-Libreswan-", "Libreswan", whole=False),
    _known("1e2b516905991c7d7c96fcbfb587e461", "Windows", whole=False),
    _known("f4ed19e0c114eb516faaac0ee37daf2807b4381f", "Check Point", whole=False),
    _known("404bf439522ca3f6", "SonicWall"),
    _known("7003cbc1097dbe9c2600ba6983bc8b35", "racoon"),
    _known("f14b94b7bff1fef02773b8c49feded26", "Shrew Soft"),
    _known("101fb0b35c5a4f4c08b919f1cb9777b0", "NCP"),
    KnownVendor(b"HeartBeat_Notify", "ScreenOS", whole=False),
    _known("625027749d5ab97f5616c1602765cf480a3b7d0b", "ZyXEL"),
)
VENDOR_IDS: Final = (NAT_T, *DRAFTS, DPD, FRAGMENTATION, *MAKERS)

_NAT_T: Final = (NAT_T.octets, *(one.octets for one in DRAFTS))
_OURS: Final = (DPD.octets, FRAGMENTATION.octets + OF_PHASE_1)


def offered(said: Said = Said.TRUTH) -> list[VendorIdPayload]:
    """What we can do, as initiator; NAT-T only where addresses are spoken of."""
    ways = () if said is Said.NOTHING else _NAT_T
    return [VendorIdPayload(octets) for octets in (*ways, *_OURS)]


def answered(context: IsakmpContext) -> list[VendorIdPayload]:
    """Of that which the peer can do, as responder: one way of NAT-T, the best."""
    abilities = context.abilities
    chosen = (abilities.nat_t, DPD.octets if abilities.dpd else b"", _OURS[-1] if abilities.fragmentation else b"")
    return [VendorIdPayload(octets) for octets in chosen if octets]


def note(context: IsakmpContext, message: IsakmpMessage) -> None:
    """Message 1 or 2 says what the peer can do."""
    sent = dict.fromkeys(one.data for one in message.all(VendorIdPayload))
    abilities = context.abilities
    abilities.said = context.says
    ways = () if abilities.said is Said.NOTHING else (NAT_T, *DRAFTS)
    abilities.nat_t = next((one.octets for one in ways if one.octets in sent), b"")
    abilities.fragmentation = any(takes_fragments(one) for one in sent)
    abilities.dpd, abilities.vendors, abilities.unknown_vendors = DPD.octets in sent, (), 0
    _name(context, sent)


def is_draft(context: IsakmpContext) -> bool:
    """True when the way of NAT-T is one before RFC 3947, which has other numbers."""
    return context.abilities.nat_t not in (b"", NAT_T.octets)


def note_further(context: IsakmpContext, kinds: tuple[PayloadKind, ...], message: IsakmpMessage) -> None:
    """Some makers name themselves, and DPD, in message 3 or 4 of main mode. NAT-T and fragments are agreed on before it.

    `kinds`: what a message of its place must have.
    """
    if kinds != (PayloadKind.KE, PayloadKind.NONCE):
        return
    sent = dict.fromkeys(one.data for one in message.all(VendorIdPayload))
    context.abilities.dpd |= DPD.octets in sent
    _name(context, sent)


def _name(context: IsakmpContext, sent: Iterable[bytes]) -> None:
    names, abilities = [name_of(octets) for octets in sent], context.abilities
    abilities.vendors = tuple(dict.fromkeys([*abilities.vendors, *(name for name in names if name)]))
    abilities.unknown_vendors += names.count("")


def name_of(octets: bytes) -> str:
    """Of a vendor ID; empty: nobody here knows it."""
    return next((one.name for one in VENDOR_IDS if octets == one.octets or (not one.whole and octets.startswith(one.octets))), "")


def takes_fragments(octets: bytes) -> bool:
    """Whether a vendor ID says so."""
    name, further = octets[: len(FRAGMENTATION.octets)], octets[len(FRAGMENTATION.octets) :]
    return name == FRAGMENTATION.octets and (not further or (len(further) == 4 and further[0] & OF_PHASE_1[0] != 0))
