"""ML-KEM in additional key exchanges of an IKE SA, with a strongSwan that has it (RFC 9242, RFC 9370).

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import pytest

from tests.interop.strongswan_meeting import ROLES, TUNNEL
from tests.interop.strongswan_versions import NEWER, usr_of
from tests.interop.test_ike_strongswan_rekey import rekey

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

WITHOUT = "aes128gcm16-prfsha256-x25519"
ADDED = f"{WITHOUT}-ke1_mlkem768"
OPTIONAL = f"{ADDED}-ke1_none"
LARGER = "aes256-sha384-prfsha384-ecp384-ke1_mlkem1024"
TWO = f"{LARGER}-ke2_ecp256"


def agreed(meeting):
    return meeting.tunnel()["ike"]["proposal"]


@pytest.mark.parametrize(
    ("ours", "theirs", "found", "further"),
    [
        (LARGER, LARGER, LARGER, ""),
        (TWO, TWO, TWO, "fragmentation = no"),
        (OPTIONAL, ADDED, ADDED, ""),
        (OPTIONAL, WITHOUT, WITHOUT, ""),
        (WITHOUT, OPTIONAL, WITHOUT, ""),
    ],
    ids=["ecp384 and mlkem1024", "two rounds in one datagram each", "taken", "refused", "refused by us"],
)
def test_both_agree_whoever_begins(meet, ours, theirs, found, further):
    meeting = meet(ike=ours, their_ike=theirs, usr=usr_of(NEWER), their_connection=further)
    for role in ROLES:
        meeting.bring_up(role)
        assert agreed(meeting) == found
        meeting.assert_carries()
        meeting.ours.ask("terminate", name=TUNNEL)
        meeting.eventually(meeting.down, "neither has an SA")


@pytest.mark.parametrize("role", ROLES)
def test_new_keys_of_the_ike_sa_are_those_of_another_with_the_same(meet, role):
    """Whoever asks for a rekey, in either role: it would have no additional key exchange."""
    meeting = meet(ike=ADDED, usr=usr_of(NEWER), start="on-demand")
    meeting.bring_up(role)
    for asks in ROLES:
        before = meeting.ike_spis()
        rekey(meeting, asks, ike=True)
        anew = f"another IKE SA, asked for by {asks}"
        meeting.eventually(lambda before=before: meeting.has_another_ike_sa(before) and meeting.is_up(), anew)
        assert agreed(meeting) == ADDED
        meeting.assert_carries()
