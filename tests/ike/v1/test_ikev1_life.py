"""The life of both phases as ladders: renewal of phase 1, deletes, liveness, beginning anew, on demand, a changed configuration."""

from dataclasses import replace
from random import Random

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.environment import Activity
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import Life, Liveness, SharedKeyAuth
from ipsec_dp.ike.proposal import parse_esp
from ipsec_dp.ike.v1.payloads import DeletePayload
from ipsec_dp.ike.v1.wire import Protocol
from tests.ike.ladder import NETS, OTHER, packet, proxy_id

from .gateways import MIRRORED, THREE, Gateways, peer, texts
from .isakmp_peer import sealed
from .test_ikev1_main_mode import behind_nat

# --- phase 1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shorter", ["a", "b"])
def test_phase_1_is_renewed_without_touching_phase_2(shorter):
    lives = {shorter: [peer(shorter, ike_life=Life(1200.0, 600.0))], OTHER[shorter]: [peer(OTHER[shorter])]}
    gateways = Gateways(**lives).start()
    before = [site.sad.sending[:] for site in gateways.sites.values()]
    spi = gateways.a.status[0].spi_i
    gateways.run(800)
    gateways.check()
    assert gateways.a.status[0].spi_i != spi
    assert [site.sad.sending for site in gateways.sites.values()] == before
    for site in gateways.sites.values():
        assert site.kinds() == [Kind.IKE_UP, Kind.CHILD_UP, Kind.IKE_REKEYED]
        assert [len(site.core.ikev1.sessions(site.tunnel))] == [1]


def test_a_renewal_that_nobody_answers_ends_with_the_hard_limit():
    gateways = Gateways([peer("a", ike_life=Life(100.0, 50.0))], [peer("b", ike_life=Life(100.0, 50.0))]).start()
    gateways.wire.cut("a", "b")
    gateways.wire.cut("b", "a")
    gateways.run(101)
    for site in gateways.sites.values():
        assert site.causes()[-1] is Cause.LIFETIME
        assert not site.sad.inbound
        assert not site.ups


def test_exchanges_go_over_the_new_one_at_once():
    gateways = Gateways().start()
    gateways.run(60)
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock(), ike=True))
    gateways.settle()
    assert len(gateways.a.core.ikev1.sessions("to-b")) == 2
    gateways.b.do(gateways.b.core.rekey("to-a", gateways.clock()))
    gateways.settle()
    new = gateways.a.status[0]
    quick = [delivery.data[0] for delivery, _ in gateways.wire.log if delivery.data[0][18] == 32]
    assert quick[-1][:16] == new.spi_i + new.spi_r
    gateways.run(60)
    gateways.check()
    assert len(gateways.a.core.ikev1.sessions("to-b")) == 1


# --- deletes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("verb", ["terminate", "leave"])
def test_terminate_deletes_on_both_sides(site, verb):
    gateways = Gateways().start()
    who, other = gateways.sites[site], gateways.sites[OTHER[site]]
    who.do(getattr(who.core, verb)(who.tunnel, gateways.clock()))
    gateways.settle()
    gateways.run(60)
    assert (who.causes(), other.causes()) == ([Cause.LOCAL], [Cause.PEER])
    for one in (who, other):
        assert not one.sad.inbound
        assert one.core.counters().sessions == 0
        assert one.core.next_timeout() is None


def test_the_peer_deletes_phase_1_alone_and_phase_2_goes_on():
    """As some do at the end of its lifetime: another is made at once."""
    gateways = Gateways().start()
    (session,) = gateways.a.core.ikev1.sessions("to-b")
    deletion = sealed(session, [DeletePayload(Protocol.ISAKMP, (session.sa.cookies,))])
    gateways.a.do(gateways.a.core.receive(deletion, gateways.path("a"), gateways.clock()))
    gateways.run(40)
    gateways.check()
    for site in gateways.sites.values():
        assert Kind.IKE_DOWN not in site.kinds()
        assert site.sad.sending == [1]
    assert gateways.a.status[0].spi_i != session.sa.cookie_i


def test_and_ends_where_no_other_comes():
    gateways = Gateways().start()
    (session,) = gateways.a.core.ikev1.sessions("to-b")
    gateways.wire.cut("b", "a")
    deletion = sealed(session, [DeletePayload(Protocol.ISAKMP, (session.sa.cookies,))])
    gateways.a.do(gateways.a.core.receive(deletion, gateways.path("a"), gateways.clock()))
    assert gateways.a.sad.sending == [1]
    gateways.run(31)
    assert gateways.a.causes()[0] is Cause.PEER
    assert not gateways.a.sad.inbound


def test_what_falls_due_without_a_phase_1_waits_for_it_at_rest():
    """A renewal of phase 2: no exchange can begin, and nobody is woken for it before there is another ISAKMP SA."""
    gateways = Gateways([peer("a", child_life=Life(100.0, 60.0))], [peer("b")]).start()
    gateways.run(55)
    (session,) = gateways.a.core.ikev1.sessions("to-b")
    gateways.wire.cut("a", "b")
    deletion = sealed(session, [DeletePayload(Protocol.ISAKMP, (session.sa.cookies,))])
    gateways.a.do(gateways.a.core.receive(deletion, gateways.path("a"), gateways.clock()))
    woken: list[float] = []
    gateways.run(15, lambda: woken.append(gateways.clock()))
    assert len(woken) < 40, "what is sent again, and no more"
    gateways.wire.mend("a", "b")
    gateways.run(20)
    gateways.check()
    assert texts(gateways.a, Kind.CHILD_REKEYED)


@pytest.mark.parametrize("site", ["a", "b"])
def test_one_pair_is_deleted(site):
    gateways = Gateways([peer("a", proxy_ids=THREE)], [peer("b", proxy_ids=MIRRORED)]).start()
    gateways.run(20)
    who = gateways.sites[site]
    who.do(who.core.delete_child(who.tunnel, who.sad.sending[0], gateways.clock()))
    gateways.settle()
    gateways.check()
    assert len(gateways.a.sad.sending) == len(gateways.b.sad.sending) == 2
    gateways.run(10)
    assert len(gateways.a.sad.inbound) == len(gateways.b.sad.inbound) == 2


def test_idle_pairs_end():
    gateways = Gateways([peer("a", child_life=Life(3600.0, idle_s=60.0))], [peer("b")]).start()
    gateways.run(100)
    assert gateways.a.causes() == [Cause.IDLE]
    assert not gateways.b.sad.inbound


# --- is the peer there? ----------------------------------------------------------------------------------------------

ASKS = {"liveness": Liveness(10.0, 3)}


def test_a_peer_that_is_silent_is_asked_and_one_that_does_not_answer_is_dead():
    gateways = Gateways(a=[peer("a", **ASKS)]).start()
    gateways.run(35)
    assert gateways.modes()[9:] == ["ab info", "ba info"] * 3
    for one, other in ("ab", "ba"):
        gateways.wire.cut(one, other)
    gateways.run(60)
    assert gateways.a.causes() == [Cause.LIVENESS]
    assert "did not answer R-U-THERE (4 times)" in gateways.a.events[-1].text
    assert not gateways.a.sad.inbound


def test_esp_is_an_answer():
    gateways = Gateways(a=[peer("a", **ASKS)]).start()

    def heard():
        gateways.a.activity[1] = Activity(gateways.clock(), gateways.clock())

    heard()
    for _ in range(20):
        gateways.run(5)
        heard()
    assert len(gateways.modes()) == 9


def test_a_lost_question_or_answer_is_no_death():
    gateways = Gateways(a=[peer("a", **ASKS)]).start()
    gateways.wire.drop("a", "b", 6, 8)
    gateways.wire.drop("b", "a", 5)
    gateways.run(100)
    gateways.check()
    assert gateways.a.causes() == []


def test_a_peer_that_was_killed_begins_anew_and_takes_the_place():
    """INITIAL-CONTACT: what the other side holds of it goes, by identity."""
    gateways = Gateways().start("a")
    killed = gateways.a
    fresh = IkeVersions(replace(killed.core.environment), [peer("a")])
    killed.core, killed.sad.inbound, killed.sad.outbound, killed.sad.sending = fresh, {}, {}, []
    gateways.initiate("a")
    gateways.settle()
    gateways.run(20)
    gateways.check()
    assert "the peer began anew (INITIAL-CONTACT)" in texts(gateways.b, Kind.CHILD_DOWN)
    assert len(gateways.b.sad.inbound) == 1


def test_and_one_that_is_called_by_who_knows_nothing_of_its_death():
    """The responder was killed: the initiator finds out by liveness, and calls again."""
    gateways = Gateways(a=[peer("a", **ASKS)]).start("a")
    killed = gateways.b
    killed.core, killed.sad.inbound, killed.sad.outbound, killed.sad.sending = (
        IkeVersions(killed.core.environment, [peer("b")]),
        {},
        {},
        [],
    )
    gateways.run(60)
    assert gateways.a.causes() == [Cause.LIVENESS]
    gateways.initiate("a")
    gateways.settle()
    gateways.check()


def test_both_call_at_once_and_one_stays():
    gateways = Gateways()
    gateways.initiate("a")
    gateways.initiate("b")
    gateways.settle()
    gateways.run(60)
    gateways.check()
    assert [site.status[0].spi_i for site in gateways.sites.values()] == [gateways.a.status[0].spi_i] * 2
    assert [len(site.sad.sending) for site in gateways.sites.values()] == [1, 1]


# --- what asks -------------------------------------------------------------------------------------------------------


def test_on_demand_only_the_proxy_id_that_a_packet_asks_for():
    gateways = Gateways([peer("a", proxy_ids=THREE)], [peer("b", proxy_ids=MIRRORED)])
    gateways.initiate("a", asks=packet("10.1.1.1", "10.2.1.1"))
    gateways.run(30)
    assert [install.selectors for install in gateways.a.sad.inbound.values()] == [gateways.a.status[0].children[0].selectors]
    gateways.a.do(gateways.a.core.acquire("to-b", packet("10.1.2.1", "10.2.2.1"), gateways.clock()))
    gateways.run(10)
    assert len(gateways.a.sad.sending) == 2
    assert gateways.a.core.acquire("to-b", packet("10.1.2.1", "10.2.2.1"), gateways.clock()) == []


def test_nothing_is_there_to_acquire_by():
    assert Gateways().a.core.acquire("to-b", packet("10.1.0.1", "10.2.0.1"), 0.0) is None


# --- a changed configuration -----------------------------------------------------------------------------------------


def reconfigured(gateways, site, effect, **changes):
    who = gateways.sites[site]
    who.do(who.core.reconfigure([peer(site, **changes)], {who.tunnel: effect}, gateways.clock()))
    gateways.settle()


def test_a_lifetime_changes_in_place():
    gateways = Gateways().start()
    reconfigured(gateways, "a", Effect.IN_PLACE, child_life=Life(900.0))
    gateways.check()
    assert len(gateways.modes()) == 9


def test_a_proxy_id_that_is_gone_ends_and_a_new_one_is_made():
    gateways = Gateways([peer("a", proxy_ids=THREE[:2], start="start")], [peer("b", proxy_ids=MIRRORED)]).start()
    gateways.run(10)
    reconfigured(gateways, "a", Effect.SELECTORS, proxy_ids=THREE[1:], start="start")
    gateways.run(20)
    assert len(gateways.a.sad.sending) == len(gateways.b.sad.sending) == 2
    remotes = {str(child.selectors[0].remote) for child in gateways.a.status[0].children}
    assert any("10.2.2" in remote for remote in remotes)


def test_a_new_suite_renews():
    gateways = Gateways().start()
    suite = parse_esp(["aes256gcm16"])
    reconfigured(gateways, "b", Effect.IN_PLACE, esp_proposals=suite)
    reconfigured(gateways, "a", Effect.REKEY, esp_proposals=suite)
    gateways.run(30)
    gateways.check()
    assert gateways.a.status[0].children[0].suite == "aes256gcm16"


def test_another_secret_begins_anew_and_a_tunnel_that_is_gone_is_deleted():
    gateways = Gateways().start()
    secret = SharedKeyAuth(PreSharedKey.from_text("quite another secret"))
    reconfigured(gateways, "a", Effect.RESTART, auth=secret)
    assert not gateways.a.sad.inbound
    gateways.run(10)
    assert not gateways.b.sad.inbound
    gateways = Gateways().start()
    gateways.a.do(gateways.a.core.reconfigure([], {"to-b": Effect.RESTART}, gateways.clock()))
    gateways.settle()
    gateways.run(10)
    for site in gateways.sites.values():
        assert not site.sad.inbound
        assert site.core.counters().sessions == 0


def test_a_clone_sends_not_a_word():
    gateways = Gateways().start()
    sent = len(gateways.modes())
    gateways.a.do(gateways.a.core.forget(gateways.clock()))
    assert (len(gateways.modes()), gateways.a.causes()) == (sent, [Cause.CLONED])
    assert not gateways.a.sad.inbound


def two_peers_for_anybody(second_proxy_id):
    """b's tunnel takes two identities from anywhere; the second calls from another address by a core of its own."""
    anybody = [peer("b", remotes=(), remote_id=Identity.from_text("gwa.example"))]
    nets = (second_proxy_id,)
    anybody.append(peer("b", tunnel="second", remotes=(), remote_id=Identity.from_text("second.example"), proxy_ids=nets))
    gateways = Gateways(b=anybody).start()
    mine = second_proxy_id._replace(local=second_proxy_id.remote, remote=second_proxy_id.local)
    gateways.a.do(gateways.a.core.terminate("nobody", gateways.clock()))
    second = peer("a", tunnel="second", local_id=Identity.from_text("second.example"), proxy_ids=(mine,))
    gateways.a.core.reconfigure([second], {}, gateways.clock())
    gateways.a.do(gateways.a.core.initiate("second", gateways.path("a"), gateways.clock()))
    gateways.settle()
    return gateways


def test_what_one_identity_has_no_other_gets():
    gateways = two_peers_for_anybody(NETS["b"])
    said = "second.example asks for 10.2.0.0/24 <-> 10.1.0.0/24, and gwa.example has it while it is up"
    assert texts(gateways.b, Kind.CHILD_FAILED)[0].startswith(said)
    assert len(gateways.b.sad.sending) == 1
    gateways = two_peers_for_anybody(proxy_id("10.2.0.0/24", "10.9.0.0/24"))
    assert len(gateways.b.sad.sending) == 2


def test_a_day_and_more_leaves_what_an_hour_does():
    """Phase 1 is renewed each eight hours, phase 2 each hour: nothing is left over, and nothing goes."""
    seldom = Liveness(600.0, 3)
    gateways = Gateways([peer("a", liveness=seldom)], [peer("b", liveness=seldom)]).start()
    gateways.run(26 * 3600)
    gateways.check()
    assert gateways.faults() == {"a": {}, "b": {}}
    for site in gateways.sites.values():
        assert not {Kind.IKE_DOWN, Kind.CHILD_DOWN, Kind.IKE_FAILED, Kind.CHILD_FAILED} & set(site.kinds())
        assert (len(site.core.ikev1.sessions(site.tunnel)), len(site.sad.inbound)) == (1, 1)
        assert len(texts(site, Kind.IKE_REKEYED)) >= 3
        assert len(texts(site, Kind.CHILD_REKEYED)) >= 25


@pytest.mark.parametrize("seed", range(3))
def test_a_wire_that_loses_a_quarter_at_random(seed):
    """Both sides renew both phases, delete and call as they please; when the wire is mended they agree in a minute."""
    chance = Random(seed)
    lives = {"start": "start", "child_life": Life(60.0), "ike_life": Life(300.0), **ASKS}
    gateways = Gateways([peer("a", **lives)], [peer("b", **(lives | {"start": "respond"}))], seed=seed)
    gateways.loses = lambda: chance.random() < 0.25
    gateways.initiate("a")
    for _ in range(30):
        gateways.run(20)
        if not gateways.a.status:
            gateways.initiate("a")
        who = gateways.sites[chance.choice("ab")]
        if who.sad.sending and chance.random() < 0.3:
            who.do(who.core.rekey(who.tunnel, gateways.clock(), ike=chance.random() < 0.5))
    gateways.loses = lambda: False
    for _ in range(6):
        gateways.run(30)
        if not gateways.a.status:
            gateways.initiate("a")
    gateways.run(120)
    assert gateways.a.sad.sending
    receives = gateways.b.receives_on()
    assert all(spi in receives for spi in gateways.a.sends_to())
    assert all(len(site.sad.inbound) <= 8 for site in gateways.sites.values())


def test_a_mapping_that_changed_before_phase_1_is_renewed_is_followed_by_what_is_up():
    """The new ISAKMP SA is where the peer is now; so are the IPsec SAs that were made under the old one."""
    gateways = behind_nat(Gateways()).start("a")
    gateways.run(60)
    behind_nat(gateways, 32000)
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock(), ike=True))
    gateways.settle()
    gateways.check()
    assert [(moved.path.remote.port, moved.children) for moved in gateways.b.moved] == [(32001, (1,))]
    assert gateways.a.moved == []
    assert texts(gateways.b, Kind.PATH) == ["the peer's address is now 192.0.2.1:32001: its NAT changed the mapping"]


def test_one_that_did_not_change_moves_nothing():
    gateways = behind_nat(Gateways()).start("a")
    gateways.run(60)
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock(), ike=True))
    gateways.settle()
    assert gateways.b.moved == gateways.a.moved == []
