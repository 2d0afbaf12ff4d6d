"""The life of an IKEv1 tunnel with strongSwan: both phases renewed, deletes, several proxy IDs, either side killed and returned.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import pytest

from ipsec_dp.ike.v1.peerings import YOUNG
from ipsec_dp.rig import netns
from tests.interop.ikev1_meeting import DEAD_SECONDS, DIES, THEY_CALL, THEY_SEE, end, renew_phase_1, renew_phase_2
from tests.interop.stream import Stream
from tests.interop.strongswan_meeting import ROLES, Meeting, Net, is_answered
from tests.netns.traffic import until

pytestmark = pytest.mark.root

# --- renewal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("initiator", ROLES)
def test_both_phases_are_renewed_by_either_side(meet1, initiator):
    """Under a stream of which we lose nothing; phase 2 goes on as it is when phase 1 is renewed, and when the old one goes."""
    meeting = meet1(strongswan_conf="charon { delete_rekeyed = yes }\n")
    meeting.bring_up(initiator)
    other = "they" if initiator == "we" else "we"
    with Stream(meeting):
        for role in ROLES:
            renew_phase_2(meeting, role)
        renew_phase_1(meeting, initiator)
    meeting.eventually(lambda: meeting.tunnel()["ike"]["age_s"] > YOUNG, "an ISAKMP SA that is no longer young")
    old = meeting.ike_spis()
    with Stream(meeting):
        renew_phase_1(meeting, other)
        spis = meeting.spis()
        meeting.eventually(lambda: old not in their_ike_spis(meeting), "the old ISAKMP SA goes", seconds=40)
    assert meeting.spis() == spis
    meeting.assert_carries()


def their_ike_spis(meeting: Meeting) -> set[tuple[str, str]]:
    return {(str(sa["initiator-spi"]), str(sa["responder-spi"])) for _, sa in meeting.theirs.list_sas()}


# Whose limit it is, what is configured, and by what our log tells of the renewal.
LIMITS = {
    "phase 2, our seconds": ({"our_esp": 'rekey_after = "1s"\nlifetime = "20s"'}, "CHILD_SA rekeyed"),
    "phase 2, their seconds": ({"their_child": "rekey_time = 1s\n life_time = 20s\n rand_time = 0"}, "CHILD_SA rekeyed"),
    "phase 1, our seconds": ({"our_ike": 'rekey_after = "1s"\nlifetime = "20s"'}, "IKE SA rekeyed"),
    "phase 1, their seconds": ({"their_connection": "rekey_time = 1s\n over_time = 20s\n rand_time = 0"}, "IKE SA rekeyed"),
    "phase 2, our packets": ({"our_esp": "life_packets = 200"}, "CHILD_SA rekeyed"),
    "phase 2, our octets": ({"our_esp": "life_octets = 20000"}, "CHILD_SA rekeyed"),
    "phase 2, their packets": (
        {"their_child": "rekey_packets = 100\n life_packets = 200\n rand_packets = 0"},
        "CHILD_SA rekeyed",
    ),
    "phase 2, their octets": (
        {"their_child": "rekey_bytes = 10000\n life_bytes = 20000\n rand_bytes = 0"},
        "CHILD_SA rekeyed",
    ),
}


@pytest.mark.parametrize("whose", LIMITS)
def test_limits_renew(meet1, whose):
    limits, told = LIMITS[whose]
    meeting = meet1(**limits)
    meeting.bring_up("they" if "our" in whose else "we")
    with Stream(meeting):
        meeting.eventually(lambda: meeting.ours.text().count(told) >= 2, "two renewals", seconds=25)
    meeting.eventually(lambda: is_answered(meeting.sites.host_b, netns.HOST_A[0]), "it goes on")


# --- several proxy IDs, deletes --------------------------------------------------------------------------------------

PAIRS = tuple((f"10.1.0.{64 * number}/26", netns.SITE_B_NETS[0]) for number in range(3))
NETS = tuple(Net(f"net{number}", *pair) for number, pair in enumerate(PAIRS))


def carried(meeting: Meeting) -> list[str]:
    """Our side of each pair that is sent by."""
    return sorted(child["local_ts"][0] for child in meeting.children() if child["spi_out"])


@pytest.mark.parametrize("role", ROLES)
def test_three_proxy_ids(meet1, role):
    meeting = meet1(proxy_ids=PAIRS, nets=NETS)
    if role == "we":
        meeting.bring_up("we")
    else:
        for net in NETS:
            meeting.theirs.initiate(net.name)
    meeting.eventually(lambda: meeting.is_up() and len(meeting.spis()) == 3, "a pair of SAs for each")
    assert carried(meeting) == sorted(pair[0] for pair in PAIRS)
    meeting.assert_carries()


def test_a_reload_deletes_what_is_gone_and_asks_for_what_is_new(meet1):
    """By difference: the other pairs and phase 1 stay as they are."""
    meeting = meet1(proxy_ids=PAIRS, nets=NETS, start="start")
    meeting.eventually(lambda: meeting.is_up() and len(meeting.spis()) == 3, "a pair of SAs for each")
    before, ike = meeting.spis(), meeting.ike_spis()
    meeting.agree(proxy_ids=PAIRS[:2])
    meeting.eventually(lambda: len(meeting.spis()) == 2 and meeting.is_up(), "both have two")
    assert meeting.spis() < before
    meeting.assert_carries()
    meeting.agree(proxy_ids=PAIRS)
    meeting.eventually(lambda: len(meeting.spis()) == 3 and meeting.is_up(), "both have three again")
    assert (len(meeting.spis() & before), meeting.ike_spis(), carried(meeting)) == (2, ike, sorted(pair[0] for pair in PAIRS))
    meeting.assert_carries()


@pytest.mark.parametrize("role", ROLES)
def test_one_phase_2_ends_by_either_side(meet1, role):
    meeting = meet1()
    meeting.bring_up("we")
    if role == "they":
        meeting.theirs.terminate(child="net")
        meeting.eventually(lambda: not meeting.children(), "it is gone")
        until(lambda: "the peer deleted it" in meeting.ours.text(), "it is in the log")
    else:
        end(meeting, "we")


def test_on_demand(meet1):
    """A packet brings both phases up. strongSwan receives once it has read message 3, and loses what comes sooner."""
    meeting = meet1(start="on-demand")
    is_answered(meeting.sites.host_a, netns.HOST_B[0])
    meeting.eventually(meeting.is_up, "up")
    meeting.assert_carries()


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def they_return(meeting: Meeting) -> None:
    meeting.theirs.start()
    meeting.theirs.load(meeting.agreement.theirs())


def test_a_peer_that_was_killed_is_found_dead_and_called_again(meet1):
    meeting = meet1(our_ike=DIES, start="start")
    meeting.eventually(meeting.is_up, "up by itself")
    meeting.theirs.kill()
    meeting.eventually(lambda: "did not answer R-U-THERE" in meeting.ours.text(), "it is dead", DEAD_SECONDS)
    they_return(meeting)
    meeting.eventually(meeting.is_up, "up again", DEAD_SECONDS)
    meeting.assert_carries()


def test_a_peer_that_was_killed_calls_again_itself(meet1):
    """INITIAL-CONTACT: what we held of it goes."""
    meeting = meet1()
    meeting.bring_up("they")
    meeting.theirs.kill()
    they_return(meeting)
    meeting.bring_up("they")
    meeting.assert_carries()


def test_the_peer_finds_us_dead_and_calls_again(meet1):
    meeting = meet1(their_connection=THEY_SEE, their_child=THEY_CALL)
    meeting.bring_up("they")
    meeting.ours.kill()
    meeting.ours.start()
    meeting.ours.wait_up()
    meeting.eventually(meeting.is_up, "it asks, has no answer, and calls", DEAD_SECONDS)
    meeting.assert_carries()


@pytest.mark.parametrize("initiator", ROLES)
def test_we_are_killed_and_call_again(meet1, initiator):
    """INITIAL-CONTACT: what the peer holds of us goes, whoever had called before."""
    meeting = meet1()
    meeting.bring_up(initiator)
    before = meeting.spis()
    meeting.ours.kill()
    meeting.ours.start()
    meeting.ours.wait_up()
    meeting.bring_up("we")
    assert not meeting.spis() & before
    meeting.assert_carries()
