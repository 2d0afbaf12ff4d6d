"""The SAs of a gateway on their way to its successor: told before, and then all at once."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.databases.carried_sas import CarriedSad, KeysElsewhere, records_of
from ipsec_dp.dataplane.carried import CarriedFlows, EndpointValue
from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.upgrade.messages import GivenIke, GivenSas, GivenState, LeftBehind, MessageKind, body_of
from ipsec_dp.gateway.upgrade.settling import without
from ipsec_dp.gateway.upgrade.waiting import waiting_in
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.faults import unexpected
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.databases.carried_sas import CarriedRecords
    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.sad_shape import StandingSad, ToldSad
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.gateway.composition import Composition, Engine
    from ipsec_dp.gateway.upgrade.waiting import WaitingPacket
    from ipsec_dp.network.inheritance import InheritedHost

log = logging.getLogger(__name__)

EXPORT_S: Final = 2.0
NS_PER_S: Final = 1e9


def exported(engine: Engine, spd: Spd, known: ToldSad, layout: bytes, stopped: int, now: float) -> bytearray:
    """GivenSas, for a program of this `layout`; `now`: seconds of the host's clock. No way back: what is exported here is retired,
    and packets that wait are sealed there alone. Raises DataPlaneError."""
    sad, same = engine.sad, layout == record_layout()
    shape, counters = known.news(), without("counters", engine.plane.export_counters) or []
    flows = without("flows", partial(engine.plane.export_flows, round(now * NS_PER_S))) or CarriedFlows(0, b"")
    expected = [(spi, EndpointValue.of(peer)) for spi, peer in sad.expected.items()]
    carried: Any = _retired(sad.export_all if same else sad.export)
    which = {"records": carried} if same else {"sas": carried}
    with contextlib.ExitStack() as wiped:
        wiped.callback(carried.wipe)
        waiting = without("packets", partial(waiting_in, engine.plane, spd)) or []
        sas = GivenSas(stopped=stopped, shape=shape, expected=expected, counters=counters, flows=flows, waiting=waiting, **which)
        wiped.callback(sas.wipe)
        return body_of(sas)


def _retired(export: Callable[[], CarriedSad | CarriedRecords]) -> CarriedSad | CarriedRecords:
    """Raises DataPlaneError."""
    deadline = time.monotonic() + EXPORT_S
    while True:
        try:
            return export()
        except DataPlaneError as error:
            if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                raise
            with contextlib.suppress(OSError):
                os.sched_yield()


def ike_exported(parts: Composition, engine: Engine, host: InheritedHost) -> Iterator[tuple[MessageKind, bytearray]]:
    """GivenState, and then one GivenIke after the other: the IKE SAs in it are retired by that."""
    leaving = engine.ike.export(engine.core, KeysElsewhere(engine.children.spis()))
    state = GivenState(
        pieces=leaving.number,
        intents=leaving.others,
        findings=engine.ike.export_findings(),
        traffic={name: engine.plane.export_traffic(number) for name, number in parts.spd.tunnel_numbers.items()},
        host=host,
        mtus=parts.mtus.export(),
        monitors=parts.monitors.export(),
        counts=parts.counts.export(),
    )
    yield MessageKind.STATE, body_of(state)
    for octets, intents in leaving.pieces:
        given = GivenIke(ike=octets, intents=intents)
        try:
            body = body_of(given)
        finally:
            given.wipe()
        yield MessageKind.IKE, body


def taken(sad: Sad, standing: StandingSad, sas: GivenSas, wait_on: Callable[[list[WaitingPacket]], None]) -> list[LeftBehind]:
    """All that came, while receiving is paused; it is wiped. `wait_on` comes last: ESP before its SA waits where its SPI is
    expected."""
    try:
        left_out = imported(sad, standing, sas)
        expect(sad, sas)
        wait_on(sas.waiting)
    finally:
        sas.wipe()
    return left_out


def imported(sad: Sad, standing: StandingSad, sas: GivenSas) -> list[LeftBehind]:
    """They go on, and those that cannot are gone: nothing waits for a key that never comes. Nothing is raised, for nobody else has
    them."""
    left_out: list[LeftBehind] = []
    try:
        left_out += [LeftBehind("", why) for why in standing.take(sas.shape)]
        left_out += _gone_on(sad, standing, sas)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with them, IKE negotiates anew
        why = error if isinstance(error, DataPlaneError) else unexpected("taking them", error)
        left_out.append(LeftBehind("", f"all SAs: {why}"))
    for handle in sad.waiting:
        sad.remove(handle)
    return left_out


def _gone_on(sad: Sad, standing: StandingSad, sas: GivenSas) -> list[LeftBehind]:
    records = sas.records if sas.sas is None else records_of(sas.sas)
    if records is None:
        raise DataPlaneError(errno.EINVAL, "none came")
    others = sad.import_all(records, standing.handles)
    if others.rest:
        count = len(others.rest)
        log.info("%d SAs were carried and belong to nobody: they have ended", count, extra=told("upgrade_rest", count=count))
    return [LeftBehind("", f"the SA {spi_text(spi)}: {why}") for spi, why in (*records.left_out, *others.refused)]


def expect(sad: Sad, sas: GivenSas) -> None:
    """What comes on SPIs that were named to peers waits for their SAs, which the IKE state has."""
    for spi, peer in sas.expected:
        with contextlib.suppress(
            DataPlaneError, ValueError, OverflowError
        ):  # then its exchange comes to nothing, and is begun anew
            sad.claim_spi(spi)
            sad.expect_spi(spi, peer.endpoint)
