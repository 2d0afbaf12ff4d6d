"""How many whole handshakes a second both roles make in one process, by a shared key, with the CHILD_SA.

IKEv2 with X25519; IKEv1, main and quick mode, with ECP-256, since it has no number for X25519.
"""

import time

import pytest

from tests.ike.ladder import Ladder
from tests.ike.v1.gateways import Gateways

HANDSHAKES = 200
BAR_PER_S = {"IKEv2": 150.0, "IKEv1": 100.0}


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.parametrize(("version", "begin"), [("IKEv2", Ladder.up), ("IKEv1", Gateways.start)], ids=["IKEv2", "IKEv1"])
def test_handshakes_a_second(version, begin, record_property):
    ladders = [Ladder(seed=seed) if version == "IKEv2" else Gateways(seed=seed) for seed in range(HANDSHAKES)]
    began = time.perf_counter()
    for ladder in ladders:
        begin(ladder)
    rate = HANDSHAKES / (time.perf_counter() - began)
    record_property("handshakes_per_s", f"{rate:.0f}")
    print(f"{version}: {rate:.0f} handshakes a second")
    assert all(ladder.b.sad.sending == [1] for ladder in ladders)
    assert rate >= BAR_PER_S[version]
