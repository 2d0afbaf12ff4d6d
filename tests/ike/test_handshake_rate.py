"""How many whole handshakes a second both roles make in one process, by a shared key, with the CHILD_SA.

IKEv2 with X25519, and with ML-KEM-768 besides; IKEv1, main and quick mode, with ECP-256, since it has no number for X25519.
"""

import time

import pytest

from ipsec_dp.ike.proposal import parse_ike
from tests.ike.ladder import Ladder, peer
from tests.ike.v1.gateways import Gateways

HANDSHAKES = 200
BAR_PER_S = {"IKEv2": 150.0, "ML-KEM": 100.0, "IKEv1": 100.0}
ADDED = parse_ike(["aes128gcm16-prfsha256-x25519-ke1_mlkem768"])


def with_ml_kem(seed):
    return Ladder([peer("a", ike_proposals=ADDED)], [peer("b", ike_proposals=ADDED)], seed)


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.parametrize(
    ("version", "make", "begin"),
    [
        ("IKEv2", lambda seed: Ladder(seed=seed), Ladder.up),
        ("ML-KEM", with_ml_kem, Ladder.up),
        ("IKEv1", lambda seed: Gateways(seed=seed), Gateways.start),
    ],
    ids=BAR_PER_S,
)
def test_handshakes_a_second(version, make, begin, record_property):
    ladders = [make(seed) for seed in range(HANDSHAKES)]
    began = time.perf_counter()
    for ladder in ladders:
        begin(ladder)
    rate = HANDSHAKES / (time.perf_counter() - began)
    record_property("handshakes_per_s", f"{rate:.0f}")
    print(f"{version}: {rate:.0f} handshakes a second")
    assert all(ladder.b.sad.sending == [1] for ladder in ladders)
    assert rate >= BAR_PER_S[version]
