"""A gateway in memory that calls an odd peer, on one network."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.rig import Gateway, Network
from ipsec_dp.rig.odd_end import OddEnd
from ipsec_dp.rig.odd_parts import Agreed
from ipsec_dp.rig.odd_responder import OddResponder
from tests.unit.rig_sites import site

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = """
  [tunnel.ike]
  proposals = ["aes128gcm16-prfsha256-x25519-ecp256"]
  [tunnel.esp]
  proposals = ["aes128gcm16-noesn"]
"""
AGREED = Agreed(
    psk=PreSharedKey.from_text(hashlib.sha256(b"site.psk").hexdigest()),
    local_id=Identity.from_text("b.example"),
    remote_id=Identity.from_text("a.example"),
    ike=parse_ike(["aes128gcm16-prfsha256-x25519-ecp256"]),
    esp=parse_esp(["aes128gcm16"]),
    local=(TrafficSelector.from_prefix("10.2.0.0/16"),),
    remote=(TrafficSelector.from_prefix("10.1.0.0/16"),),
)


@contextmanager
def calling(tables: str = TABLES, **agreed: Any) -> Iterator[tuple[Gateway, OddResponder]]:
    """Gateway a, which calls from its start on, and who is called."""
    with Network(seed=1) as network:
        end = OddEnd(network, "192.0.2.2", "192.0.2.1")
        peer = OddResponder(replace(AGREED, **agreed), end)
        yield network.gateway(site("a", tables=tables)), peer
