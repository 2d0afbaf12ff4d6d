"""New keys with strongSwan: asked for by either side, by time, packets and octets, and by both sides at once; we lose nothing.

hostA -- gwA (ours) == gwB (charon) -- hostB

strongSwan's userspace ESP takes an outbound SA away before the next one is there: what it loses then never comes to us as ESP, so a
stream is counted on both sides of our gateway.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.interop.stream import Stream
from tests.interop.strongswan_meeting import ROLES, TUNNEL, Meeting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import Namespace

pytestmark = pytest.mark.root

RETRANSMIT_SOON = "charon { retransmit_timeout = 0.3 }\n"
# A message of IKE begins with the non-ESP marker, four zero octets behind the header of UDP (RFC 3948 §2.2).
NOT_IKE = "table inet unheard { chain c { type filter hook input priority 0; udp dport 4500 @th,64,32 0 drop; }; }"


def rekey(meeting: Meeting, role: str, *, ike: bool) -> None:
    if role == "we":
        meeting.ours.ask("rekey", name=TUNNEL, ike=ike)
    else:
        meeting.theirs.rekey(**({"ike": "gw"} if ike else {"child": "net"}))


def settled(meeting: Meeting) -> bool:
    """Both agree, and nothing of what was replaced is left."""
    return meeting.is_up() and len(meeting.children()) == 1


def rekey_child(meeting: Meeting, role: str) -> None:
    spis, ike = meeting.spis(), meeting.ike_spis()
    rekey(meeting, role, ike=False)
    meeting.eventually(lambda: settled(meeting) and not meeting.spis() & spis, f"a new CHILD_SA, asked for by {role}")
    assert meeting.ike_spis() == ike


def rekey_ike(meeting: Meeting, role: str) -> None:
    spis, ike = meeting.spis(), meeting.ike_spis()
    rekey(meeting, role, ike=True)
    meeting.eventually(lambda: settled(meeting) and meeting.has_another_ike_sa(ike), f"a new IKE SA, asked for by {role}")
    assert meeting.spis() == spis


@pytest.mark.parametrize("pfs", ["", "-x25519"])
def test_a_rekey_asked_for_by_either_side(meet, pfs):
    """Both kinds by both sides, in either role of the IKE SA, under a stream."""
    meeting = meet(esp=f"aes128gcm16{pfs}")
    for initiator in ROLES:
        meeting.bring_up(initiator)
        for role in ROLES:
            with Stream(meeting):
                rekey_child(meeting, role)
                rekey_ike(meeting, role)
            meeting.assert_carries()
        meeting.ours.ask("terminate", name=TUNNEL)
        meeting.eventually(meeting.down, "nothing is left")


def rekeys(meeting: Meeting, what: str, count: int) -> None:
    """Waits for so many rekeys, by our log, then for both to agree."""
    start = meeting.ours.text().count(what)
    meeting.eventually(lambda: meeting.ours.text().count(what) - start >= count, f"{count} times {what}", seconds=15)
    meeting.eventually(lambda: settled(meeting), "one CHILD_SA on which both agree")


# Whose limit it is, ours and theirs. strongSwan rekeys at rekey_time, give or take rand_time.
TIMES = {
    "ours": ('lifetime = "6s"', 'lifetime = "5s"', "", "rekey_time = 1h"),
    "theirs": ("", "", "rekey_time = 2s\n over_time = 10s\n rand_time = 0", "rekey_time = 1s\n life_time = 10s\n rand_time = 0"),
}


@pytest.mark.parametrize("whose", TIMES)
def test_time(meet, whose):
    our_ike, our_esp, their_connection, their_child = TIMES[whose]
    meeting = meet(our_ike=our_ike, our_esp=our_esp, their_connection=their_connection, their_child=their_child)
    meeting.bring_up("we")
    with Stream(meeting):
        rekeys(meeting, "CHILD_SA rekeyed", 1)
        meeting.eventually(lambda: "IKE SA rekeyed" in meeting.ours.text(), "a rekeyed IKE SA")
        meeting.eventually(lambda: settled(meeting), "one CHILD_SA on which both agree")


# Limits of ours, and of theirs.
AMOUNTS = {
    "our packets": ("life_packets = 200", "rekey_time = 1h"),
    "our octets": ("life_octets = 20000", "rekey_time = 1h"),
    "their packets": ("", "rekey_packets = 100\n life_packets = 200\n rand_packets = 0"),
    "their octets": ("", "rekey_bytes = 10000\n life_bytes = 20000\n rand_bytes = 0"),
    "packets of both": ("life_packets = 122", "rekey_packets = 100\n life_packets = 200\n rand_packets = 0"),
}


@pytest.mark.parametrize("whose", AMOUNTS)
def test_amounts(meet, whose):
    our_esp, their_child = AMOUNTS[whose]
    meeting = meet(our_esp=our_esp, their_child=their_child)
    meeting.bring_up("we")
    with Stream(meeting):
        rekeys(meeting, "CHILD_SA rekeyed", 3)


@contextmanager
def unheard(gateway: Namespace) -> Iterator[None]:
    """No message of IKE reaches this gateway on port 4500; ESP does."""
    gateway.run("nft", "-f", "-", stdin=NOT_IKE)
    try:
        yield
    finally:
        gateway.run("nft", "delete", "table", "inet", "unheard")


@pytest.mark.parametrize("first", ROLES)
@pytest.mark.parametrize("ike", [False, True], ids=["CHILD_SA", "IKE SA"])
def test_simultaneous_rekeys_end_in_one(meet, ike, first):
    """RFC 7296 §2.8.1, §2.8.2: both requests are on their way before either arrives, at `first` first."""
    meeting = meet(strongswan_conf=RETRANSMIT_SOON)
    meeting.bring_up("we")
    before = meeting.spis(), meeting.ike_spis()
    gateways = (meeting.sites.gw_a, meeting.sites.gw_b)
    later, sooner = gateways if first == "they" else reversed(gateways)
    with Stream(meeting):
        with unheard(later):
            with unheard(sooner):
                for role in ROLES:
                    rekey(meeting, role, ike=ike)
                meeting.eventually(lambda: "generating CREATE_CHILD_SA request" in meeting.theirs.text(), "the peer has asked")
            if first == "they":
                meeting.eventually(lambda: "parsed CREATE_CHILD_SA request" in meeting.theirs.text(), "the peer hears us")
            else:
                again = meeting.theirs.text().count("retransmit")
                meeting.eventually(lambda: meeting.theirs.text().count("retransmit") > again, "the peer asks us again")
        meeting.eventually(
            lambda: settled(meeting) and (meeting.has_another_ike_sa(before[1]) if ike else not meeting.spis() & before[0]),
            "one new SA on which both agree",
        )
    if first == "they":
        assert "collision" in meeting.theirs.text(), meeting.both_logs()
    meeting.assert_carries()
