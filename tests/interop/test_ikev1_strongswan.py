"""IKEv1 with strongSwan: main mode and quick mode, whoever initiates and whoever ends it.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from ipsec_dp.ike.v1.peerings import YOUNG
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError
from tests.ike.pki import CA, OpenSsl
from tests.interop.stream import Stream
from tests.interop.strongswan_meeting import IDENTITIES, ROLES, TUNNEL, Certificates, Meeting, Net, Psk

pytestmark = pytest.mark.root

IKE, ESP = "aes256-sha256-ecp256", "aes128gcm16"
LIVENESS = 'liveness = { interval = "1s", retries = 1, action = "restart" }'
DEAD_SECONDS = 20.0

# (phase 1, phase 2, whether `legacy` must be written); groups 14, 19, 20 and 2 are among them, PFS with each kind of group.
SUITES = {
    "aes128, sha1, group 14; gcm": ("aes128-sha1-modp2048", "aes128gcm16", False),
    "aes256, sha256, group 19; gcm with PFS": ("aes256-sha256-ecp256", "aes256gcm16-ecp256", False),
    "aes256, sha384, group 20; cbc and sha256": ("aes256-sha384-ecp384", "aes256-sha256", False),
    "aes128, sha256, group 2; cbc and sha1 with PFS": ("aes128-sha256-modp1024", "aes128-sha1-modp2048", True),
}


@pytest.fixture
def meet1(meet):
    """Makes meetings by IKEv1."""

    def made(**agreed: Any) -> Meeting:
        return meet(**({"version": 1, "ike": IKE, "esp": ESP} | agreed))

    return made


def end(meeting: Meeting, role: str) -> None:
    """One side deletes the ISAKMP SA; then neither has any."""
    if role == "we":
        meeting.ours.ask("terminate", name=TUNNEL)
    else:
        meeting.theirs.terminate(ike="gw")
    meeting.eventually(meeting.down, f"nothing is left after {role} delete the ISAKMP SA")


def assert_both_roles(meeting: Meeting, version: int = 4) -> None:
    """Each in turn initiates, traffic goes both ways, and the other one deletes."""
    for role, other in zip(ROLES, reversed(ROLES), strict=True):
        meeting.bring_up(role)
        ike = meeting.tunnel()["ike"]
        assert (ike["version"], ike["role"]) == (1, "initiator" if role == "we" else "responder")
        meeting.assert_carries(version)
        end(meeting, other)


@pytest.mark.parametrize("suite", SUITES)
def test_suite(meet1, suite):
    ike, esp, legacy = SUITES[suite]
    assert_both_roles(meet1(ike=ike, esp=esp, our_tunnel="legacy = true" if legacy else ""))


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Authorities and certificates of both gateways with RSA and with ECDSA keys."""
    made = OpenSsl(tmp_path_factory.mktemp("pki"))
    for kind in ("rsa", "ec"):
        made.certificate(f"ca-{kind}", f"/CN=authority {kind}", extensions=CA, kind=kind)
        for identity in IDENTITIES:
            made.certificate(f"{identity}-{kind}", f"/CN={identity}", f"ca-{kind}", f"subjectAltName=DNS:{identity}", kind)
    return made


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_signatures(meet1, pki, kind):
    names = (f"{IDENTITIES[0]}-{kind}", f"{IDENTITIES[1]}-{kind}")
    assert_both_roles(meet1(auth=Certificates(pki.directory, f"ca-{kind}", names, "pubkey")))


def test_outer_ipv6(meet1):
    assert_both_roles(meet1(outer=(netns.GW_A_OUTER[1], netns.GW_B_OUTER[1])))


def test_everything_where_no_proxy_id_is_configured(meet1):
    """0.0.0.0/0 on both sides, as appliances have it."""
    meeting = meet1(proxy_ids=(), nets=(Net(ours="0.0.0.0/0", theirs="0.0.0.0/0"),), our_tunnel='routes = ["10.2.0.0/24"]')
    meeting.bring_up("we")
    assert meeting.children()[0]["local_ts"] == ["0.0.0.0/0"]


# --- life ------------------------------------------------------------------------------------------------------------


def renew(meeting: Meeting, role: str, *, ike: bool) -> None:
    if role == "we":
        meeting.ours.ask("rekey", name=TUNNEL, ike=ike)
    else:
        meeting.theirs.rekey(**({"ike": "gw"} if ike else {"child": "net"}))


def sends_by_another(meeting: Meeting, before: set[tuple[int, int]]) -> bool:
    """Whether packets of ours take a pair of SAs that was not there, and the peer has it too."""
    now = meeting.spis()
    return bool(now) and not now & before and now <= meeting.their_spis()


@pytest.mark.parametrize("initiator", ROLES)
def test_both_phases_are_renewed_by_either_side(meet1, initiator):
    """Under a stream of which we lose nothing; phase 2 goes on as it is when phase 1 is renewed."""
    meeting = meet1(strongswan_conf="charon { delete_rekeyed = yes }\n")
    meeting.bring_up(initiator)
    for role in ROLES:
        meeting.eventually(lambda: meeting.tunnel()["ike"]["age_s"] > YOUNG, "an ISAKMP SA that is no longer young")
        with Stream(meeting):
            spis, ike = meeting.spis(), meeting.ike_spis()
            renew(meeting, role, ike=False)
            meeting.eventually(partial(sends_by_another, meeting, spis), f"a new pair of IPsec SAs, asked for by {role}")
            assert meeting.ike_spis() == ike
            spis = meeting.spis()
            renew(meeting, role, ike=True)
            meeting.eventually(partial(meeting.has_another_ike_sa, ike), f"a new ISAKMP SA, asked for by {role}")
            assert meeting.spis() == spis
        meeting.assert_carries()
        meeting.eventually(lambda: len(meeting.theirs.list_sas()) == 1, "the old ISAKMP SA goes", seconds=40)
        meeting.assert_carries()


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_phase_2_is_renewed_by_time(meet1, whose):
    limits = (
        {"our_esp": 'lifetime = "5s"'} if whose == "ours" else {"their_child": "rekey_time = 2s\n life_time = 10s\n rand_time = 0"}
    )
    meeting = meet1(**limits)
    meeting.bring_up("we")
    with Stream(meeting):
        meeting.eventually(lambda: meeting.ours.text().count("CHILD_SA rekeyed") >= 2, "two renewals", seconds=25)
    meeting.assert_carries()


def test_octets_renew(meet1):
    meeting = meet1(our_esp="life_packets = 200")
    meeting.bring_up("they")
    with Stream(meeting):
        meeting.eventually(lambda: meeting.ours.text().count("CHILD_SA rekeyed") >= 2, "two renewals", seconds=25)


@pytest.mark.parametrize("role", ROLES)
def test_three_proxy_ids(meet1, role):
    pairs = tuple((f"10.1.0.{64 * number}/26", netns.SITE_B_NETS[0]) for number in range(3))
    nets = tuple(Net(f"net{number}", *pair) for number, pair in enumerate(pairs))
    meeting = meet1(proxy_ids=pairs, nets=nets)
    if role == "we":
        meeting.bring_up("we")
    else:
        for net in nets:
            meeting.theirs.initiate(net.name)
    meeting.eventually(lambda: meeting.is_up() and len(meeting.spis()) == 3, "a pair of SAs for each")
    assert sorted(child["local_ts"][0] for child in meeting.children()) == sorted(pair[0] for pair in pairs)
    meeting.assert_carries()


@pytest.mark.parametrize("role", ROLES)
def test_one_phase_2_ends_by_either_side(meet1, role):
    meeting = meet1()
    meeting.bring_up("we")
    if role == "they":
        meeting.theirs.terminate(child="net")
        meeting.eventually(lambda: not meeting.children(), "it is gone")
        assert "the peer deleted it" in meeting.ours.text()
    else:
        end(meeting, "we")


def test_a_peer_that_was_killed_is_found_dead_and_called_again(meet1):
    meeting = meet1(our_ike=LIVENESS, start="start")
    meeting.eventually(meeting.is_up, "up by itself")
    meeting.theirs.kill()
    meeting.eventually(lambda: "did not answer R-U-THERE" in meeting.ours.text(), "it is dead", DEAD_SECONDS)
    meeting.theirs.start()
    meeting.theirs.load(meeting.agreement.theirs())
    meeting.eventually(meeting.is_up, "up again", DEAD_SECONDS)
    meeting.assert_carries()


def test_a_peer_that_was_killed_calls_again_itself(meet1):
    """INITIAL-CONTACT: what we held of it goes."""
    meeting = meet1()
    meeting.bring_up("they")
    meeting.theirs.kill()
    meeting.theirs.start()
    meeting.theirs.load(meeting.agreement.theirs())
    meeting.bring_up("they")
    meeting.assert_carries()


# --- failures explained ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
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
    ("10.1.0.0/25", "we", "it answers 10.1.0.0/24 <-> 10.2.0.0/24 with other proxy IDs: 10.1.0.0/25 <-> 10.2.0.0/24"),
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
