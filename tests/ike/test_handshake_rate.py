"""How many whole handshakes a second both roles make in one process: IKE_SA_INIT and IKE_AUTH with X25519 and a shared key."""

import time

import pytest

from tests.ike.ladder import Ladder

HANDSHAKES = 200
BAR_PER_S = 150.0


@pytest.mark.slow
@pytest.mark.measure
def test_handshakes_a_second(record_property):
    ladders = [Ladder(seed=seed) for seed in range(HANDSHAKES)]
    began = time.perf_counter()
    for ladder in ladders:
        ladder.up()
    rate = HANDSHAKES / (time.perf_counter() - began)
    record_property("handshakes_per_s", f"{rate:.0f}")
    assert rate >= BAR_PER_S
