"""A site with many tunnels of one IKE SA and one CHILD_SA each, without their handshakes: the state of one, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ipsec_dp.ike.carried.carry import import_ike
from ipsec_dp.ike.carried.envelope import open_model, seal_model
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.manager import IkeManager
from tests.ike.carried.carrying import as_core, exported, fresh, up
from tests.ike.ladder import peer

if TYPE_CHECKING:
    from ipsec_dp.ike.carried.whole import CarriedIke

KEY = b"\0"  # of every CHILD_SA, as where keys go with the SAs


SPI_IN, SPI_OUT = 0x1000, 0x100000  # of the first; those of the others follow


def senders(count: int) -> list[tuple[int, int, Any]]:
    """As `IkeChildren.spis`; nobody looks where they send."""
    return [(SPI_IN + one, SPI_OUT + one, None) for one in range(count)]


def keys(_spi: int) -> tuple[bytes, bytes]:
    return KEY, KEY


def peers(count: int) -> list[Any]:
    return [
        peer("a", tunnel=f"t{one}", local_id=Identity.from_text(f"a{one}.example"), remote_id=Identity.from_text(f"b{one}.example"))
        for one in range(count)
    ]


def crowd(count: int, make: Any = IkeManager) -> Any:
    """The site "a" of a ladder, with tunnels t0, t1, … in a core that is `make`; its data plane knows of none."""
    site = up().a
    octets = seal_model(many(open_model(exported(site).octets), count))
    site.peers = peers(count)
    site.core = make(site.core.environment, site.peers)
    site.core = fresh(site)
    assert import_ike(as_core(site.core), octets, site.clock()).left_out == ()
    return site


def many(one: CarriedIke, count: int) -> CarriedIke:
    """The model of so many that are as the one in it."""
    (sa,), (table,) = one.ikev2.sas, one.ikev2.tables
    (child,) = table.children
    sas, tables = [], []
    for place in range(count):
        ours, theirs = sa.ends.identities
        ours, theirs = replace(ours, data=f"a{place}.example".encode()), replace(theirs, data=f"b{place}.example".encode())
        spis = {"spi_i": (2 * place + 1).to_bytes(8), "spi_r": (2 * place + 2).to_bytes(8)}
        ends = replace(sa.ends, identities=(ours, theirs))
        places = {"table": place, "abilities": place, "wanted": None if sa.wanted is None else place}
        sas.append(replace(sa, tunnel=f"t{place}", ends=ends, **spis, **places))
        number = place + 1
        its = replace(child, number=number, spi_in=SPI_IN + place, spi_out=SPI_OUT + place, keymat_in=bytearray(KEY))
        came = dict(enumerate(table.came.values(), number))
        tables.append(replace(table, holder=place, children=[replace(its, keymat_out=bytearray(KEY))], all=[number], came=came))
    wanted = [replace(each, up=dict(enumerate(each.up.values(), place + 1))) for place in range(count) for each in one.ikev2.wanted]
    abilities = one.ikev2.abilities * count
    part = replace(one.ikev2, sas=sas, tables=tables, wanted=wanted, abilities=abilities, due=list(range(count)))
    return replace(one, last_number=count, ikev2=part)


def up_of(core: Any, count: int, now: float) -> list[str]:
    """The tunnels that have an IKE SA which is up."""
    return [f"t{one}" for one in range(count) if [each.state for each in core.status(f"t{one}", now)] == ["up"]]
