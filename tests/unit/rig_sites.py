"""Two gateways of a rig, site a and site b, of which each test says only what it cares for."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ipsec_dp.rig import Gateway, Network, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator


SITE = """
[gateway]
name = "{me}"
[[tunnel]]
name = "to-{peer}"
local = "192.0.2.{number}"
remote = "{remote}"
interface = "ipsec0"
start = "{start}"
encapsulation = "{encapsulation}"
  [[tunnel.proxy_id]]
  local = "10.{number}.0.0/16"
  remote = "10.{other}.0.0/16"
  [tunnel.auth]
  local_id = "{me}.example"
  remote_id = "{peer}.example"
  psk_file = "site.psk"
{tables}
"""
NUMBERS = {"a": 1, "b": 2}
DAY = """
  [tunnel.ike]
  lifetime = "8h"
  liveness = { interval = "10m", retries = 5, action = "restart" }
  [tunnel.esp]
  lifetime = "6h"
"""


def site(me: str, **settings: str) -> str:
    """The configuration of site a, which calls, or of site b, which is called."""
    peer = "b" if me == "a" else "a"
    usual = {
        "remote": f"192.0.2.{NUMBERS[peer]}",
        "start": "start" if me == "a" else "respond",
        "encapsulation": "auto",
        "tables": "",
    }
    return SITE.format(**(usual | {"me": me, "peer": peer, "number": NUMBERS[me], "other": NUMBERS[peer]} | settings))


@contextmanager
def sites(wire: Wire | None = None, *, seed: int = 0, up: bool = True, **settings: str) -> Iterator[tuple[Gateway, Gateway]]:
    """Both of them on one network."""
    with Network(wire=wire, seed=seed) as network:
        b, a = network.gateway(site("b", **settings)), network.gateway(site("a", **settings))
        if up:
            a.wait("up")
            b.wait("up")
        yield a, b


def closing(stack: ExitStack, *gateways: Any) -> None:
    """They are closed with the stack."""
    for gateway in gateways:
        stack.callback(gateway.close)


def spis_of(gateway: Gateway) -> tuple[str, str]:
    """The SPIs of its IKE SA, which is up."""
    ike = gateway.tunnel().ike
    assert ike is not None
    return ike.spi_i, ike.spi_r
