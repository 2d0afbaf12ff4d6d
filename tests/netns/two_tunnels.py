"""gwA and gwB with two tunnels, each with an interface of its own, for tests in which one of the two is spoiled.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Between the sites' networks by ipsec0, and between 10.4.0.2 and 10.3.0.2, which are hosts' further addresses, by ipsec1. Both have
interface addresses.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.rig.netns import TwoSites

FURTHER_A, FURTHER_B = "10.4.0.2", "10.3.0.2"
FURTHER_NETS = ("10.4.0.0/24", "10.3.0.0/24")
ADDRESSES = (("169.254.10.1/30", "fd00:10::1/64"), ("169.254.10.2/30", "fd00:10::2/64"))
SUITE = "aes128gcm16-esn"


def further_hosts(sites: TwoSites) -> None:
    ends = ((sites.host_a, sites.gw_a, FURTHER_A, FURTHER_B), (sites.host_b, sites.gw_b, FURTHER_B, FURTHER_A))
    for host, gateway, address, other in ends:
        router = f"{address.rpartition('.')[0]}.1"
        host.ip(f"address add {address}/24 dev eth0", f"route add {other} via {router} src {address}")
        gateway.ip(f"address add {router}/24 dev lan")


def _second(side: int, directory: Path) -> str:
    for name in ("second-to-a.key", "second-to-b.key"):
        if not (directory / name).exists():
            (directory / name).touch(mode=0o600)
            (directory / name).write_text(secrets.token_hex(parse_suite(SUITE).keymat_octets))
    to, into = (f"second-to-{'ba'[side]}.key", f"second-to-{'ab'[side]}.key")
    outer = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0])
    return (
        f'[[tunnel]]\nname = "second"\nlocal = "{outer[side]}"\nremote = "{outer[1 - side]}"\ninterface = "ipsec1"\n'
        f'encapsulation = "udp"\n  [[tunnel.proxy_id]]\n  local = "{FURTHER_NETS[side]}"\n  remote = "{FURTHER_NETS[1 - side]}"\n'
        f'  [tunnel.manual_unsafe]\n  suite = "{SUITE}"\n  spi_in = {0x2001 + side:#x}\n  spi_out = {0x2002 - side:#x}\n'
        f'  key_in_file = "{into}"\n  key_out_file = "{to}"\n'
    )


def two_tunnels(sites: TwoSites, directory: Path) -> GatewayPair:
    """Not started."""
    pair = GatewayPair(sites, directory, ManualPair())
    for side, gateway in enumerate((pair.a, pair.b)):
        addresses = ", ".join(f'"{each}"' for each in ADDRESSES[side])
        text = re.sub(r'(interface = "ipsec0"\n)', rf"\1address = [{addresses}]\n", gateway.config.read_text(), count=1)
        gateway.config.write_text(text + _second(side, directory))
    return pair
