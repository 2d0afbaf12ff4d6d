"""300 proxy IDs with a strongSwan that takes one pair of selectors in an exchange: all up, all rekeyed in time, all up anew.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import pytest

from ipsec_dp.rig import netns
from tests.interop.strongswan_meeting import Net

pytestmark = [pytest.mark.root, pytest.mark.slow]

COUNT = 300
LIFE_S, REAUTH_S = 60, 75  # rekeyed from 48 s on; at 300 by then
PROXY_IDS = tuple((f"10.{64 + n // 250}.{n % 250}.0/24", netns.SITE_B_NETS[0]) for n in range(COUNT))
NETS = tuple(Net(f"net{number}", *proxy_id) for number, proxy_id in enumerate(PROXY_IDS))


def test_300_proxy_ids_come_up_are_rekeyed_and_authenticated_anew(meet):
    meeting = meet(
        proxy_ids=PROXY_IDS,
        nets=NETS,
        start="start",
        our_esp=f'lifetime = "{LIFE_S}s"',
        our_ike=f'reauth_after = "{REAUTH_S}s"',
    )

    def whole() -> bool:
        tunnel = meeting.tunnel()
        return tunnel["state"] in ("up", "rekeying") and len({tuple(child["local_ts"]) for child in tunnel["children"]}) == COUNT

    meeting.eventually(whole, "300 up", seconds=LIFE_S / 2)
    assert len(meeting.theirs.children()) == COUNT
    first, spis = meeting.ike_spis(), meeting.spis()
    meeting.eventually(lambda: whole() and not spis & meeting.spis(), "300 rekeyed", seconds=LIFE_S * 1.5)
    meeting.eventually(lambda: whole() and meeting.has_another_ike_sa(first), "300 on a new IKE SA", seconds=REAUTH_S * 1.5)
    meeting.eventually(lambda: meeting.spis() == meeting.their_spis(), "the same on both sides", seconds=60)
    assert len(meeting.spis()) == COUNT
    log = meeting.ours.text()
    assert log.count("CHILD_SA rekeyed [") >= COUNT
    for never in ("reached its hard limit", "CHILD_SA down", "CHILD_SA failed", "Traceback"):
        assert never not in log, never
    assert meeting.tunnel()["last_error"] is None
