"""Whole bursts in numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from ipsec_dp._native import ffi
from ipsec_dp.dataplane.types import DROP_NAMES, GROWTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Batch:
    """Rows of packets in one numpy array, for whole bursts without copying: `data[i, :octets[i]]` is packet i.

    `stride` is octets a row. The pointers are taken once, so that a call costs next to nothing.
    """

    def __init__(self, rows: int, stride: int) -> None:
        self.data: NDArray[np.uint8] = np.zeros((rows, stride), np.uint8)
        self.octets: NDArray[np.uint32] = np.zeros(rows, np.uint32)
        self.reasons: NDArray[np.uint8] = np.zeros(rows, np.uint8)
        self.rows, self.stride = rows, stride
        self.c_data = ffi.from_buffer("uint8_t[]", self.data)
        self.c_octets = ffi.from_buffer("uint32_t[]", self.octets)
        self.c_reasons = ffi.from_buffer("uint8_t[]", self.reasons)

    @classmethod
    def of(cls, packets: Iterable[bytes], stride: int = 0) -> Self:
        """A batch of these packets, with room to seal them unless `stride` says otherwise."""
        listed = list(packets)
        batch = cls(len(listed), stride or max(map(len, listed), default=0) + GROWTH)
        for row, packet in enumerate(listed):
            batch.data[row, : len(packet)] = np.frombuffer(packet, np.uint8)
            batch.octets[row] = len(packet)
        return batch

    def packet(self, row: int) -> bytes:
        return self.data[row, : self.octets[row]].tobytes()

    def packets(self) -> list[bytes]:
        return [self.packet(row) for row in range(self.rows)]

    def reason(self, row: int) -> str:
        """Why the packet of this row was dropped; "ok"."""
        return DROP_NAMES[self.reasons[row]]
