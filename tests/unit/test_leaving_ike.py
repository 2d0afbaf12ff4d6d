"""All of IKE leaves piece by piece, and with each what is wanted of its tunnels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ipsec_dp.databases.carried_sas import KeysElsewhere
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.keying.initiation import Intent
from ipsec_dp.keying.leaving_ike import leaving_ike
from tests.doubles.clock import FakeClock
from tests.ike.carried.crowds import crowd, senders


def test_what_is_wanted_goes_with_the_piece_of_its_tunnel_once():
    site: Any = crowd(3, IkeVersions)
    tunnel: Any = SimpleNamespace(remotes=(), start="respond")
    state = Intent(tunnel, lambda: 0.0).export()
    wanted = dict.fromkeys(("t0", "t1", "t2", "without an IKE SA"), state)
    leaving = leaving_ike(site.core, KeysElsewhere(senders(3)), wanted, FakeClock().now())
    pieces = list(leaving.pieces)
    assert leaving.number == len(pieces)
    assert sorted(name for _, intents in pieces for name in intents) == ["t0", "t1", "t2"]
    assert leaving.others == {"without an IKE SA": state}
