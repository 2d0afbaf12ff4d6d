"""Drivers of as many tunnels as one likes, whose IKE SAs come from nowhere: what hands them over, and what takes them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace as replace_field

from ipsec_dp.config import load
from ipsec_dp.dataplane.carried import CarriedTraffic
from ipsec_dp.gateway.ike_counts import CarriedCounts
from ipsec_dp.gateway.upgrade import sas
from ipsec_dp.gateway.upgrade.taking import Successor
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.keying.initiation import Intent
from ipsec_dp.services.path_mtu import CarriedMtus
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.giving import HOST
from tests.ike.carried.crowds import crowd, peers, senders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.config import Tunnel
    from ipsec_dp.gateway.upgrade.messages import MessageKind
    from ipsec_dp.gateway.upgrade.stream import HandOverChannel

PSK = "a secret of some length\n"


class Nothing:
    """Whatever is asked of it does nothing, and is noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **_named: self.calls.append((name, *arguments))


def tunnels(directory: Any, count: int) -> list[Tunnel]:
    """t0, t1, …, of which each is called at the start."""
    (directory / "x.psk").touch(mode=0o600)
    (directory / "x.psk").write_text(PSK)
    text = '[[tunnel]]\nname = "t"\nremote = "192.0.2.2"\nstart = "start"\n[tunnel.auth]\npsk_file = "x.psk"\n'
    (directory / "gw.toml").write_text(f'[gateway]\nname = "gw"\n{text}')
    (one,) = load(directory / "gw.toml").tunnels
    return [replace(one, name=f"t{number}") for number in range(count)]


def driver_of(core: Any, directory: Any, count: int, children: Any = None) -> IkeDriver:
    async def locate(*_: object) -> Any:
        raise AssertionError("nobody is called before the next round of the loop")

    clock: Any = FakeClock()
    links: Any = Nothing()
    return IkeDriver(
        tunnels(directory, count),
        {one.tunnel: one for one in peers(count)},
        core=core,
        children=children or cast("Any", Nothing()),
        links=links,
        locate=locate,
        changed=lambda _: None,
        clock=clock,
        conditions=Conditions(clock),
    )


def giver(directory: Any, up: int, count: int) -> Any:
    """What `sas.ike_exported` asks of a gateway with so many tunnels, of which `up` are; each of those knows that it is."""
    core = crowd(up, IkeVersions).core
    driver = driver_of(core, directory, count)
    state = replace_field(Intent(tunnels(directory, 1)[0], lambda: 0.0).export(), state="up")
    driver.take_intents({f"t{number}": state for number in range(up)})
    plane = SimpleNamespace(export_traffic=lambda _: CarriedTraffic())
    engine = SimpleNamespace(ike=driver, core=core, children=SimpleNamespace(spis=lambda: senders(up)), plane=plane)
    parts = SimpleNamespace(
        spd=SimpleNamespace(tunnel_numbers={}),
        mtus=SimpleNamespace(export=lambda: CarriedMtus([], {})),
        monitors=SimpleNamespace(export=dict),
        counts=SimpleNamespace(export=lambda: CarriedCounts([], [], {})),
    )
    return SimpleNamespace(parts=parts, engine=engine)


def given(by: Any) -> Iterator[tuple[MessageKind, bytearray]]:
    """What it says of IKE."""
    return sas.ike_exported(by.parts, by.engine, HOST)


def taker(channel: HandOverChannel, directory: Any, count: int, *, children: Any = None, sad: Any = None) -> Any:
    """A successor, and its engine, with the tunnels and no IKE SA."""
    successor = Successor(channel, SimpleNamespace(), [], lambda _: None)  # type: ignore[arg-type]
    core = IkeVersions(crowd(0).core.environment, peers(count))
    driver = driver_of(core, directory, count, children)
    return SimpleNamespace(successor=successor, engine=SimpleNamespace(ike=driver, core=core, sad=sad or Nothing()))
