"""ML-KEM in additional key exchanges of IKE SAs and CHILD_SAs, with a strongSwan that has it (RFC 9242, RFC 9370).

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address

import pytest

from ipsec_dp.rig import capture, netns
from tests.interop.stream import Stream
from tests.interop.strongswan_meeting import ROLES, TUNNEL, Meeting, Net, crossed, ping
from tests.interop.strongswan_versions import NEWER, usr_of
from tests.interop.test_ike_strongswan_rekey import rekey, rekey_child, rekey_ike, settled

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

WITHOUT = "aes128gcm16-prfsha256-x25519"
ADDED = f"{WITHOUT}-ke1_mlkem768"
OPTIONAL = f"{ADDED}-ke1_none"
LARGER = "aes256-sha384-prfsha384-ecp384-ke1_mlkem1024"
TWO = f"{LARGER}-ke2_ecp256"
ESP = "aes128gcm16-x25519"
ESP_ONE = f"{ESP}-ke1_mlkem768"
ESP_TWO = f"{ESP}-ke1_mlkem1024-ke2_ecp256"


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


def test_a_peer_that_has_none_takes_the_second_proposal(meet):
    """Debian's strongSwan does not know the transform type, and passes that proposal over; in both roles."""
    meeting = meet(ike=f'{ADDED}", "{WITHOUT}', their_ike=WITHOUT)
    for role in ROLES:
        meeting.bring_up(role)
        assert agreed(meeting) == WITHOUT
        meeting.ours.ask("terminate", name=TUNNEL)
        meeting.eventually(meeting.down, "neither has an SA")


@pytest.mark.parametrize(("further", "initiators"), [("", ROLES), ("fragmentation = no", ROLES[:1])], ids=["fragments", "whole"])
def test_rekeys_of_both_kinds_by_either_side(meet, further, initiators):
    """Two additional key exchanges each, in either role of the IKE SA, under a stream."""
    meeting = meet(ike=TWO, esp=ESP_TWO, usr=usr_of(NEWER), their_connection=further)
    for initiator in initiators:
        meeting.bring_up(initiator)
        for role in ROLES:
            with Stream(meeting):
                rekey_child(meeting, role)
                rekey_ike(meeting, role)
            meeting.assert_carries()
        assert agreed(meeting) == TWO
        meeting.ours.ask("terminate", name=TUNNEL)
        meeting.eventually(meeting.down, "nothing is left")
    meeting.eventually(lambda: meeting.ours.text().count(f"{ESP_TWO}, 10.") == len(ROLES) * len(initiators), "each is told")


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [(f"{ESP_ONE}-ke1_none", ESP, ESP), (ESP, f"{ESP_ONE}-ke1_none", ESP)],
    ids=["refused", "refused by us"],
)
def test_a_child_sa_has_what_both_admit(meet, ours, theirs, found):
    meeting = meet(ike=ADDED, esp=ours, their_esp=theirs, usr=usr_of(NEWER))
    meeting.bring_up("we")
    for role in ROLES:
        rekey_child(meeting, role)
        meeting.assert_carries()
    meeting.eventually(lambda: meeting.ours.text().count(f"{found}, 10.") == len(ROLES), "each is told")


def test_further_child_sas_by_either_side(meet):
    """CREATE_CHILD_SA makes the second one."""
    pairs = tuple(zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True))
    nets = tuple(Net(f"net{number}", *pair) for number, pair in enumerate(pairs))
    meeting = meet(ike=ADDED, esp=ESP_ONE, usr=usr_of(NEWER), nets=nets, proxy_ids=pairs, start="on-demand")
    for role in ROLES:
        meeting.bring_up(role)
        if role == "we":
            assert ping(meeting.sites.host_a, netns.HOST_B[1]), meeting.both_logs()
        meeting.eventually(lambda: len(meeting.children()) == len(pairs) and meeting.is_up(), "a CHILD_SA for each proxy ID")
        meeting.assert_carries(6)
        meeting.ours.ask("terminate", name=TUNNEL)
        meeting.eventually(meeting.down, "nothing is left")
    meeting.eventually(lambda: meeting.ours.text().count(f"{ESP_ONE}, fd") == len(ROLES), "each is told")


def test_both_sides_rekey_at_once(meet):
    meeting = meet(ike=ADDED, esp=ESP_ONE, usr=usr_of(NEWER))
    meeting.bring_up("we")
    for ike in (False, True):
        with Stream(meeting):
            for role in ROLES:
                rekey(meeting, role, ike=ike)
            meeting.eventually(lambda: settled(meeting), "one of the two stands")
        meeting.assert_carries()


LONG = 1000  # octets
LONG_ONES_ARE_LOST = (
    "add table inet hole; add chain inet hole in { type filter hook prerouting priority -300; }; "
    f"add rule inet hole in meta l4proto udp meta length > {LONG} drop"
)


def ours_of_ike(packets):
    """Octets of each IKE message of ours."""
    ours = ip_address(netns.GW_A_OUTER[0]).packed
    return [len(packet) for packet in packets if capture.kind(packet) == "ike" and packet[12:16] == ours]


def test_a_path_that_loses_what_is_long_lets_our_smaller_fragments_pass(meet, tmp_path):
    """On the way there: the request that was repeated as it was goes in fragments of 576 octets. strongSwan answers in longer ones,
    so it may only have been slow; the second time this is believed, and what follows is short at once."""
    meeting = meet(ike=ADDED, esp=ESP_ONE, usr=usr_of(NEWER))
    gateway = meeting.sites.gw_b
    gateway.run("nft", LONG_ONES_ARE_LOST)
    try:
        for number, what in enumerate((Meeting.bring_up, rekey_ike), 1):
            sent = ours_of_ike(crossed(meeting, tmp_path / f"{number}.pcapng", partial(what, meeting, "we")))
            assert max(sent) > LONG, "it begins as if nothing were lost"
            assert meeting.tunnel()["retransmissions"] >= 2 * number
        sent = ours_of_ike(crossed(meeting, tmp_path / "short.pcapng", partial(rekey_child, meeting, "we")))
        assert 0 < max(sent) <= LONG
    finally:
        gateway.run("nft", "delete table inet hole")
    meeting.assert_carries()
