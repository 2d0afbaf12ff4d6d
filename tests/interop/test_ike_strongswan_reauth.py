"""With strongSwan: authenticating anew by either side, and IKE on port 4500 from our first message.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import pytest

from ipsec_dp.rig import capture, netns
from tests.interop.stream import Stream
from tests.interop.strongswan_meeting import PINGS, ROLES, TUNNEL, Net, crossed, ping

pytestmark = pytest.mark.root

BOTH_VERSIONS = tuple(zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True))
EACH = tuple(Net(f"net{number}", *proxy_id) for number, proxy_id in enumerate(BOTH_VERSIONS))
# It authenticates anew after two seconds, and needs no margin to do so.
THEIRS = "reauth_time = 2s\n rekey_time = 0\n over_time = 10s\n rand_time = 0"
MAKE_BEFORE_BREAK = "charon { make_before_break = yes }\n"
BETWEEN_SAS = 0.5  # of a stream that must come back where the peer breaks before it makes


def anew(meeting, count=2):
    """Waits until another IKE SA has taken the place of the one before, so many times."""
    for _ in range(count):
        before = meeting.ike_spis()
        meeting.eventually(
            lambda before=before: meeting.is_up() and meeting.has_another_ike_sa(before), "another IKE SA", seconds=15
        )
    assert "IKE SA rekeyed" not in meeting.ours.text()


@pytest.mark.parametrize("unique", ["replace", "keep"])
def test_we_authenticate_anew(meet, unique):
    meeting = meet(our_ike='reauth_after = "2s"', unique=unique)
    meeting.bring_up("we")
    with Stream(meeting, early=True):
        anew(meeting)
    assert meeting.tunnel()["ike"]["role"] == "initiator"
    assert meeting.tunnel()["last_error"] is None


@pytest.mark.parametrize("unique", ["replace", "keep"])
def test_the_peer_makes_before_it_breaks(meet, unique):
    meeting = meet(their_connection=THEIRS, strongswan_conf=MAKE_BEFORE_BREAK, unique=unique)
    meeting.bring_up("they")
    with Stream(meeting):
        anew(meeting)
    meeting.assert_carries()


def test_the_peer_breaks_before_it_makes(meet):
    """Between the two there is no SA: what comes then is held, or lost where more comes than can be."""
    meeting = meet(their_connection=THEIRS.replace("2s", "5s"), start="on-demand")  # time to look, before it breaks again
    meeting.bring_up("they")
    with Stream(meeting, delivered=BETWEEN_SAS, early=True):  # both may begin
        anew(meeting, count=1)
    meeting.eventually(meeting.is_up, "one IKE SA on which both agree")
    meeting.assert_carries()


def test_every_child_sa_is_made_anew(meet):
    """The peer takes one pair of selectors in an exchange: there are as many CHILD_SAs afterwards as before."""
    meeting = meet(our_ike='reauth_after = "3s"', proxy_ids=BOTH_VERSIONS, nets=EACH, start="start")
    meeting.eventually(lambda: len(meeting.children()) == 2 and meeting.is_up(), "two CHILD_SAs")
    with Stream(meeting, early=True):
        anew(meeting, count=1)
        meeting.eventually(lambda: len(meeting.children()) == 2 and meeting.is_up(), "two CHILD_SAs again")
    for host in netns.HOST_B:
        assert ping(meeting.sites.host_a, host), meeting.both_logs()


@pytest.mark.parametrize("start", ["on-demand", "respond"])
def test_initiate_brings_up_every_proxy_id(meet, start):
    """Not only the one that the peer takes in IKE_AUTH."""
    meeting = meet(proxy_ids=BOTH_VERSIONS, nets=EACH, start=start)
    meeting.ours.ask("initiate", name=TUNNEL)
    meeting.eventually(lambda: len(meeting.children()) == 2 and meeting.is_up(), "two CHILD_SAs")
    meeting.assert_carries(4)
    meeting.assert_carries(6)


# Of one pair of prefixes: one service, and the echo of ICMP.
SERVICE = (
    Net("udp", f"{netns.SITE_A_NETS[0]}[udp]", f"{netns.SITE_B_NETS[0]}[udp/7000]"),
    Net("icmp", f"{netns.SITE_A_NETS[0]}[icmp]", f"{netns.SITE_B_NETS[0]}[icmp]"),
)
DATAGRAMS = 7
TALK = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({DATAGRAMS}):
    s.sendto(b"x", ("{netns.HOST_B[0]}", 7000))
"""


def test_each_packet_takes_the_child_sa_of_its_protocol_and_port(meet):
    """Two CHILD_SAs of the same prefixes: what goes out by each, and not by the other."""
    prefixes = (BOTH_VERSIONS[0], BOTH_VERSIONS[0])
    lines = ('protocol = "udp"\n  remote_ports = 7000', 'protocol = "icmp"')
    meeting = meet(proxy_ids=prefixes, proxy_lines=lines, nets=SERVICE)
    meeting.ours.ask("initiate", name=TUNNEL)
    meeting.eventually(lambda: len(meeting.children()) == 2 and meeting.is_up(), "two CHILD_SAs")

    def sent():
        return {child["remote_ts"][0]: child["packets_out"] for child in meeting.children()}

    udp, icmp = sorted(sent(), key=lambda text: "7000" not in text)
    assert sent() == {udp: 0, icmp: 0}
    meeting.sites.host_a.run("python3", "-c", TALK)
    meeting.eventually(lambda: sent() == {udp: DATAGRAMS, icmp: 0}, "the datagrams have gone by the service's CHILD_SA")
    assert ping(meeting.sites.host_a, netns.HOST_B[0]), meeting.both_logs()
    assert sent() == {udp: DATAGRAMS, icmp: PINGS}


@pytest.mark.parametrize("role", ROLES)
def test_on_port_4500_from_our_first_message(meet, tmp_path, role):
    """`role` is who ends it: a DELETE of the peer finds us there too."""
    meeting = meet(our_ike="port = 4500")
    packets = crossed(meeting, tmp_path / "wan.pcapng", lambda: meeting.bring_up("we"))
    ports = {int.from_bytes(packet[at : at + 2], "big") for packet in packets if capture.kind(packet) == "ike" for at in (20, 22)}
    assert ports == {4500}
    meeting.assert_carries()
    if role == "we":
        meeting.ours.ask("terminate", name=TUNNEL)
    else:
        meeting.theirs.terminate(ike="gw")
    meeting.eventually(meeting.down, "nothing is left")
