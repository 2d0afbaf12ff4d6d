"""One SA with keys set by hand: seals and opens ESP for packet crafting and load generators, without a gateway around it.

    with SecurityAssociation("aes256gcm16-esn", keymat, spi=0x1001) as sa:
        sealed = sa.seal(udp("10.1.0.1", "10.2.0.1", b"hello"))
        assert sa.open(sealed).packet == udp("10.1.0.1", "10.2.0.1", b"hello")

What it seals is ESP in tunnel mode (RFC 4303), from the SPI to the ICV; outer headers are the caller's. Its keys protect nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from ipsec_dp.dataplane import DROP_NAMES, DROP_SENTENCES, GROWTH, Batch, Provider
from ipsec_dp.dataplane.lone import KEEP, LOOK, NUMBERED, PLAIN, RAW, Burst, LoneSa, Rows
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.ipsec.suites import Suite, parse_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Packets = Batch | NDArray[np.uint8] | Sequence[bytes]

__all__ = ["Burst", "DroppedError", "Opened", "SecurityAssociation"]

OF_INNER = -1  # next header: what the packet is
PAD_MAX = 255


class DroppedError(IpsecDpError):
    """A packet that was not sealed or not opened: `reason` is the data plane's name for it ("icv", "replay", "too_old", …)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: {DROP_SENTENCES[reason]}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Opened:
    """What an ESP packet held. `sequence`: 64 bits under ESN, as inferred. TFC padding is gone, unless it was opened raw."""

    packet: bytes
    sequence: int
    next_header: int


@dataclass(frozen=True, slots=True)
class SaMemory:
    """Octets that one SA takes in C: of locked memory for its key, and beside it."""

    key_octets: int
    octets: int


class SecurityAssociation:
    """Seals and opens under one key, both ways. Close it, or use `with`: that wipes the key.

    suite: a keyword such as "aes256gcm16-esn" (`ipsec_dp.ipsec.suites`). keymat: encryption key, salt and integrity key behind each
    other, `suite.keymat_octets` of them (RFC 7296 §2.17, RFC 4106 §8.1). spi: 1 to 2**32 - 1. sequence: the last number used
    already. iv: the first one of an AEAD, which counts from there; give two objects with one key different ones. replay_window:
    packets, a power of two from 64 to 8192. tfc_octets: inner packets are padded to this size (RFC 4303 §2.7). seed: CBC's IVs
    follow from it. Raises BadValueError (suite), ValueError, DataPlaneError (EINVAL: key or window; ENOTSUP: no provider has the
    suite; ENOMEM).

    Bursts are numpy arrays, a packet a row: data of shape (n, stride) and type uint8, C-contiguous, and lengths of shape (n,) and
    type uint32. They are given as an array with its lengths, as a `Batch`, or as a list of bytes. What comes of them is a `Burst`:
    `data`, `octets` (the lengths), `reasons` (uint8, 0: none; `reason(i)` is the name), `sequences` (uint64) and `next_headers`
    (uint8). A packet that was dropped has length 0, and its row holds nothing of use. Arrays and lists are only read; a `Batch` is
    written to behind its packets, where padding is made (TAILROOM octets), which saves a copy. Whoever wants speed gives the same
    `Batch` and the same `out` again, 64 packets or more.

    One thread at a time: DataPlaneError (EBUSY) says that another one is in the middle of a call. After `close`: DataPlaneError
    (EBADF). In a forked process, which has no keys of its parent's: DataPlaneError (ENOKEY).
    """

    def __init__(
        self,
        suite: str | Suite,
        keymat: bytes | bytearray | memoryview,
        *,
        spi: int,
        sequence: int = 0,
        iv: int = 0,
        replay_window: int = 1024,
        tfc_octets: int = 0,
        provider: Provider = Provider.AUTO,
        seed: int | None = None,
    ) -> None:
        self.suite = parse_suite(suite) if isinstance(suite, str) else suite
        self.spi = _within("an SPI", spi, 1, 2**32 - 1)
        self.tfc_octets = _within("TFC padding", tfc_octets, 0, 9000)
        self._to_seal, self._to_open = _Given(), _Given()
        self._lone = LoneSa(
            self.suite,
            keymat,
            spi=spi,
            sequence=self._number(sequence),
            iv=_within("an IV", iv, 0, 2**64 - 1),
            replay_window=replay_window,
            tfc_octets=tfc_octets,
            provider=provider,
            seed=None if seed is None else _within("a seed", seed, 0, 2**64 - 1),
        )

    def close(self) -> None:
        """Wipes the key. Again: nothing. DataPlaneError (EBUSY)."""
        self._lone.close()
        self._to_seal, self._to_open = _Given(), _Given()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- numbers

    @property
    def sequence(self) -> int:
        """The last sequence number that `seal` used; the next packet has the one after it. ValueError: not one of this suite."""
        return int(self._lone.state().sequence)

    @sequence.setter
    def sequence(self, last: int) -> None:
        self._lone.set_sequence(self._number(last))

    @property
    def highest(self) -> int:
        """The highest sequence number that `open` took, 0 before the first. Setting it begins the window anew: this one was
        received, and of those before it within the window none. ValueError: not one of this suite."""
        return int(self._lone.state().highest)

    @highest.setter
    def highest(self, highest: int) -> None:
        self._lone.set_highest(self._number(highest))

    @property
    def memory(self) -> SaMemory:
        state = self._lone.state()
        return SaMemory(int(state.key_octets), int(state.octets))

    def _number(self, number: int) -> int:
        return _within("a sequence number", number, 0, 2**64 - 1 if self.suite.esn else 2**32 - 1)

    # ---- one packet

    def seal(self, packet: bytes, *, sequence: int | None = None, next_header: int | None = None) -> bytes:
        """The ESP packet around an inner IP packet, of which version and length are looked at.

        sequence: this one instead of the next, which stays what it is. next_header: `packet` is anything, and this says what (59: a
        dummy, RFC 4303 §2.6). Raises DroppedError, ValueError.
        """
        number = None if sequence is None else self._number(sequence)
        header = OF_INNER if next_header is None else _within("a next header", next_header, 0, 255)
        reason, sealed = self._lone.seal_one(packet, number, header, PLAIN)
        return _good(reason, sealed)

    def craft(
        self,
        payload: bytes,
        *,
        next_header: int = 4,
        padding: bytes | None = None,
        pad_length: int | None = None,
        sequence: int | None = None,
        icv: bytes | None = None,
    ) -> bytes:
        """An ESP packet field by field (RFC 4303 §2), under a right ICV or under the wrong one that is given.

        Any payload, next header and padding (None: the right one), and any pad length, whatever padding there is. Raises
        ValueError (payload, padding and trailer are not a multiple of `alignment`, or `icv` is not as long as the suite's),
        DroppedError.
        """
        if padding is None:
            padding = bytes(range(1, 1 + -(len(payload) + 2) % self.alignment))
        said = _within("a pad length", len(padding) if pad_length is None else pad_length, 0, PAD_MAX)
        plain = payload + padding + bytes([said, _within("a next header", next_header, 0, 255)])
        if len(plain) % self.alignment:
            raise ValueError(f"{len(plain)} octets with padding and trailer are not a multiple of {self.alignment}")
        if icv is not None and len(icv) != self.suite.icv_octets:
            raise ValueError(f"the ICV of {self.suite} has {self.suite.icv_octets} octets, not {len(icv)}")
        number = None if sequence is None else self._number(sequence)
        sealed = _good(*self._lone.seal_one(plain, number, OF_INNER, RAW))
        return sealed if icv is None else sealed[: -len(icv)] + icv

    @property
    def alignment(self) -> int:
        """What payload, padding and trailer together are a multiple of, in octets (RFC 4303 §2.4)."""
        return int(self._lone.state().alignment)

    def open(self, packet: bytes, *, look: bool = False, raw: bool = False) -> Opened:
        """What an ESP packet holds, checked in a gateway's order: SPI, window, ICV, padding, next header, inner header.

        look: the window stays as it is, so the packet opens again. raw: whatever the next header and the inner header are. Raises
        DroppedError.
        """
        reason, opened, sequence, next_header = self._lone.open_one(packet, (LOOK if look else PLAIN) | (RAW if raw else PLAIN))
        return Opened(_good(reason, opened), sequence, next_header)

    # ---- bursts

    def seal_burst(
        self,
        packets: Packets,
        lengths: NDArray[np.uint32] | None = None,
        *,
        sequences: NDArray[np.uint64] | None = None,
        next_header: int | None = None,
        pad_in_place: bool = False,
        out: Burst | None = None,
    ) -> Burst:
        """Seals every row: `seal` for each, with the reasons in what is returned.

        lengths: (n,), of an array; None: whole rows. sequences: (n,) uint64, instead of the next ones. pad_in_place: what lies
        behind the packets in the rows of an array may be overwritten, as in a `Batch`. out: where to: n rows of the longest packet
        (at least tfc_octets) and GROWTH octets, else "too_big". Raises ValueError (shapes, types), DataPlaneError (EBUSY, EBADF,
        ENOKEY).
        """
        whole = lengths is None and isinstance(packets, Batch)
        rows = cast("Batch", packets) if whole else self._to_seal.rows(packets, lengths)
        if out is None:
            out = Burst(rows.rows, max(rows.stride, self.tfc_octets) + GROWTH)
        elif out.rows != rows.rows or out is rows or not (whole or out is self._to_seal.apart):
            self._to_seal.check(rows, out)
        how = PLAIN if whole or (pad_in_place and rows.data.flags.writeable) else KEEP
        if sequences is not None:
            if sequences.shape != (rows.rows,) or sequences.dtype != np.uint64:
                raise ValueError(f"sequences of shape {sequences.shape} and type {sequences.dtype}, not ({rows.rows},) and uint64")
            out.sequences[:] = sequences
            how |= NUMBERED
        self._lone.seal(rows, out, OF_INNER if next_header is None else _within("a next header", next_header, 0, 255), how)
        return out

    def open_burst(
        self,
        packets: Packets,
        lengths: NDArray[np.uint32] | None = None,
        *,
        look: bool = False,
        raw: bool = False,
        out: Burst | None = None,
    ) -> Burst:
        """Opens every row: `open` for each, with the reasons in what is returned, and in `octets` how long what was opened is.

        out: n rows as long as the ESP packets, else "too_big". Raises as `seal_burst`.
        """
        whole = lengths is None and isinstance(packets, Batch)
        rows = cast("Batch", packets) if whole else self._to_open.rows(packets, lengths)
        if out is None:
            out = Burst(rows.rows, rows.stride)
        elif out.rows != rows.rows or out is rows or not (whole or out is self._to_open.apart):
            self._to_open.check(rows, out)
        self._lone.open(rows, out, (LOOK if look else PLAIN) | (RAW if raw else PLAIN))
        return out


class _Given:
    """What was given to the last call of one kind, so that the next one with the same arrays finds them looked at."""

    def __init__(self) -> None:
        self._last: Rows | None = None
        self.apart: Burst | None = None  # from what was given last

    def rows(self, packets: Packets, lengths: NDArray[np.uint32] | None) -> Batch | Rows:
        """Packets as they are read. Raises ValueError."""
        last = self._last
        if last is not None and packets is last.data and lengths is last.lengths and last.data.shape == last.shape:
            return last
        self.apart = None
        if isinstance(packets, np.ndarray):
            self._last = Rows(packets, lengths)
            return self._last
        if lengths is not None:
            raise ValueError("lengths go with an array; a batch and a list have their own")
        return packets if isinstance(packets, Batch) else Batch.of(packets)

    def check(self, rows: Batch | Rows, out: Burst) -> None:
        """Raises ValueError when these packets do not go there."""
        if out.rows != rows.rows:
            raise ValueError(f"{rows.rows} packets into {out.rows} rows")
        if np.may_share_memory(rows.data, out.data):
            raise ValueError("a burst is not sealed or opened where it lies")
        if rows is self._last:
            self.apart = out


def _good(reason: int, packet: bytes) -> bytes:
    if reason:
        raise DroppedError(DROP_NAMES[reason])
    return packet


def _within(what: str, number: int, low: int, high: int) -> int:
    if not low <= number <= high:
        raise ValueError(f"{what} is {low} to {high}, not {number}")
    return number
