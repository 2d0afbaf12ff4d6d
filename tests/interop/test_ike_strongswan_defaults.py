"""Rekeys with strongSwan 5 and 6 where nobody has configured any proposal: whoever asks, ten in a row lose nothing here.

hostA -- gwA (ours) == gwB (charon) -- hostB

strongSwan up to 6.1.0 derives the keys of a rekeyed IKE SA by the PRF of the old one (against RFC 7296 §2.18): where a rekey
changed it, nobody understood anybody on the new IKE SA.
"""

from __future__ import annotations

import pytest

from tests.interop.stream import Stream
from tests.interop.strongswan_meeting import ROLES
from tests.interop.strongswan_versions import VERSIONS, usr_of
from tests.interop.test_ike_strongswan_rekey import rekey_child, rekey_ike

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

REKEYS = 10


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("initiator", ROLES)
@pytest.mark.parametrize("version", VERSIONS)
def test_ten_rekeys_of_each_kind(meet, version, initiator, role):
    meeting = meet(ike=None, esp=None, usr=usr_of(version))
    meeting.bring_up(initiator)
    before = meeting.tunnel()["ike"]["proposal"]
    with Stream(meeting):
        for _ in range(REKEYS):
            rekey_ike(meeting, role)
            assert meeting.tunnel()["ike"]["proposal"] == before
    with Stream(meeting):
        for _ in range(REKEYS):
            rekey_child(meeting, role)
    meeting.assert_carries()
