"""One SA by itself (``native/lone.c``): for rigs, which seal and open with keys set by hand and want no data plane around it."""

from __future__ import annotations

import errno
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.batch import Batch
from ipsec_dp.dataplane.convert import check
from ipsec_dp.dataplane.types import GROWTH, ArenaInfo, Provider
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ipsec_dp.ipsec.suites import Suite


# How a burst is sealed or opened: `enum dp_lone_how`. Plain numbers, since a flag costs time at each use.
PLAIN = 0
NUMBERED: int = lib.DP_LONE_NUMBERED
KEEP: int = lib.DP_LONE_KEEP
RAW: int = lib.DP_LONE_RAW
LOOK: int = lib.DP_LONE_LOOK


class Burst(Batch):
    """A batch that also says each packet's sequence number, `sequences` (rows,) uint64, and, once it was opened, its next header,
    `next_headers` (rows,) uint8."""

    def __init__(self, rows: int, stride: int) -> None:
        super().__init__(rows, stride)
        self.sequences: NDArray[np.uint64] = np.zeros(rows, np.uint64)
        self.next_headers: NDArray[np.uint8] = np.zeros(rows, np.uint8)
        self.c_sequences = ffi.from_buffer("uint64_t[]", self.sequences)
        self.c_next_headers = ffi.from_buffer("uint8_t[]", self.next_headers)


class Rows:
    """Packets in an array of somebody else's, as a batch is read: (n, stride) uint8, C-contiguous, and lengths (n,) uint32, None:
    whole rows. Raises ValueError."""

    def __init__(self, data: NDArray[np.uint8], lengths: NDArray[np.uint32] | None) -> None:
        if data.ndim != 2 or data.dtype != np.uint8 or not data.flags.c_contiguous:
            raise ValueError(f"packets of shape {data.shape} and type {data.dtype}, not (n, stride) and uint8, C-contiguous")
        self.data, self.lengths, self.shape = data, lengths, data.shape
        self.rows, self.stride = data.shape
        if lengths is None:
            lengths = np.full(self.rows, self.stride, np.uint32)
        if lengths.shape != (self.rows,) or lengths.dtype != np.uint32 or not lengths.flags.c_contiguous:
            raise ValueError(
                f"lengths of shape {lengths.shape} and type {lengths.dtype}, not ({self.rows},) and uint32, C-contiguous"
            )
        self.c_data = ffi.from_buffer("uint8_t[]", data)
        self.c_octets = ffi.from_buffer("uint32_t[]", lengths)


class LoneKeys:
    """The memory that keys of lone SAs are in: locked, left out of dumps, zero in a forked process; each is wiped with its SA."""

    def __init__(self, provider: Provider) -> None:
        out = ffi.new("struct dp_lone_keys **")
        check(lib.dp_lone_keys_new(provider, out), "making room for keys")
        self._c = ffi.gc(out[0], lib.dp_lone_keys_free)

    def make(self, params: Any, keymat: bytes | bytearray | memoryview, what: str) -> Any:
        """The C structure of a new SA. DataPlaneError."""
        out = ffi.new("struct dp_lone **")
        check(lib.dp_lone_new(self._c, params, ffi.from_buffer("uint8_t[]", keymat), len(keymat), out), what)
        return ffi.gc(out[0], lib.dp_lone_free)

    def info(self) -> ArenaInfo:
        c = ffi.new("struct dp_arena_info *")
        lib.dp_lone_keys_read(self._c, c)
        return ArenaInfo(c.octets, c.in_use, bool(c.locked), bool(c.undumped), bool(c.wiped_on_fork))


@functools.cache
def lone_keys(provider: Provider) -> LoneKeys:
    """Those of this process by a provider, made at the first use. DataPlaneError."""
    return LoneKeys(provider)


class LoneSa:
    """One SA that seals and opens under one key. Close it: that wipes the key. Raises DataPlaneError (EBADF) then."""

    def __init__(
        self,
        suite: Suite,
        keymat: bytes | bytearray | memoryview,
        *,
        spi: int,
        sequence: int,
        iv: int,
        replay_window: int,
        tfc_octets: int,
        provider: Provider,
        seed: int | None,
    ) -> None:
        if len(keymat) != suite.keymat_octets:
            raise DataPlaneError(errno.EINVAL, f"{suite.keyword} takes {suite.keymat_octets} octets of key, not {len(keymat)}")
        c = ffi.new("struct dp_lone_params *")
        c.spi, c.encr, c.integ, c.key_octets, c.esn = spi, suite.encr, suite.integ, suite.key_octets, suite.esn
        c.sequence, c.iv, c.replay_window, c.tfc_octets = sequence, iv, replay_window, tfc_octets
        c.seeded, c.seed = seed is not None, seed or 0
        self._tfc_octets = tfc_octets
        self._what = f"the SA {spi_text(spi)}"
        self._c = lone_keys(provider).make(c, keymat, f"making {self._what}")

    def close(self) -> None:
        check(lib.dp_lone_close(self._c), f"closing {self._what}")

    def state(self) -> Any:
        """``struct dp_lone_state``."""
        state = ffi.new("struct dp_lone_state *")
        lib.dp_lone_read(self._c, state)
        return state

    def set_sequence(self, sequence: int) -> None:
        check(lib.dp_lone_set_sequence(self._c, sequence), f"setting the sequence number of {self._what}")

    def set_highest(self, highest: int) -> None:
        check(lib.dp_lone_set_highest(self._c, highest), f"setting the window of {self._what}")

    # ---- whole bursts: as many rows each

    def seal(self, plain: Batch | Rows, out: Burst, next_header: int, how: int) -> int:
        """Rows of `plain` into `out`; how many were sealed."""
        # fmt: off
        result = lib.dp_lone_seal(
            self._c, plain.c_data, plain.c_octets, plain.stride, out.c_data, out.c_octets, out.stride, plain.rows,
            out.c_reasons, out.c_sequences, next_header, how,
        )
        # fmt: on
        return int(result) if result >= 0 else check(result, f"sealing by {self._what}")

    def open(self, sealed: Batch | Rows, out: Burst, how: int) -> int:
        """Rows of `sealed` into `out`; how many were opened."""
        # fmt: off
        result = lib.dp_lone_open(
            self._c, sealed.c_data, sealed.c_octets, sealed.stride, out.c_data, out.c_octets, out.stride, sealed.rows,
            out.c_reasons, out.c_sequences, out.c_next_headers, how,
        )
        # fmt: on
        return int(result) if result >= 0 else check(result, f"opening by {self._what}")

    # ---- one packet: the reason (0: none), and what became of it

    def seal_one(self, packet: bytes, sequence: int | None, next_header: int, how: int) -> tuple[int, bytes]:
        out = bytearray(max(len(packet), self._tfc_octets) + GROWTH)
        octets, reason, number = ffi.new("uint32_t *"), ffi.new("uint8_t *"), ffi.new("uint64_t *", sequence or 0)
        how |= KEEP | (PLAIN if sequence is None else NUMBERED)
        inside = ffi.from_buffer("uint8_t[]", packet), ffi.new("uint32_t *", len(packet)), len(packet)
        outside = ffi.from_buffer("uint8_t[]", out), octets, len(out)
        check(lib.dp_lone_seal(self._c, *inside, *outside, 1, reason, number, next_header, how), f"sealing by {self._what}")
        return int(reason[0]), bytes(out[: octets[0]])

    def open_one(self, packet: bytes, how: int) -> tuple[int, bytes, int, int]:
        """Besides: its sequence number and next header."""
        out = bytearray(max(len(packet), 1))
        octets, reason, number, header = ffi.new("uint32_t *"), ffi.new("uint8_t *"), ffi.new("uint64_t *"), ffi.new("uint8_t *")
        inside = ffi.from_buffer("uint8_t[]", packet), ffi.new("uint32_t *", len(packet)), len(packet)
        outside = ffi.from_buffer("uint8_t[]", out), octets, len(out)
        check(lib.dp_lone_open(self._c, *inside, *outside, 1, reason, number, header, how), f"opening by {self._what}")
        return int(reason[0]), bytes(out[: octets[0]]), int(number[0]), int(header[0])
