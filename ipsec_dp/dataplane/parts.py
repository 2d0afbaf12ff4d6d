"""Single parts of the C core, for tests and benchmarks. What each call does is documented in ``native/dp.h``.

The benchmark loops hold no clock: the caller times the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import check
from ipsec_dp.dataplane.types import DROP_NAMES, Provider, SaHandle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.dataplane.batch import Batch
    from ipsec_dp.dataplane.plane import DataPlane
    from ipsec_dp.ipsec.suites import Suite


def run_replay(window: int, esn: bool, low: Sequence[int]) -> list[tuple[int, str]]:
    """An empty anti-replay window (packets: a power of two, 64..8192) fed the low 32 bits of sequence numbers: for each the 64-bit
    number inferred and "ok", "replay" or "too_old". Raises DataPlaneError (EINVAL) for another window."""
    received = np.array(low, np.uint32)
    inferred = np.zeros(len(received), np.uint64)
    verdicts = np.zeros(len(received), np.uint8)
    result = lib.dp_replay_run(
        window,
        esn,
        ffi.from_buffer("uint32_t[]", received),
        len(received),
        ffi.from_buffer("uint64_t[]", inferred),
        ffi.from_buffer("uint8_t[]", verdicts),
    )
    check(result, f"an anti-replay window of {window} packets")
    return [(int(number), DROP_NAMES[verdict]) for number, verdict in zip(inferred, verdicts, strict=True)]


def bench_cipher(provider: Provider, suite: Suite, *, opening: bool, octets: int, rows: int, rounds: int) -> None:
    """The bare cipher on `rows` rows of `octets`, `rounds` times; with no rounds only the preparation. Raises DataPlaneError
    (ENOTSUP: the provider lacks the suite)."""
    result = lib.dp_bench_aead(provider, suite.encr, suite.integ, suite.key_octets, opening, octets, rows, rounds)
    check(result, f"benchmark of {suite.keyword} by {provider.name}")


def bench_seal(plane: DataPlane, outbound: SaHandle, plain: Batch, sealed: Batch, *, rounds: int, now: int = 0) -> None:
    """`DataPlane.seal` of the same rows `rounds` times. Raises DataPlaneError (EIO: a packet was dropped)."""
    if sealed.rows < plain.rows:
        raise ValueError(f"{plain.rows} packets do not fit {sealed.rows} rows")
    result = lib.dp_bench_seal(
        plane.c,
        outbound,
        plain.c_data,
        plain.c_octets,
        plain.stride,
        sealed.c_data,
        sealed.c_octets,
        sealed.stride,
        plain.rows,
        sealed.c_reasons,
        now,
        rounds,
    )
    check(result, "benchmark of sealing")


def bench_open(plane: DataPlane, sealed: Batch, plain: Batch, *, now: int = 0) -> None:
    """`DataPlane.open` of all rows of `sealed`, `plain.rows` at a time into the same rows of `plain`: its rows divide those of
    `sealed`, because no packet opens twice. Raises DataPlaneError (EIO: a packet was dropped)."""
    rounds, rest = divmod(sealed.rows, plain.rows)
    if rest:
        raise ValueError(f"{sealed.rows} packets are no multiple of {plain.rows} rows")
    result = lib.dp_bench_open(
        plane.c,
        sealed.c_data,
        sealed.c_octets,
        sealed.stride,
        plain.c_data,
        plain.c_octets,
        plain.stride,
        plain.rows,
        plain.c_reasons,
        now,
        rounds,
    )
    check(result, "benchmark of opening")
