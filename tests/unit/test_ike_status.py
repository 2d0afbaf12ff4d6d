"""What is said of a tunnel that has no IKE SA: whom it would call, and how that went."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.keying.ike_status import keying_status
from ipsec_dp.keying.initiation import Intent

from .ike_driver_site import Double


@pytest.mark.parametrize(
    ("remotes", "expected"),
    [((), "any"), ((ip_address("192.0.2.2"), "b.example"), "192.0.2.2, b.example")],
)
def test_whom_a_tunnel_without_an_ike_sa_would_call(remotes, expected):
    tunnel: Any = SimpleNamespace(name="to-b", remotes=remotes, start="on-demand")
    peers: Any = {"to-b": SimpleNamespace(named=True, remotes=())}
    core: Any = Double(latest=(), retransmissions=3, pinned=None)
    intent = Intent(tunnel, lambda: 0.0)
    intent.cannot_carry("no room")
    said = keying_status(core, tunnel, intent, peers, 0.0)
    assert (said.remote, said.ike, said.remote_in_dns) == (expected, None, None)
    assert (said.last_error, said.tally.retransmissions) == ("no room", 3)
