"""SAs, their counters and who reads the devices: what leaves this data plane, or comes from another.

What each call does is documented in ``native/dp.h``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from typing import TYPE_CHECKING

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.carried import (
    SA_MODEL,
    CarriedFlows,
    CarriedTraffic,
    ExportedSa,
    exported_of,
    set_counters,
    set_traffic,
    state_of,
    traffic_of,
)
from ipsec_dp.dataplane.convert import check, counters_of, sa_params_of, selectors_of
from ipsec_dp.dataplane.ike import IkeGate
from ipsec_dp.dataplane.kept import KeptPacket, kept_of, packets_of
from ipsec_dp.dataplane.types import DROP_NAMES, Direction, SaHandle
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.wiping import wipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ipsec_dp.dataplane.types import Counters, SaParams
    from ipsec_dp.ipsec.suites import Suite

OCTETS_MOST = 65535  # of an inner packet
RECORD_ENCODING = 1  # how dp_sa_record_write lays out what a record has; another one has another number


def record_layout() -> bytes:
    """What two programs have in common when the one reads the other's records; else SAs go one by one, as values."""
    fields = [(name, field.offset) for name, field in ffi.typeof("struct dp_sa_state").fields]
    shape = fields, ffi.sizeof("struct dp_sa_record"), RECORD_ENCODING, SA_MODEL, sys.byteorder, DROP_NAMES
    return hashlib.sha256(repr(shape).encode()).digest()


def records_of_values(sas: Sequence[ExportedSa]) -> tuple[bytearray, dict[int, str]]:
    """SAs that came as values as records for `go_on`, in their order; and those that cannot be one, why, by their place."""
    states, refused, write = [], dict[int, str](), lib.dp_sa_record_write
    for place, sa in enumerate(sas):
        try:
            state = state_of(sa, 0), ffi.from_buffer("uint8_t[]", sa.keymat), len(sa.keymat)
            states.append((state, check(write(*state, ffi.NULL, 0), "a record of it")))
        except (DataPlaneError, OverflowError, ValueError) as error:
            refused[place] = str(error)
    records = bytearray(sum(octets for _, octets in states))
    c, at = ffi.from_buffer("uint8_t[]", records), 0
    for state, room in states:
        at += write(*state, c + at, room)
    return records, refused


class Moving(IkeGate):
    """An export retires its source, or takes a number from which on the source goes no further."""

    workers: int

    def retire(self, handle: SaHandle) -> None:
        """From now on the SA neither seals nor opens (retired), for good. It stays until it is removed."""
        check(lib.dp_sa_retire(self.c, handle), "retiring an SA")

    def check_leaving(self, handle: SaHandle) -> None:
        """Raises what `export_sa` would raise of an SA that is retired; where it does not, `export_sa` will not."""
        check(lib.dp_sa_may_leave(self.c, handle), "exporting an SA")

    def export_sa(self, handle: SaHandle, suite: Suite) -> ExportedSa:
        """The SA whole, after its last packet: it is retired, and its key is wiped here. Once. Raises DataPlaneError (EAGAIN: a
        loop has a burst of it from before, ask again; EALREADY; EKEYEXPIRED: after `expire_all`)."""
        self.retire(handle)
        return self._left(handle, suite, lambda c, key: lib.dp_sa_export(self.c, handle, c, key, len(key)), exact=True)

    def snapshot_sa(self, handle: SaHandle, suite: Suite, *, most: int = OCTETS_MOST) -> ExportedSa:
        """What another one would go on from, should this SA, which goes on, be lost: behind the bound of `reserve` or `publish`.
        Packets up to there are counted, with `most` octets each. Raises DataPlaneError (EPERM: it has no bound; EAGAIN)."""
        return self._left(handle, suite, lambda c, key: lib.dp_sa_snapshot(self.c, handle, most, c, key, len(key)), exact=False)

    def _left(self, handle: SaHandle, suite: Suite, leave: Any, *, exact: bool) -> ExportedSa:
        info, c = ffi.new("struct dp_sa_info *"), ffi.new("struct dp_sa_state *")
        room = bytearray(lib.DP_KEYMAT_ROOM)
        check(lib.dp_sa_read(self.c, handle, info), "reading an SA")
        try:
            octets = check(leave(c, ffi.from_buffer("uint8_t[]", room)), f"exporting the SA {spi_text(info.spi)}")
            keymat = bytearray(memoryview(room)[:octets])
        finally:
            room[:] = bytes(len(room))
        return exported_of(c, keymat, exact=exact, direction=Direction(info.direction), spi=info.spi, suite=str(suite))

    def reserve(self, handle: SaHandle, bound: int) -> None:
        """An outbound SA seals nothing above this number from now on (unreserved) but after a higher one. It holds when this
        returns. Raises DataPlaneError (EAGAIN: ask again; ERANGE: it is beyond it already, or has no such number)."""
        check(lib.dp_sa_reserve(self.c, handle, bound), "reserving sequence numbers")

    def publish(self, handle: SaHandle, bound: int) -> None:
        """An inbound SA opens nothing above this number from now on (unpublished) but after a higher one: whoever calls has
        published it before. As `reserve`."""
        check(lib.dp_sa_publish(self.c, handle, bound), "bounding an inbound SA")

    def import_sa(self, params: SaParams, state: ExportedSa, worker: int = 0, *, clock: int = 0) -> SaHandle:
        """`install`, of an SA that goes on from `state`; its keying material is used where `params` has none. `clock`: nanoseconds
        that this host's clock is ahead of the source's. Raises DataPlaneError (EINVAL: it is another SA's, or cannot be)."""
        if not state.is_of(params):
            raise DataPlaneError(errno.EINVAL, f"{state!r} is not the state of the SA {spi_text(params.spi)}")
        keymat = state.keymat if not params.keymat else params.keymat
        handle, selectors = ffi.new("dp_sa_id *"), selectors_of(params.selectors)
        try:
            c, carried = sa_params_of(params, worker), state_of(state, clock)
        except OverflowError:
            raise DataPlaneError(errno.EINVAL, f"the state of {state!r} has a number that none can be") from None
        key = ffi.from_buffer("uint8_t[]", keymat)
        result = lib.dp_sa_import(self.c, params.direction, c, key, len(keymat), selectors, len(selectors), carried, handle)
        check(result, f"importing the {params.direction.name.lower()} SA {spi_text(params.spi)}")
        return SaHandle(handle[0])

    # ---- many at once, in the little time that nobody forwards

    def install_waiting(self, params: SaParams, worker: int = 0) -> SaHandle:
        """`install`, without keying material: the SA neither seals nor opens (retired) before `go_on`."""
        c, handle, selectors = sa_params_of(params, worker), ffi.new("dp_sa_id *"), selectors_of(params.selectors)
        result = lib.dp_sa_install_waiting(self.c, params.direction, c, selectors, len(selectors), handle)
        check(result, f"installing the {params.direction.name.lower()} SA {spi_text(params.spi)}, which is to wait")
        return SaHandle(handle[0])

    def retire_many(self, handles: Sequence[SaHandle]) -> None:
        """`retire`, of all of them."""
        check(lib.dp_sa_retire_many(self.c, handles, len(handles)), "retiring SAs")

    def export_many(self, handles: Sequence[SaHandle]) -> bytearray:
        """These SAs whole, all of them retired by this, or none has left (DataPlaneError, as `export_sa`; EINVAL: one is named
        twice). A record of each for `go_on` of a process of the same `record_layout`; whoever has them wipes them."""
        ids, octets, records = ffi.new("dp_sa_id[]", handles), ffi.new("size_t *"), bytearray()
        check(lib.dp_sa_retire_many(self.c, ids, len(ids)), "retiring SAs")
        while True:  # how much they take first; a packet that one drops may make it more
            room = ffi.from_buffer("uint8_t[]", records)
            result = lib.dp_sa_export_many(self.c, ids, len(ids), room, len(records), octets)
            if result == 0:
                return records
            wipe(records)
            if result != -errno.ENOBUFS:
                check(result, "exporting SAs")
            records = bytearray(octets[0])

    def go_on(self, handles: Sequence[int], records: bytearray) -> dict[int, str]:
        """SAs that wait go on from these records, in their order (0: a record that is nobody's), while receiving is paused. The
        records are wiped. Which of them do not, by their place, and why: the core cannot take their state, or they do not wait.
        Raises DataPlaneError, and none does (EBUSY: devices are read; EINVAL: these are no records of so many SAs)."""
        errors = ffi.new("int32_t[]", len(handles))
        try:
            c = ffi.from_buffer("uint8_t[]", records)
            if check(lib.dp_sa_go_on_many(self.c, handles, len(handles), c, len(records), errors), "going on with SAs") == 0:
                return {}
        finally:
            wipe(records)
        return {place: os.strerror(-error) for place, error in enumerate(errors) if error}

    def claim_spi(self, spi: int) -> None:
        """An inbound SPI that was announced to a peer elsewhere: as if it had been allocated here. Raises DataPlaneError (EEXIST:
        its slot is taken)."""
        check(lib.dp_spi_claim(self.c, spi), f"claiming the SPI {spi_text(spi)}")

    # ---- devices

    def pause_receiving(self) -> None:
        """No device is read from now on, those attached later neither, and none is closed. `is_idle` says when that is so."""
        lib.dp_receive_pause(self.c)

    def is_idle(self) -> bool:
        """Whether receiving is paused, and all that was read before is sent, or waits for an SA."""
        return bool(lib.dp_receive_idle(self.c))

    def resume_receiving(self) -> None:
        """Devices are read again, with what came meanwhile. Raises DataPlaneError: one is not."""
        check(lib.dp_receive_resume(self.c), "reading devices again")

    # ---- what waits for an SA

    def export_kept(self) -> list[KeptPacket]:
        """Packets of tunnels that are coming up, and ESP that came before its SA; they wait on here too. While receiving is paused.
        Raises DataPlaneError (EBUSY)."""
        octets = ffi.new("size_t *")
        result = lib.dp_kept_export(self.c, ffi.NULL, 0, octets)
        if result == -errno.ENOBUFS:
            records = bytearray(octets[0])
            check(lib.dp_kept_export(self.c, ffi.from_buffer("uint8_t[]", records), len(records), octets), "copying what waits")
            return packets_of(records)
        check(result, "copying what waits")
        return []

    def import_kept(self, packet: KeptPacket, now: int) -> None:
        """It waits here from now on, since when it did, behind those that were imported before; the tunnel, the interface and the
        link are ours. It is wiped. While receiving is paused. Raises DataPlaneError (ENOSPC: no room, or it has waited too long;
        ENOENT: nobody expects its SPI; EINVAL; EBUSY)."""
        try:
            octets = ffi.from_buffer("uint8_t[]", packet.packet)
            check(lib.dp_kept_import(self.c, kept_of(packet), octets, now), f"taking {packet!r}")
        finally:
            packet.wipe()

    # ---- counters

    def export_traffic(self, tunnel: int) -> CarriedTraffic:
        """What SAs of a tunnel that are gone had carried."""
        c, drops = ffi.new("struct dp_tunnel_traffic *"), ffi.new("uint64_t[]", len(DROP_NAMES))
        check(lib.dp_tunnel_read(self.c, tunnel, ffi.NULL, 0, c, drops), "reading a tunnel")
        return traffic_of(c, drops)

    def import_traffic(self, tunnel: int, traffic: CarriedTraffic) -> None:
        """A tunnel goes on from what it had carried elsewhere."""
        c, drops = ffi.new("struct dp_tunnel_traffic *"), ffi.new("uint64_t[]", len(DROP_NAMES))
        set_traffic(c, drops, traffic)
        check(lib.dp_tunnel_import(self.c, tunnel, c, drops), "importing a tunnel")

    def export_counters(self) -> list[Counters]:
        """Of each worker; the first has what belongs to none."""
        found, c = [], ffi.new("struct dp_counters *")
        for worker in range(self.workers):
            check(lib.dp_counters_export(self.c, worker, c), "exporting counters")
            found.append(counters_of(c))
        return found

    def import_counters(self, counters: Sequence[Counters]) -> None:
        """Each worker goes on from what one of another data plane had counted. Before `start`."""
        c = ffi.new("struct dp_counters *")
        for worker, each in enumerate(counters):
            set_counters(c, each)
            check(lib.dp_counters_import(self.c, worker, c), "importing counters")

    # ---- flows

    def export_flows(self, now: int) -> CarriedFlows:
        """The workers of the flows that are under way at `now`, nanoseconds of the host's clock. While receiving is paused. Raises
        DataPlaneError (EBUSY)."""
        seed, octets, records = ffi.new("uint64_t *"), ffi.new("size_t *"), bytearray()
        result = lib.dp_flows_export(self.c, now, seed, ffi.NULL, 0, octets)
        if result == -errno.ENOBUFS:
            records = bytearray(octets[0])
            result = lib.dp_flows_export(self.c, now, seed, ffi.from_buffer("uint8_t[]", records), len(records), octets)
        check(result, "exporting flows")
        return CarriedFlows(seed[0], bytes(records))

    def import_flows(self, flows: CarriedFlows) -> None:
        """They keep to their workers, where these are as many and tunnels have the numbers that they had. Before `start`. Raises
        DataPlaneError (EINVAL)."""
        records = ffi.from_buffer("uint8_t[]", flows.records)
        check(lib.dp_flows_import(self.c, flows.seed, records, len(records)), "importing flows")
