"""IKEv1 with strongSwan: what stands in the way is explained on our side, whoever initiates; outer IPv6.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError
from tests.interop.ikev1_meeting import end
from tests.interop.strongswan_meeting import ROLES, TUNNEL, Meeting, Net, Psk

pytestmark = pytest.mark.root


def test_outer_ipv6(meet1):
    """Each in turn initiates, traffic goes both ways, and the other one deletes."""
    meeting = meet1(outer=(netns.GW_A_OUTER[1], netns.GW_B_OUTER[1]))
    for role, other in zip(ROLES, reversed(ROLES), strict=True):
        meeting.bring_up(role)
        meeting.assert_carries()
        end(meeting, other)


# We give up when message 5 was sent often enough, after some 80 s.
@pytest.mark.parametrize("role", [pytest.param("we", marks=pytest.mark.slow), "they"])
def test_another_secret(meet1, role):
    meeting = meet1(auth=Psk(theirs="another secret of thirty characters"))
    fail(meeting, role)
    said = "the shared keys or the identities differ" if role == "we" else "cannot be read: the shared keys differ"
    meeting.eventually(lambda: said in meeting.ours.text(), "it is explained", seconds=100)


def fail(meeting: Meeting, role: str) -> None:
    """Somebody begins, in vain."""
    if role == "we":
        meeting.ours.ask("initiate", name=TUNNEL)
    else:
        with pytest.raises(PeerError):
            meeting.theirs.initiate("net", seconds=3.0)


# The peer's own network of our side, who begins, what we say. strongSwan takes what lies within its own, and answers a part of it.
DIFFERENT = [
    ("10.9.0.0/24", "we", "the peer has other proxy IDs than ours, which are 10.1.0.0/24 <-> 10.2.0.0/24"),
    ("10.1.0.0/25", "we", "the peer's: 10.1.0.0/25 <-> 10.2.0.0/24; differs from 10.1.0.0/24 <-> 10.2.0.0/24 in local addresses"),
    ("10.1.0.0/16", "they", "differs from 10.1.0.0/24 <-> 10.2.0.0/24 in local addresses"),
]


@pytest.mark.parametrize(("net", "role", "said"), DIFFERENT)
def test_proxy_ids_that_differ(meet1, net, role, said):
    meeting = meet1(nets=(Net(ours=net),))
    fail(meeting, role)
    meeting.eventually(lambda: said in meeting.ours.text(), "it is explained")
    assert not meeting.children()


@pytest.mark.parametrize("role", ROLES)
def test_proposals_that_differ(meet1, role):
    meeting = meet1(their_ike="aes128-sha256-ecp256")
    fail(meeting, role)
    said = "NO-PROPOSAL-CHOSEN" if role == "we" else "differs: encryption (ours aes256, peer's aes128)"
    meeting.eventually(lambda: said in meeting.ours.text(), "it is explained", seconds=15)
