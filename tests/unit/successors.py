"""A gateway of the rig whose SAs go on in another one: what the tests of that share."""

from __future__ import annotations

import msgspec

from ipsec_dp.databases.carried_sas import records_of
from ipsec_dp.dataplane import Direction, SaParams
from ipsec_dp.rig.plane import OUTER, PlaneRig, selectors_of
from tests.unit.sites import to_b

PACKET = to_b(bytes(72))  # 100 octets
OTHER = {"a": "b", "b": "a"}


def params_of(record, **changes):
    """What the keying side would install an SA with anew; the keying material comes with its state."""
    values = {
        "direction": record.direction,
        "spi": record.spi,
        "suite": record.suite,
        "keymat": b"",
        "tunnel": record.tunnel,
        "limits": record.limits,
        "selectors": record.selectors,
        "path": record.path,
    }
    if record.direction is Direction.INBOUND:
        values |= {"interface": 0, "replay_window": record.replay_window}
    return SaParams(**values | changes)


def over_the_wire(value):
    """As it is when it was written and read."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))


def succeed(site, name):
    """Gateway "a" or "b" hands everything over to a successor, which takes its place. The one before it, stopped."""
    before = getattr(site, name)
    after = PlaneRig(name, OUTER[4][name], clock=site.clock, encapsulation=before.encapsulation)
    after.protect(selectors_of(name))
    records, child = list(before.sad.records.values()), site.children[name]
    new_child = after.sad.add_child(0, child.selectors)
    ours = {}
    with after.sad.awaiting():
        for record in records:
            ours[record.handle] = handle = after.sad.install(params_of(record))
            if record.handle == child.inbound:
                after.sad.receive_by(new_child, handle)
            if record.handle == child.outbound:
                after.sad.switch(new_child, handle)
    after.plane.pause_receiving()
    assert after.sad.import_all(records_of(over_the_wire(before.sad.export())), ours) == ((), (), ())
    after.plane.resume_receiving()
    setattr(site, name, after)
    site.children[name] = new_child
    return before


def send(gateway, count=1):
    gateway.push(*[PACKET] * count)
    gateway.step()
    return gateway.sent()


def number_of(datagram):
    return int.from_bytes(datagram.data[:8])  # SPI and sequence number


def iv_of(datagram):
    return int.from_bytes(datagram.data[:4] + datagram.data[8:16])  # SPI and IV


def replica(site, name, state):
    """Another gateway that has this SA of "a" or "b"."""
    rig = PlaneRig(name, OUTER[4][name], clock=site.clock, encapsulation=site.a.encapsulation)
    rig.protect(selectors_of(name))
    record = next(r for r in getattr(site, name).sad.records.values() if (r.direction, r.spi) == (state.direction, state.spi))
    handle = rig.plane.import_sa(params_of(record), over_the_wire(state))
    if record.direction is Direction.OUTBOUND:
        rig.sad.switch(rig.sad.add_child(0, record.selectors or selectors_of(name)), None)
        rig.plane.switch(0, 1, handle)
    return rig
