"""What falls due while an IKE SA is on its way from one process to the next goes on there: at once, once, and to its end."""

from __future__ import annotations

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import Life, Liveness
from ipsec_dp.ike.v1.wire import ExchangeMode
from ipsec_dp.ike.v2.wire import ExchangeType
from tests.ike.carried.carrying import check, exported, taken
from tests.ike.ladder import Ladder, peer
from tests.ike.v1.gateways import Gateways
from tests.ike.v1.gateways import peer as peer_v1

ON_ITS_WAY_S = 1.0  # nobody looks at a timer
STEP_S = 5.0
AFTER_S = 12.0  # a request without an answer would have been sent again
EXCHANGE = 18  # its octet in a header
CREATE_CHILD_SA, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL
DUE = {
    # what falls due: what the site is configured with, the exchange, what is reported of it
    "a rekey of the CHILD_SA": ({"child_life": Life(25.0)}, CREATE_CHILD_SA, Kind.CHILD_REKEYED),
    "a rekey of the IKE SA": ({"ike_life": Life(90.0)}, CREATE_CHILD_SA, Kind.IKE_REKEYED),
    "a liveness check": ({"liveness": Liveness(30.0, 3)}, INFORMATIONAL, None),
}
DUE_V1 = {
    "a new pair of IPsec SAs": ({"child_life": Life(40.0)}, ExchangeMode.QUICK, Kind.CHILD_REKEYED),
    "R-U-THERE": ({"liveness": Liveness(30.0, 3)}, ExchangeMode.INFORMATIONAL, None),
}
OF_THE_OTHER = ("a new pair of IPsec SAs", "b")  # who hears of the responder's lifetime (RFC 2407 §4.6.3.1)
CASES = [
    pytest.param(make, of, *row, site, id=f"{name} of {site}")
    for make, of, rows in ((Ladder, peer, DUE), (Gateways, peer_v1, DUE_V1))
    for name, row in rows.items()
    for site in ("a", "b")
    if (name, site) != OF_THE_OTHER
]


def up(make, of, site, changes):
    """A ladder that is up, on which nothing falls due but at `site`."""
    ladder = make(*([of(name, **(changes if name == site else {}))] for name in "ab"))
    ladder.initiate("a")
    ladder.settle()
    return ladder


def sent(ladder, site, since):
    """The exchanges of what a site sent since then."""
    return [one.data[0][EXCHANGE] for one, _ in ladder.wire.log[since:] if one.sender == site]


def life(ladder, site):
    """When the site first sends anything by itself, and what it has sent a while later."""
    before, times = len(ladder.wire.log), list[float]()

    def look():
        if not times and sent(ladder, site, before):
            times.append(ladder.clock())

    while not times:
        ladder.run(STEP_S, look)
    ladder.run(times[0] + AFTER_S - ladder.clock())
    return times[0], sent(ladder, site, before)


@pytest.mark.parametrize(("make", "of", "changes", "exchange", "kind", "site"), CASES)
def test_what_falls_due_on_the_way_is_begun_at_once_and_once(make, of, changes, exchange, kind, site):
    due, expected = life(up(make, of, site, changes), site)
    ladder = up(make, of, site, changes)
    before, carried = len(ladder.wire.log), ladder.sites[site]
    ladder.run(due - ON_ITS_WAY_S / 2 - ladder.clock())
    assert sent(ladder, site, before) == []
    found = exported(carried)
    ladder.clock.advance(ON_ITS_WAY_S)
    carried.core, imported = taken(carried, found.octets)
    check(carried, imported)
    carried.do(carried.core.timer(ladder.clock()))
    assert sent(ladder, site, before) == [exchange]
    ladder.run(AFTER_S)
    ladder.check()
    assert sent(ladder, site, before) == expected
    assert kind is None or carried.kinds().count(kind) == 1
    assert not {Kind.IKE_DOWN, Kind.IKE_FAILED, Kind.CHILD_FAILED} & set(carried.kinds())
