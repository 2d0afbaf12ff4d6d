"""How many whole handshakes a second both roles make in one process: X25519, or ML-KEM-768 besides, and a shared key."""

import time

import pytest

from ipsec_dp.ike.proposal import parse_ike
from tests.ike.ladder import Ladder, peer

HANDSHAKES = 200
BAR_PER_S = 150.0
ADDED = parse_ike(["aes128gcm16-prfsha256-x25519-ke1_mlkem768"])
BAR_WITH_MLKEM_PER_S = 100.0


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.parametrize(
    ("changes", "bar"), [({}, BAR_PER_S), ({"ike_proposals": ADDED}, BAR_WITH_MLKEM_PER_S)], ids=["x25519", "and ML-KEM-768"]
)
def test_handshakes_a_second(record_property, changes, bar):
    ladders = [Ladder([peer("a", **changes)], [peer("b", **changes)], seed=seed) for seed in range(HANDSHAKES)]
    began = time.perf_counter()
    for ladder in ladders:
        ladder.up()
    rate = HANDSHAKES / (time.perf_counter() - began)
    record_property("handshakes_per_s", f"{rate:.0f}")
    assert rate >= bar
