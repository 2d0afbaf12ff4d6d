"""With strongSwan: several proxy IDs, narrowing, the end by either side, a peer that dies and returns, and failures explained.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError
from tests.interop.strongswan_meeting import IDENTITIES, ROLES, TUNNEL, Net, Psk, ping

pytestmark = pytest.mark.root

BOTH_VERSIONS = tuple(zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True))
LIVENESS = 'liveness = { interval = "1s", retries = 1, action = "restart" }'
DEAD_SECONDS = 15


def selectors(meeting):
    """What our CHILD_SAs carry, as both sides' prefixes."""
    return sorted((tuple(child["local_ts"]), tuple(child["remote_ts"])) for child in meeting.children())


# --- selectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_several_proxy_ids_in_one_child_sa(meet, role):
    nets = (Net(ours=",".join(netns.SITE_A_NETS), theirs=",".join(netns.SITE_B_NETS)),)
    meeting = meet(proxy_ids=BOTH_VERSIONS, nets=nets)
    meeting.bring_up(role)
    (child,) = meeting.children()
    assert len(child["local_ts"]) == len(child["remote_ts"]) == 2
    meeting.assert_carries(4)
    meeting.assert_carries(6)


EACH = tuple(Net(f"net{number}", *proxy_id) for number, proxy_id in enumerate(BOTH_VERSIONS))


@pytest.mark.parametrize("start", ["start", "respond"])
def test_a_child_sa_for_each_proxy_id(meet, start):
    """The peer has one child per proxy ID: whoever asks, each gets its own CHILD_SA, and packets find theirs."""
    meeting = meet(proxy_ids=BOTH_VERSIONS, nets=EACH, start=start)
    if start == "respond":
        meeting.bring_up("they")
    meeting.eventually(lambda: len(meeting.children()) == 2 and meeting.is_up(), "two CHILD_SAs")
    assert selectors(meeting) == [((ours,), (theirs,)) for ours, theirs in BOTH_VERSIONS]
    meeting.assert_carries(4)
    meeting.assert_carries(6)
    before = meeting.spis()
    meeting.ours.ask("rekey", name=TUNNEL, ike=False)
    meeting.eventually(lambda: meeting.is_up() and len(meeting.spis()) == 2 and not meeting.spis() & before, "both are new")
    meeting.assert_carries(4)
    meeting.assert_carries(6)


def test_each_proxy_id_on_demand(meet):
    meeting = meet(proxy_ids=BOTH_VERSIONS, nets=EACH, start="on-demand")
    for version in (0, 1):
        assert ping(meeting.sites.host_a, netns.HOST_B[version]), meeting.both_logs()
        assert len(meeting.children()) == version + 1
    meeting.eventually(meeting.is_up, "both agree")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("narrower", ["theirs", "ours"])
def test_narrowing(meet, role, narrower):
    """Who allows less decides, whoever asks; what is outside has no way out."""
    wide, narrow = ("10.1.0.0/16", "10.2.0.0/16"), (netns.SITE_A_NETS[0], netns.SITE_B_NETS[0])
    ours, theirs = (wide, narrow) if narrower == "theirs" else (narrow, wide)
    meeting = meet(proxy_ids=(ours,), nets=(Net("net", *theirs),))
    meeting.bring_up(role)
    assert selectors(meeting) == [((narrow[0],), (narrow[1],))]
    meeting.assert_carries()


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_deleted_child_sa_leaves_the_ike_sa_and_comes_again(meet):
    meeting = meet()
    meeting.bring_up("they")
    ike = meeting.ike_spis()
    meeting.theirs.terminate(child="net")
    meeting.eventually(lambda: not meeting.children(), "the CHILD_SA is gone here")
    assert meeting.ike_spis() == ike
    meeting.bring_up("they")
    assert meeting.ike_spis() == ike
    meeting.assert_carries()


def test_a_gateway_that_stops_takes_its_sas_from_the_peer(meet):
    meeting = meet()
    meeting.bring_up("we")
    assert meeting.ours.terminate() == 0
    meeting.eventually(lambda: meeting.theirs.list_sas() == [], "the peer has none either")


# --- a peer that is gone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_killed_peer_that_returns_is_called_again(meet, role):
    """liveness.action = "restart": our checks find it dead, and we call until it is back."""
    meeting = meet(start="start" if role == "we" else "respond", our_ike=LIVENESS)
    if role == "they":
        meeting.bring_up(role)
    meeting.eventually(meeting.is_up, "up the first time")
    meeting.assert_carries()
    meeting.theirs.kill()
    meeting.eventually(lambda: meeting.tunnel()["ike"] is None, "we find out that it is dead", seconds=DEAD_SECONDS)
    unreachable = "UDP port 4500 of 192.0.2.2 is not reached: port unreachable"
    meeting.eventually(lambda: unreachable in meeting.ours.text(), "its host is there, and says so")
    meeting.theirs.start()
    meeting.eventually(meeting.is_up, "up again", seconds=20)
    meeting.assert_carries()


def test_a_peer_that_restarts_before_we_notice_replaces_its_old_sas(meet):
    """Its INITIAL_CONTACT says that nothing of before is left."""
    meeting = meet()
    meeting.bring_up("they")
    old = meeting.ike_spis()
    meeting.theirs.kill()
    meeting.theirs.start()
    meeting.bring_up("they")
    assert meeting.has_another_ike_sa(old)
    meeting.assert_carries()


# --- on demand -------------------------------------------------------------------------------------------------------


def test_the_first_packet_calls_the_peer_and_is_delivered(meet):
    meeting = meet(start="on-demand")
    assert meeting.tunnel()["state"] == "waiting"
    assert ping(meeting.sites.host_a, netns.HOST_B[0])
    meeting.eventually(meeting.is_up, "both agree")


# --- failures that explain themselves --------------------------------------------------------------------------------


def said(meeting, *words):
    return all(word in meeting.ours.text() for word in words)


@pytest.mark.parametrize("role", ROLES)
def test_a_wrong_secret(meet, role):
    """Who proves itself first is told no more than that; whoever checks names the secret and both identities."""
    meeting = meet(auth=Psk(theirs="another secret of enough characters"))
    if role == "we":
        meeting.ours.ask("initiate", name=TUNNEL)
        words: tuple[str, ...] = (TUNNEL, "secrets differ", "identities", *IDENTITIES)
    else:
        with pytest.raises(PeerError, match="AUTHENTICATION_FAILED"):
            meeting.theirs.initiate("net")
        words = (TUNNEL, "shared keys differ", netns.GW_B_OUTER[0])
    meeting.eventually(lambda: said(meeting, *words), f"our log says {words}")
    meeting.eventually(meeting.down, "neither has an SA")


@pytest.mark.parametrize("role", ROLES)
def test_no_ike_proposal_in_common(meet, role):
    meeting = meet(ike="aes256gcm16-prfsha384-ecp384", their_ike="aes128-sha256-modp2048")
    if role == "we":
        meeting.ours.ask("initiate", name=TUNNEL)
        words: tuple[str, ...] = ("aes256gcm16-prfsha384-ecp384", "its log")  # it says no more than NO_PROPOSAL_CHOSEN
    else:
        with pytest.raises(PeerError, match="NO_PROPOSAL_CHOSEN"):
            meeting.theirs.initiate("net")
        words = ("aes256gcm16-prfsha384-ecp384", "peer's: aes128", "key exchange (ours ecp384, peer's modp2048)")
    meeting.eventually(lambda: said(meeting, *words), f"our log says {words}")
    meeting.eventually(meeting.down, "neither has an SA")


@pytest.mark.parametrize("role", ROLES)
def test_no_esp_proposal_in_common(meet, role):
    meeting = meet(esp="aes256gcm16", their_esp="aes128-sha256")
    if role == "we":
        meeting.ours.ask("initiate", name=TUNNEL)
        words: tuple[str, ...] = ("CHILD_SA failed", "aes256gcm16")
    else:
        with pytest.raises(PeerError, match="NO_PROPOSAL_CHOSEN"):
            meeting.theirs.initiate("net")
        words = ("CHILD_SA failed", "aes256gcm16", "aes128-sha256")
    meeting.eventually(lambda: said(meeting, *words), f"our log says {words}")
    assert meeting.children() == []


@pytest.mark.parametrize("role", ROLES)
def test_no_selectors_in_common(meet, role):
    meeting = meet(nets=(Net(ours="10.8.0.0/24", theirs="10.9.0.0/24"),))
    if role == "we":
        meeting.ours.ask("initiate", name=TUNNEL)
        words: tuple[str, ...] = ("CHILD_SA failed", "10.1.0.0/24", "10.2.0.0/24")
    else:
        with pytest.raises(PeerError, match="TS_UNACCEPT"):
            meeting.theirs.initiate("net")
        words = ("CHILD_SA failed", "10.1.0.0/24", "10.2.0.0/24", "10.8.0.0/24", "10.9.0.0/24")
    meeting.eventually(lambda: said(meeting, *words), f"our log says {words}")
    assert meeting.children() == []


def test_an_unknown_identity_of_the_peer(meet):
    """The identity that came and the one that is expected, side by side."""
    meeting = meet(our_remote_id="somebody.example")
    with pytest.raises(PeerError, match="AUTHENTICATION_FAILED"):
        meeting.theirs.initiate("net")
    meeting.eventually(lambda: said(meeting, "somebody.example", IDENTITIES[1]), "our log names both")
