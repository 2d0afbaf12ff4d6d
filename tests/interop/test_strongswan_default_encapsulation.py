"""ESP in UDP with strongSwan where nobody has written anything about it, whoever calls, by both versions of IKE.

hostA -- gwA (ours) == gwB (charon) -- hostB

Its userspace ESP exists in UDP only, so that it forces it too, by a random hash: we see a NAT before it, as it sees one before us.
"""

from __future__ import annotations

import pytest

from tests.interop.ikev1_meeting import AGREED
from tests.interop.strongswan_meeting import ROLES

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

BY = {"IKEv2": {}, "IKEv1": AGREED}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("by", BY)
def test_it_carries_and_says_why(meet, by, role):
    meeting = meet(**BY[by], forced=False)
    meeting.bring_up(role)
    meeting.assert_carries()
    ours = meeting.tunnel()
    assert (ours["encapsulation"], ours["encapsulation_why"], ours["nat"]) == ("udp", "nat", "remote")
    ((_, theirs),) = meeting.theirs.list_sas()
    assert theirs["nat-remote"] == "yes", "of a NAT before us nobody here knows"
    assert theirs.get("nat-local", "no") == "no"
