"""State that as a whole is not of the model's form: what of it is, and in the place of the rest what no import takes.

So one record that is spoiled takes those with it that it belongs to, and not those of other tunnels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried.isakmp_model import Ikev1Part, PeeringPart
from ipsec_dp.ike.carried.part import wiped_on_error
from ipsec_dp.ike.carried.whole import CarriedIke

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.octets import Buffer

P = TypeVar("P", bound=Struct)
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
NIL: Final = b"\xc0"  # of msgpack: it is not there
NOWHERE: Final = -1  # a place that is none
RECORDS: Final[dict[str, dict[str, type[Struct]]]] = {
    "ikev2": {"sas": m.IkeSaPart, "tables": m.TablePart, "wanted": m.WantedPart, "abilities": m.AbilitiesPart},
    "ikev1": {"peerings": PeeringPart},
}
"""The lists whose records are each by itself."""


class SpoiledRecord(Struct):
    """What is said of a record that cannot be read, or made."""

    tunnel: str = ""
    spi_i: bytes = b""


def no_sa(named: SpoiledRecord) -> m.IkeSaPart:
    """Of no table: nothing else is taken with it."""
    nowhere, nobody = m.EndValue(b"", 0, 0), (m.IdentityValue(0, b""), m.IdentityValue(0, b""))
    return m.IkeSaPart(
        tunnel=named.tunnel,
        state="",
        initiator=False,
        spi_i=named.spi_i,
        spi_r=b"",
        suite=m.SuiteValue("", "", "", "", (), False),
        started=0.0,
        established_at=0.0,
        lowest_nonce=b"",
        own_quantum="",
        seed_quantum="",
        path=m.PathValue(nowhere, nowhere, False),
        nat=m.NatValue(False, False, False, False, False),
        request_key=(b"", nowhere),
        ends=m.EndsPart(called=False, identities=nobody),
        abilities=NOWHERE,
        window=m.WindowPart(next_id=0, expected=0, reply=m.SealedPart(), requests=m.FragmentsPart(), responses=m.FragmentsPart()),
        table=NOWHERE,
        deadlines={},
    )


def no_table(_: SpoiledRecord) -> m.TablePart:
    """Of nobody, so that those that have it are left out."""
    return m.TablePart(holder=NOWHERE, children=[], all=[])


def no_peering(named: SpoiledRecord) -> PeeringPart:
    """Of no ISAKMP SA."""
    return PeeringPart(tunnel=named.tunnel, sessions=[], sas=[], wanted=m.WantedPart(), wait_until=0.0)


def left_out(named: SpoiledRecord, error: Exception) -> m.LeftOut:
    """What an export says of one in whose place it put one of these."""
    return m.LeftOut(tunnel=named.tunnel, spi_i=named.spi_i, why=f"it could not be handed over ({type(error).__name__})")


INSTEAD: Final[dict[type[Struct], Callable[[SpoiledRecord], Struct]]] = {
    m.IkeSaPart: no_sa,
    m.TablePart: no_table,
    m.WantedPart: lambda _: m.WantedPart(),
    m.AbilitiesPart: lambda _: m.AbilitiesPart(complaints=(0.0, 0.0)),
    PeeringPart: no_peering,
}
"""What keeps the place of a record; no IKE SA names it."""


def readable(body: Buffer) -> CarriedIke:
    """Raises one of UNREADABLE: it is not the records alone."""
    fields = msgspec.msgpack.decode(body, type=dict[str, Raw])
    parts: dict[str, Any] = {}
    with wiped_on_error(parts.values()):
        for name, of in (("ikev2", m.Ikev2Part), ("ikev1", Ikev1Part)):
            if name in fields and not (of is Ikev1Part and bytes(fields[name]) == NIL):
                parts[name] = _part(fields.pop(name), of, RECORDS[name])
        empty = {"ikev2": m.Ikev2Part()}
        rest = msgspec.msgpack.decode(msgspec.msgpack.encode(fields | empty), type=CarriedIke)
        return msgspec.structs.replace(rest, **parts)


def _part(octets: Raw, of: type[P], records: dict[str, type[Struct]]) -> P:
    fields = msgspec.msgpack.decode(octets, type=dict[str, Raw])
    lists = {name: msgspec.msgpack.decode(fields.pop(name), type=list[Raw]) for name in records if name in fields}
    rest = msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=of)
    found: dict[str, list[Any]] = {}
    spoiled: dict[str, set[int]] = {}
    for name, each in lists.items():
        found[name] = [_record(one, records[name]) for one in each]
        spoiled[name] = {place for place, one in enumerate(found[name]) if one is None}
        for place in spoiled[name]:
            found[name][place] = INSTEAD[records[name]](_named(each[place]))
    found["sas"] = [_without(one, spoiled) for one in found.get("sas", ())]
    if isinstance(rest, Ikev1Part):
        rest = msgspec.structs.replace(rest, due=[each for each in rest.due if each[0] not in spoiled.get("peerings", ())])
    return msgspec.structs.replace(rest, **{name: found[name] for name in lists})


def _record(octets: Raw, of: type[Struct]) -> Struct | None:
    try:
        return msgspec.msgpack.decode(octets, type=of)
    except UNREADABLE:
        return None


def _without(sa: m.IkeSaPart, spoiled: dict[str, set[int]]) -> m.IkeSaPart:
    """What it names of those is nowhere."""
    names = {"table": "tables", "wanted": "wanted", "abilities": "abilities"}
    gone = {name: NOWHERE for name, records in names.items() if getattr(sa, name) in spoiled.get(records, ())}
    return msgspec.structs.replace(sa, **gone) if gone else sa


def _named(octets: Raw) -> SpoiledRecord:
    try:
        return msgspec.msgpack.decode(octets, type=SpoiledRecord)
    except UNREADABLE:
        return SpoiledRecord()
