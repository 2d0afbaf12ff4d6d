"""What the C core shows of its packets while somebody captures (``native/tap.h``)."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import check, set_endpoint
from ipsec_dp.dataplane.types import Endpoint
from ipsec_dp.errors import DataPlaneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.dataplane.plane import DataPlane
    from ipsec_dp.ipsec.addresses import Address

RING_OCTETS = 4 << 20  # of each loop, until they are read
READ_OCTETS = 1 << 18  # at once; a block is shorter
PEERS_MOST = int(lib.DP_TAP_PEERS)
_NONE = 0xFFFFFFFF
OUTER_KEY = 0  # of the interface of outer datagrams; of a TUN interface it is its number and one


@dataclass(frozen=True, slots=True)
class TappedTunnel:
    """The one that is looked at: its number, its TUN interface's, and where its peer may be."""

    number: int
    interface: int
    peers: Sequence[Address] = ()


class Tap:
    """Packets of a data plane from now until `close`, as blocks of a pcapng file. One at a time.

    `snap`: octets kept of each, 0: all. `wall_offset`: ns that the time of day is ahead of the loops' clock. Raises DataPlaneError
    (EBUSY: there is one).
    """

    def __init__(
        self,
        plane: DataPlane,
        *,
        inner: bool,
        outer: bool,
        snap: int = 0,
        tunnel: TappedTunnel | None = None,
        wall_offset: int = 0,
        ring_octets: int = RING_OCTETS,
    ) -> None:
        what = (lib.DP_TAP_INNER if inner else 0) | (lib.DP_TAP_OUTER if outer else 0)
        peers = () if tunnel is None else tuple(tunnel.peers)[:PEERS_MOST]
        whom = (_NONE, _NONE) if tunnel is None else (tunnel.number, tunnel.interface)
        config = ffi.new("struct dp_tap_config *", [what, snap, *whom, len(peers), 0, wall_offset % 2**64, ring_octets])
        addresses = ffi.new("struct dp_addr[]", max(len(peers), 1))
        for index, peer in enumerate(peers):
            set_endpoint(addresses[index], Endpoint(peer))
        check(lib.dp_tap_start(plane.c, config, addresses), "starting a capture")
        self._plane: DataPlane | None = plane
        self._room = ffi.new("uint8_t[]", READ_OCTETS)
        self._unnamed = ffi.new("uint32_t *")

    @property
    def _c(self) -> object:
        if self._plane is None:
            raise DataPlaneError(errno.EBADF, "the capture is over")
        return self._plane.c

    def read(self) -> tuple[bytes, int | None]:
        """The oldest blocks; and the interface that `name` has to give a number before there are more, by its key."""
        octets = check(lib.dp_tap_read(self._c, self._room, READ_OCTETS, self._unnamed), "reading a capture")
        return bytes(ffi.buffer(self._room, octets)), None if self._unnamed[0] == _NONE else int(self._unnamed[0])

    def name(self, key: int, number: int) -> None:
        """An interface has this number in the file from now on."""
        check(lib.dp_tap_name(self._c, key, number), "naming an interface of a capture")

    def counts(self, key: int) -> tuple[int, int]:
        """Packets of an interface that were read, and that found no room."""
        taken, missed = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        check(lib.dp_tap_counts(self._c, key, taken, missed), "reading a capture's counts")
        return int(taken[0]), int(missed[0])

    def close(self) -> None:
        """Nothing is copied any more."""
        if self._plane is not None:
            plane, self._plane = self._plane, None
            with contextlib.suppress(DataPlaneError):  # closed: it has taken the tap with it
                lib.dp_tap_stop(plane.c)
