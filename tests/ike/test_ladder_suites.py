"""A rekey keeps the suite in use (RFC 7296 §2.8), as initiator and as responder, and forward secrecy begins with the first one."""

from dataclasses import fields, replace

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.negotiation import keeping
from ipsec_dp.ike.proposal import parse_esp, parse_ike, text
from ipsec_dp.ike.suites import EspSuite, IkeSuite
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2.child_create import ChildCreate
from ipsec_dp.ike.v2.ike_rekey import IkeRekey
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.payloads import Encrypted, KeyExchangePayload, SecurityAssociation
from ipsec_dp.ike.v2.protect import open_payload, parse_inner
from ipsec_dp.ipsec.transforms import BY_TRANSFORM, GROUP_OF_ID, KEMS, AdditionalKeyExchange, Encryption

from .ladder import OTHER, Ladder, peer

SIDES = ["a", "b"]
# Each side's favourite is the other's last one: which of them an SA has tells who chose it.
IKES = {
    "a": parse_ike(["aes256gcm16-prfsha384-x25519-ecp256", "aes128gcm16-prfsha256-x25519-ecp256"]),
    "b": parse_ike(["aes128gcm16-prfsha256-x25519-ecp256", "aes256gcm16-prfsha384-x25519-ecp256"]),
}
ESPS = {
    "a": parse_esp(["aes256gcm16-x25519-ecp256-esn-noesn", "aes128gcm16-ecp256-x25519-noesn-esn", "aes256-sha256-x25519"]),
    "b": parse_esp(["aes128gcm16-x25519-ecp256-noesn-esn", "aes256gcm16-ecp256-x25519-esn-noesn"]),
}
B_CHOSE, A_CHOSE = "aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-x25519"


def ladder_of(called="a"):
    return Ladder(**{site: [peer(site, ike_proposals=IKES[site], esp_proposals=ESPS[site])] for site in SIDES}).up(called)


def rekey(ladder, site, *, ike=False):
    who = ladder.sites[site]
    who.do(who.core.rekey(who.tunnel, ladder.clock(), ike=ike))


def inside(ladder, receiver):
    """What is protected in the last datagram that was sent to `receiver`."""
    datagram = next(one.data[0] for one, _ in reversed(ladder.wire.log) if one.receiver == receiver)
    message = parse_message(datagram)
    session = next(one for one in ladder.sites[receiver].core.sessions() if one.sa.spi_i == message.header.spi_i)
    sealed = message.get(Encrypted)
    assert sealed is not None
    return message.with_payloads(parse_inner(sealed.first_inner, open_payload(session.sa.incoming, datagram, sealed)))


def offered(ladder, receiver):
    return text(inside(ladder, receiver).get(SecurityAssociation).proposals)


def in_use(ladder):
    assert ladder.a.status[0].proposal == ladder.b.status[0].proposal
    return ladder.a.status[0].proposal


def child_suites(ladder):
    """Of the CHILD_SAs that send."""
    return [str(session.children[number].suite) for session in ladder.a.core.sessions() for number in ladder.a.sad.sending]


def no_end(ladder):
    ladder.run(100)
    ladder.check()
    for site in ladder.sites.values():
        assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(site.kinds())


# ---- the IKE SA


@pytest.mark.parametrize("site", SIDES)
def test_an_ike_rekey_offers_the_suite_in_use_and_no_other(site):
    ladder = ladder_of()
    assert in_use(ladder) == B_CHOSE
    rekey(ladder, site, ike=True)
    # CREATE_CHILD_SA -->
    assert offered(ladder, OTHER[site]) == B_CHOSE
    no_end(ladder)
    assert in_use(ladder) == B_CHOSE
    rekey(ladder, OTHER[site], ike=True)
    no_end(ladder)
    assert in_use(ladder) == B_CHOSE


def rekey_offering_all(ladder, site, *, ike=False):
    """As many peers do, strongSwan among them."""
    who = ladder.sites[site]
    (session,) = who.core.sessions()
    if ike:
        rekey = IkeRekey()
        rekey.any_suite = True
        session.enqueue(rekey)
    else:
        (child,) = session.children.values()
        session.enqueue(ChildCreate(child.pairs, rekeys=child, any_suite=True))
    who.do(session.timer(ladder.clock()))


@pytest.mark.parametrize("site", SIDES)
def test_a_responder_keeps_it_for_a_peer_that_offers_all_it_has(site):
    """What is in use is the favourite of the peer, which chose it, and not that of `site`, which is asked now."""
    ladder = ladder_of(called=site)
    chosen = in_use(ladder)
    rekey_offering_all(ladder, OTHER[site], ike=True)
    assert offered(ladder, site) == text(IKES[OTHER[site]])
    no_end(ladder)
    assert in_use(ladder) == chosen == {"a": B_CHOSE, "b": A_CHOSE}[site]


def narrow(ladder, site, proposals):
    """The peer is configured otherwise, and its IKE SAs know."""
    for session in ladder.sites[site].core.sessions():
        session.settle_on(replace(session.peer, ike_proposals=proposals, esp_proposals=session.peer.esp_proposals))


def test_all_that_is_configured_is_offered_to_a_peer_that_no_longer_takes_it():
    ladder = ladder_of()
    narrow(ladder, "b", parse_ike(["aes256gcm16-prfsha384-ecp256"]))
    rekey(ladder, "a", ike=True)
    # CREATE_CHILD_SA: the suite in use -->, <-- NO_PROPOSAL_CHOSEN
    assert offered(ladder, "b") == B_CHOSE
    ladder.deliver("b")
    ladder.deliver("a")
    # CREATE_CHILD_SA: all of them -->, <-- INVALID_KE_PAYLOAD, once more with that group
    assert offered(ladder, "b") == text(IKES["a"])
    no_end(ladder)
    assert in_use(ladder) == "aes256gcm16-prfsha384-ecp256"


def test_a_peer_that_wants_another_group_gets_it():
    """INVALID_KE_PAYLOAD names one that is configured, though not in use."""
    ladder = ladder_of()
    narrow(ladder, "b", parse_ike(["aes128gcm16-prfsha256-ecp256"]))
    rekey(ladder, "a", ike=True)
    no_end(ladder)
    assert in_use(ladder) == "aes128gcm16-prfsha256-ecp256"


class OldPrf:
    """B derives the keys of the new IKE SA by the PRF of the old one, as strongSwan does to 6.1.0 (against RFC 7296 §2.18)."""

    def __init__(self, ladder, monkeypatch):
        self.old = next(session.sa.suite.prf for session in ladder.b.core.sessions())
        self.at_b, self.derived = False, keymat.ike_keys
        monkeypatch.setattr(keymat, "ike_keys", self.keys)
        receive = ladder.b.core.receive

        def received(*arguments):
            self.at_b = True
            try:
                return receive(*arguments)
            finally:
                self.at_b = False

        monkeypatch.setattr(ladder.b.core, "receive", received)

    def keys(self, suite, *arguments):
        return self.derived(replace(suite, prf=self.old) if self.at_b else suite, *arguments)


@pytest.mark.parametrize("ten_times", [SIDES, ["a"], ["b"]], ids=["by turns", "a", "b"])
def test_a_peer_that_derives_by_the_prf_in_use_understands_each_new_ike_sa(ten_times, monkeypatch):
    """Ten rekeys; a CHILD_SA is rekeyed on each new IKE SA, which shows that both have its keys."""
    ladder = ladder_of()
    OldPrf(ladder, monkeypatch)
    for number in range(10):
        site = ten_times[number % len(ten_times)]
        rekey(ladder, site, ike=True)
        ladder.settle()
        rekey(ladder, site)
        ladder.settle()
        ladder.check()
    for site in ladder.sites.values():
        assert site.kinds().count(Kind.IKE_REKEYED) == site.kinds().count(Kind.CHILD_REKEYED) == 10


# ---- CHILD_SAs


@pytest.mark.parametrize("site", SIDES)
def test_forward_secrecy_begins_with_the_first_rekey_of_a_child_sa(site):
    """The CHILD_SA of IKE_AUTH has no key exchange of its own; its rekey has one, and what protects packets stays."""
    ladder = ladder_of()
    assert child_suites(ladder) == ["aes128gcm16"]
    rekey(ladder, site)
    # CREATE_CHILD_SA: REKEY_SA, SA, Ni, KE, TSi, TSr -->
    request = inside(ladder, OTHER[site])
    groups = {"a": "ecp256/x25519", "b": "x25519/ecp256"}[site]
    assert text(request.get(SecurityAssociation).proposals) == f"aes128gcm16-{groups}-noesn"
    group = GROUP_OF_ID[request.get(KeyExchangePayload).group].keyword
    assert group == groups.split("/")[0]
    no_end(ladder)
    assert child_suites(ladder) == [
        {"a": "aes128gcm16-x25519", "b": "aes128gcm16-ecp256"}[site]
    ]  # the responder's, by INVALID_KE_PAYLOAD


@pytest.mark.parametrize("site", SIDES)
def test_a_responder_keeps_what_protects_packets(site):
    ladder = ladder_of(called=site)
    before = child_suites(ladder)
    rekey_offering_all(ladder, OTHER[site])
    assert offered(ladder, site) == text(ESPS[OTHER[site]])
    no_end(ladder)
    assert before == [{"a": "aes128gcm16", "b": "aes256gcm16-esn"}[site]]
    assert [one.replace("-ecp256", "") for one in child_suites(ladder)] == before


def test_all_that_is_configured_is_offered_for_a_child_sa_that_the_peer_no_longer_takes():
    ladder = ladder_of()
    for session in ladder.b.core.sessions():
        session.settle_on(replace(session.peer, esp_proposals=parse_esp(["aes256gcm16-ecp256-esn"])))
    rekey(ladder, "a")
    no_end(ladder)
    assert child_suites(ladder) == ["aes256gcm16-ecp256-esn"]


def test_a_changed_configuration_is_offered_whole():
    """`esp.proposals` changed: the CHILD_SAs are rekeyed, and all that is configured now may come of it."""
    ladder = ladder_of()
    now = parse_esp(["aes256gcm16-x25519-esn", "aes128gcm16-x25519"])
    ladder.a.do(ladder.a.core.reconfigure([peer("a", ike_proposals=IKES["a"], esp_proposals=now)], {"to-b": Effect.REKEY}, 0.0))
    assert offered(ladder, "b") == text(now)
    no_end(ladder)


# ---- a reload in the middle of an exchange


def reloaded_meanwhile(ladder, suites):
    """B has answered A with a CHILD_SA when A's `esp.proposals` become these; then all that follows."""
    while ladder.deliver("b"):
        pass
    now = peer("a", ike_proposals=IKES["a"], esp_proposals=parse_esp(suites))
    ladder.a.do(ladder.a.core.reconfigure([now], {"to-b": Effect.REKEY}, ladder.clock()))
    ladder.run(100)
    ladder.check()


@pytest.mark.parametrize("asked", ["a rekey", "the first one"])
def test_a_suite_that_a_reload_takes_away_is_not_finished_with(asked):
    ladder = Ladder(**{site: [peer(site, ike_proposals=IKES[site], esp_proposals=ESPS[site])] for site in SIDES})
    if asked == "a rekey":
        ladder.up()
        rekey(ladder, "a")
    else:
        ladder.initiate("a")
        ladder.deliver("b")
        ladder.deliver("a")
    used = child_suites(ladder)
    reloaded_meanwhile(ladder, ["aes256gcm16-ecp256-esn"])
    assert not any("aes256gcm16-ecp256-esn" in one for one in used)
    assert [one for one in child_suites(ladder) if not one.startswith("aes256gcm16")] == []
    assert len(ladder.a.sad.sending) == len(ladder.b.sad.sending) == 1
    assert not ladder.a.sad.reserved
    assert not [event for event in ladder.a.events if event.kind in (Kind.CHILD_FAILED, Kind.CHILD_DOWN)]


def test_a_suite_that_a_reload_leaves_is_finished_with():
    ladders = ladder_of(), ladder_of()
    for ladder, suites in zip(ladders, (ESPS["a"], ESPS["a"][:2]), strict=True):
        rekey(ladder, "a")
        while ladder.deliver("b"):
            pass
        now = peer("a", ike_proposals=IKES["a"], esp_proposals=suites)
        ladder.a.do(ladder.a.core.reconfigure([now], {"to-b": Effect.IN_PLACE}, ladder.clock()))
        no_end(ladder)
    assert ladders[0].messages() == ladders[1].messages()


# ---- what keeps a suite


def test_every_algorithm_of_an_ike_suite_is_offered_again():
    """Whatever it has: an additional key exchange (RFC 9370) that was left out would be a weaker IKE SA."""
    ladder = ladder_of()
    suite = ladder.a.core.sessions()[0].sa.suite
    suite = replace(suite, additional=(AdditionalKeyExchange(1, KEMS[0]), AdditionalKeyExchange(3, KEMS[1])))
    named = [getattr(suite, field.name) for field in fields(IkeSuite) if field.name != "additional"] + [*suite.additional]
    assert set(suite.transforms) == {one.transform for one in named if one is not None}


@pytest.mark.parametrize(
    ("configured", "kept"),
    [
        (["aes128gcm16-x25519-ecp256-noesn-esn"], "aes128gcm16-x25519/ecp256-noesn"),
        (["aes256gcm16-aes128gcm16-x25519"], "aes128gcm16-x25519-noesn"),
        (["aes128gcm16-x25519", "aes128gcm16-ecp384"], "aes128gcm16-x25519-noesn, aes128gcm16-ecp384-noesn"),
        (["aes128gcm16", "aes256gcm16-x25519", "aes256gcm16-aes128gcm16-noesn-esn"], "aes128gcm16-noesn"),
        (["aes128gcm16-esn"], "none"),
        (["aes128-sha256"], "none"),
        (["aes256gcm16"], "none"),
    ],
)
def test_what_is_configured_with_the_suite_in_use(configured, kept):
    (cipher, *_) = parse_esp(["aes128gcm16"])[0].transforms
    encryption = BY_TRANSFORM[cipher]
    assert isinstance(encryption, Encryption)
    found = keeping(EspSuite(encryption, None, None, esn=False), parse_esp(configured))
    assert text(found) == kept
    assert [one.number for one in found] == list(range(1, len(found) + 1))
