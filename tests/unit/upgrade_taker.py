"""The process that takes IKE in the measurement of ten thousand tunnels: `python -m tests.unit.upgrade_taker DESCRIPTOR COUNT
DIRECTORY`. Its SAs are there and wait to be adopted; when it has all it says so, with the processor time that it took."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

from ipsec_dp.dataplane import Direction, OuterPath, SaParams
from ipsec_dp.gateway.upgrade.messages import Forwards, GivenState, GoesOn, MessageKind, body_of
from ipsec_dp.gateway.upgrade.stream import HandOverChannel
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.carried.carry import export_ike, import_ike
from ipsec_dp.keying.child_installer import IkeChildren, outer_endpoint
from ipsec_dp.rig.plane import PlaneRig
from ipsec_dp.util.collection import no_full_collection
from tests.ike.carried.carrying import as_core, fresh
from tests.ike.carried.crowds import crowd, keys
from tests.unit.carried_drivers import taker

MS = 1000.0
PATIENCE_S = 600.0  # while the other process makes its tunnels


def installs() -> list[Any]:
    """What IKE says of the SAs of one tunnel."""
    site = crowd(1)
    octets = export_ike(as_core(site.core), site.clock(), keys).octets
    return import_ike(as_core(fresh(site)), octets, site.clock()).actions


def stand(rig: PlaneRig, count: int) -> None:
    """The SAs of so many tunnels, which wait."""
    inbound, outbound, *_ = installs()
    assert isinstance(inbound, act.InstallInbound)
    local, remote = (outer_endpoint(end, udp=inbound.udp) for end in (inbound.path.local, inbound.path.remote))
    path = OuterPath(local, remote, rig.encapsulation, rig.link)
    common: dict[str, Any] = {"suite": inbound.suite, "keymat": b""}
    with rig.sad.awaiting():
        for number in range(count):
            one = SaParams(
                direction=Direction.INBOUND,
                spi=inbound.spi + number,
                tunnel=number,
                interface=0,
                selectors=inbound.selectors,
                replay_window=inbound.replay_window,
                **common,
            )
            two = SaParams(direction=Direction.OUTBOUND, spi=outbound.spi + number, tunnel=number, path=path, **common)
            receives, sends = rig.sad.install(one), rig.sad.install(two)
            rig.sad.switch(rig.sad.add_child(number, inbound.selectors), sends, receives)


def main(descriptor: int, count: int, directory: Path) -> None:
    channel, names = HandOverChannel(socket.socket(fileno=descriptor)), {f"t{number}": number for number in range(count)}
    with PlaneRig("a", "192.0.2.1", sa_slots=65536, tunnels=count + 1) as rig:
        stand(rig, count)
        children = IkeChildren(rig.sad, lambda *_: rig.link, names, dict.fromkeys(names, 0))
        to = taker(channel, directory, count, children=children, sad=rig.sad)
        channel.send(MessageKind.FORWARDS, body_of(Forwards(len(rig.sad.records))), seconds=60.0)
        channel.wait(PATIENCE_S)
        began = time.process_time()
        with no_full_collection(), rig.sad.adopting() as unowned:
            left_out = to.successor.take_ike(to.engine, to.successor.heard(GivenState))
            to.engine.ike.begin_anew()
        took = time.process_time() - began
        assert not rig.sad.end_unowned(unowned, ())
        sessions = to.engine.core.counters().sessions
        said = GoesOn(gap_ms=took * MS, ike_sas=sessions, child_sas=len(rig.sad.children), left_out=left_out)
        channel.send(MessageKind.GOES_ON, body_of(said), seconds=60.0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
