"""The anti-replay window: nanoseconds a sequence number, inferred, checked and committed, by window and order of arrival."""

from __future__ import annotations

import numpy as np
import pytest
from ipsec_dp._native import ffi, lib

COUNT = 65536
ROUNDS = 100
ORDERS = ("in order", "reordered", "one in ten lost", "replayed")


def numbers(order: str) -> np.ndarray:
    """Low halves of sequence numbers as they arrive; reordering stays within 32 packets."""
    random = np.random.default_rng(7)
    sent = np.arange(1, COUNT + 1, dtype=np.uint32)
    match order:
        case "reordered":
            return sent[np.argsort(sent + random.integers(0, 32, COUNT), kind="stable")]
        case "one in ten lost":
            return np.arange(1, 2 * COUNT, dtype=np.uint32)[random.random(2 * COUNT - 1) >= 0.1][:COUNT].copy()
        case "replayed":
            return np.repeat(sent[: COUNT // 2], 2)
        case _:
            return sent


@pytest.mark.parametrize("esn", [0, 1], ids=["noesn", "esn"])
@pytest.mark.parametrize("window", [64, 1024, 8192])
@pytest.mark.parametrize("order", ORDERS)
def test_window(benchmark, order, window, esn):
    low = numbers(order)
    inferred, verdicts = np.zeros(COUNT, np.uint64), np.zeros(COUNT, np.uint8)
    buffers = (
        ffi.from_buffer("uint32_t[]", low),
        COUNT,
        ffi.from_buffer("uint64_t[]", inferred),
        ffi.from_buffer("uint8_t[]", verdicts),
    )
    benchmark.group = f"anti-replay, {order}"
    assert benchmark.pedantic(lib.dp_replay_run, args=(window, esn, *buffers), rounds=ROUNDS, warmup_rounds=5) == 0
    refused = int(np.count_nonzero(verdicts))
    assert refused == (COUNT // 2 if order == "replayed" else 0)
    benchmark.extra_info.update(nanoseconds_a_packet=round(1e9 * benchmark.stats.stats.median / COUNT, 2), refused=refused)
