"""Octets in and out: the only two cursors that touch them, whatever the version of IKE.

Every length is checked here, once. Parsers never index a buffer by themselves, so whatever a peer sends ends in a value or in an
`IkeSyntaxError`.
"""

from ipsec_dp.ike.errors import IkeSyntaxError

Buffer = bytes | bytearray | memoryview


class Reader:
    """Bounds-checked cursor over received octets; every method raises `IkeSyntaxError` when they are too few."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data).toreadonly()
        self._at = 0
        self._end = len(data)

    @property
    def remaining(self) -> int:
        """Octets not yet read."""
        return self._end - self._at

    @property
    def position(self) -> int:
        """Octets read so far."""
        return self._at

    def _take(self, count: int) -> memoryview:
        if count < 0 or count > self._end - self._at:
            raise IkeSyntaxError(f"{count} octets wanted, {self._end - self._at} left")
        start = self._at
        self._at += count
        return self._data[start : self._at]

    def u8(self) -> int:
        at = self._at
        if at >= self._end:
            raise IkeSyntaxError("1 octets wanted, 0 left")
        self._at = at + 1
        return self._data[at]

    def u16(self) -> int:
        at = self._at
        if at + 2 > self._end:
            raise IkeSyntaxError(f"2 octets wanted, {self._end - at} left")
        self._at = at + 2
        return self._data[at] << 8 | self._data[at + 1]

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def octets(self, count: int) -> bytes:
        return bytes(self._take(count))

    def rest(self) -> bytes:
        return bytes(self._take(self._end - self._at))

    def sub(self, count: int) -> "Reader":
        """A cursor over the next `count` octets, which this one then has passed."""
        return Reader(self._take(count))

    def end(self, what: str) -> None:
        """Refuse octets left over in `what`."""
        if self._at != self._end:
            raise IkeSyntaxError(f"{what}: {self._end - self._at} octets too many")


class Writer:
    """Growing output. A value that does not fit its field is our own mistake: `ValueError`."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def _number(self, value: int, size: int) -> None:
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{value} does not fit {size} octets")
        self._data += value.to_bytes(size, "big")

    def u8(self, value: int) -> None:
        if not 0 <= value <= 0xFF:
            raise ValueError(f"{value} does not fit 1 octets")
        self._data.append(value)

    def u16(self, value: int) -> None:
        self._number(value, 2)

    def u32(self, value: int) -> None:
        self._number(value, 4)

    def octets(self, value: Buffer) -> None:
        self._data += value

    def reserve_u16(self) -> int:
        """Leave room for a length known later; returns where."""
        self._data += b"\0\0"
        return len(self._data) - 2

    def fill_u16(self, at: int, value: int) -> None:
        if not 0 <= value <= 0xFFFF:
            raise ValueError(f"a length of {value} octets does not fit its field")
        self._data[at : at + 2] = value.to_bytes(2, "big")

    def take(self) -> bytes:
        """All octets written."""
        return bytes(self._data)
