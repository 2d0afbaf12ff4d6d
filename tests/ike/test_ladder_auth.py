"""IKE_AUTH as message ladders: who is let in, who is not, and what both sides are told."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.certificates import Credential, Revocation, Trust, load_certificates
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth, Unique
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.v2 import uniqueness
from ipsec_dp.ike.v2.cert_payloads import certificate_request
from ipsec_dp.ike.v2.message import Header, parse_message
from ipsec_dp.ike.v2.payloads import Authentication, CertificateRequest
from ipsec_dp.ike.v2.sending import seal

from .ladder import OTHER, Ladder, peer, proxy_id
from .pki import CA, NOW, OpenSsl

WEAK = parse_ike(["aes128-sha1-x25519"])
OTHER_KEY = SharedKeyAuth(PreSharedKey.from_text("quite another secret"))


def refused(ladder):
    """Nothing is left on either side, after a while not even the stored reply."""
    ladder.run(120)
    for site in ladder.sites.values():
        assert not site.sad.inbound
        assert not site.sad.reserved
        assert site.core.counters().sessions == 0
        assert site.core.counters().half_open == 0


def failure(site):
    return next(event for event in site.events if event.kind in (Kind.IKE_FAILED, Kind.IKE_DOWN))


def test_a_wrong_shared_key_is_refused_and_names_the_candidates():
    ladder = Ladder(b=[peer("b", auth=OTHER_KEY)])
    ladder.initiate("a")
    # IKE_SA_INIT -->, <-- IKE_SA_INIT, IKE_AUTH -->, <-- AUTHENTICATION_FAILED
    ladder.settle()
    assert len(ladder.messages()) == 4
    assert failure(ladder.b).cause is Cause.AUTHENTICATION
    assert "shared keys differ" in failure(ladder.b).text
    told = failure(ladder.a)
    assert told.cause is Cause.AUTHENTICATION
    assert told.again
    for words in ("secrets differ", "identities do", "gwa.example", "gwb.example", "log names"):
        assert words in told.text
    refused(ladder)


def test_a_wrong_identity_is_refused_with_both():
    ladder = Ladder(a=[peer("a", local_id=Identity.from_text("stranger.example"))])
    ladder.initiate("a")
    ladder.settle()
    told = failure(ladder.b)
    assert told.cause is Cause.IDENTITY
    assert "expected gwa.example; the peer says it is stranger.example" in told.text
    refused(ladder)


def test_a_responder_with_another_identity_is_left_with_one_word():
    """The responder believes the SA is up: AUTHENTICATION_FAILED tells it otherwise (RFC 7296 §2.21.2)."""
    ladder = Ladder(a=[peer("a", remote_id=None)], b=[peer("b")])
    ladder.initiate("a")
    # IKE_SA_INIT, IKE_AUTH; then INFORMATIONAL: AUTHENTICATION_FAILED -->
    ladder.settle()
    assert ladder.messages()[4:] == ["ab INFORMATIONAL", "ba INFORMATIONAL-"]
    assert failure(ladder.a).cause is Cause.IDENTITY
    assert "expected 192.0.2.2; the peer says it is gwb.example" in failure(ladder.a).text
    assert not ladder.a.sad.log[1:]  # nothing was installed; the SPI went back
    refused(ladder)


def test_identities_default_to_addresses():
    ladder = Ladder(a=[peer("a", local_id=None, remote_id=None)], b=[peer("b", local_id=None, remote_id=None)]).up()
    assert ladder.a.status[0].remote_id == "192.0.2.2"


def test_the_tunnel_is_found_by_identity_where_anybody_may_come():
    alice = peer("b", tunnel="alice", remotes=(), remote_id=Identity.from_text("alice@example"), auth=OTHER_KEY)
    bob = peer("b", tunnel="to-a", remotes=(), remote_id=Identity.from_text("bob@example"))
    ladder = Ladder(a=[peer("a", local_id=Identity.from_text("bob@example"))], b=[alice, bob]).up()
    assert ladder.b.core.status("alice", ladder.clock()) == ()
    assert len(ladder.b.core.status("to-a", ladder.clock())) == 1


def test_a_tunnel_is_not_entered_by_the_weaker_proposal_of_another():
    """IKE_SA_INIT is answered before the identity is known; the suite must be good for the tunnel it turns out to be."""
    weak = peer(
        "b",
        tunnel="weak",
        remotes=(),
        remote_id=Identity.from_text("weak.example"),
        ike_proposals=WEAK,
    )
    strong = peer("b", remotes=())
    ladder = Ladder(a=[peer("a", ike_proposals=WEAK)], b=[weak, strong])
    ladder.initiate("a")
    ladder.settle()
    assert "tunnel to-a does not admit the IKE proposal aes128-sha1" in failure(ladder.b).text
    refused(ladder)


def test_no_ike_proposal_in_common_is_explained():
    ladder = Ladder(a=[peer("a", ike_proposals=parse_ike(["aes256gcm16-prfsha384-ecp384"]))])
    ladder.initiate("a")
    # IKE_SA_INIT -->, <-- NO_PROPOSAL_CHOSEN, which anybody could have sent
    ladder.settle()
    assert ladder.a.events[-1].kind is Kind.HINT
    assert ladder.a.core.counters().sessions == 1
    ladder.run(3)
    assert failure(ladder.a).cause is Cause.PROPOSAL
    assert "aes256gcm16" in failure(ladder.a).text
    told = failure(ladder.b)
    assert "peer's: aes256gcm16-prfsha384-ecp384" in told.text
    assert "differs:" in told.text
    refused(ladder)


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    openssl = OpenSsl(tmp_path_factory.mktemp("pki"))
    openssl.certificate("ca", "/CN=Test CA", extensions=CA)
    openssl.certificate("otherca", "/CN=Other CA", extensions=CA)
    for site, kind in (("a", "ec"), ("b", "rsa")):
        openssl.certificate(f"gw{site}", f"/CN=gw{site}", "ca", f"subjectAltName=DNS:gw{site}.example", kind)
    return openssl


def signed(ca, site, authority="ca"):
    credential = Credential.from_files(ca.path(f"gw{site}.crt"), ca.path(f"gw{site}.key"))
    return peer(site, auth=SignatureAuth(credential, Trust(load_certificates(ca.path(f"{authority}.crt")), (), Revocation.OFF)))


def with_certificates(ca, **changes):
    peers = {site: [changes.get(site, signed(ca, site))] for site in ("a", "b")}
    return Ladder(**peers, epoch=NOW - timedelta(seconds=1000))


@pytest.mark.parametrize("site", ["a", "b"])
def test_certificates_of_both_kinds_bring_it_up(ca, site):
    with_certificates(ca).up(site)


def test_the_responder_asks_for_a_certificate_before_the_initiator_sends_one(ca):
    ladder = with_certificates(ca)
    ladder.initiate("a")
    # IKE_SA_INIT -->, <-- IKE_SA_INIT with CERTREQ
    assert ladder.deliver("b")
    answer = parse_message(ladder.wire.log[-1][0].data[0])
    assert answer.get(CertificateRequest) == certificate_request(signed(ca, "b").auth.trust)


def test_a_certificate_of_an_unknown_authority_is_refused(ca):
    ladder = with_certificates(ca, b=signed(ca, "b", authority="otherca"))
    ladder.initiate("a")
    ladder.settle()
    assert failure(ladder.b).cause is Cause.AUTHENTICATION
    assert "issuer CN=Test CA is not known" in failure(ladder.b).text
    refused(ladder)


def test_a_shared_key_does_not_pass_where_certificates_are_wanted(ca):
    ladder = with_certificates(ca, a=peer("a"))
    ladder.initiate("a")
    ladder.settle()
    assert "by a shared key, certificates are configured" in failure(ladder.b).text
    refused(ladder)


def in_fragments(ca):
    return with_certificates(ca, **{site: replace(signed(ca, site), datagram=576) for site in ("a", "b")})


def test_messages_with_certificates_go_in_fragments(ca):
    ladder = in_fragments(ca).up()
    sizes = [len(delivery.data[0]) for delivery, _ in ladder.wire.log if delivery.data[0][18] == 35]
    assert len(sizes) > 4
    assert max(sizes) <= 576 - 28


@pytest.mark.parametrize("fault", ["drop", "double", "delay"])
def test_a_fault_in_any_fragment_changes_nothing_in_the_end(ca, fault):
    for sender in ("a", "b"):
        for number in range(2, 6):
            ladder = in_fragments(ca)
            getattr(ladder.wire, fault)(sender, OTHER[sender], number)
            ladder.initiate("a")
            ladder.run(30)
            ladder.check()


# --- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_simultaneous_initiation_ends_in_one_ike_sa(seed):
    ladder = Ladder(seed=seed)
    ladder.initiate("a")
    ladder.initiate("b")
    # IKE_SA_INIT -->  <-- IKE_SA_INIT, and so on; INITIAL_CONTACT in both; the lower nonce is deleted
    ladder.run(60)
    ladder.check()
    for site in ladder.sites.values():
        assert len(site.sad.sending) == len(site.sad.inbound) == 1


@pytest.mark.parametrize("seed", range(6))
def test_of_two_begun_at_once_we_delete_the_peers_too_when_it_does_not(seed, monkeypatch):
    """Not every peer knows that rule: without it both would stay, and both be authenticated anew."""
    ladder = Ladder(seed=seed)
    known = uniqueness.consequences
    there = ladder.b.core.gateway
    monkeypatch.setattr(uniqueness, "consequences", lambda new, *more: [] if new.host is there else known(new, *more))
    ladder.initiate("a")
    ladder.initiate("b")
    ladder.run(60)
    ladder.check()
    for site in ladder.sites.values():
        assert len(site.status) == 1


@pytest.mark.parametrize("seed", range(6))
def test_of_two_begun_at_once_one_stays_where_initial_contact_ends_any_other(seed, monkeypatch):
    """Such a peer forgets without a word the one that the lower nonce would have left."""
    ladder = Ladder(seed=seed)
    known = uniqueness.consequences
    there = ladder.b.core.gateway

    def forgetful(new, others, now):
        if new.host is not there or not new.ends.initial_contact:
            yield from known(new, others, now)
        else:
            for other in others:
                yield other, partial(other.end, Cause.REPLACED, "INITIAL_CONTACT", now)

    monkeypatch.setattr(uniqueness, "consequences", forgetful)
    ladder.wire.drop("a", "b", 3)  # so that A's IKE_AUTH comes when B's own IKE SA is up
    ladder.initiate("a")
    ladder.initiate("b")
    ladder.run(60)
    ladder.check()
    assert [len(site.status) for site in ladder.sites.values()] == [1, 1]


def test_a_second_ike_sa_replaces_the_first():
    ladder = Ladder().up()
    before = ladder.a.status[0].spi_i
    ladder.a.core.terminate("to-b", ladder.clock())  # A restarts: the DELETE never leaves
    ladder.initiate("a")
    # IKE_AUTH with INITIAL_CONTACT: B forgets the first without a word
    ladder.settle()
    ladder.run(40)
    assert len(ladder.b.status) == 1
    assert ladder.b.status[0].spi_i != before
    assert Cause.REPLACED in ladder.b.causes()


def test_unique_keep_refuses_a_second_one():
    ladder = Ladder(
        [peer("a", encapsulation="esp"), peer("a", tunnel="again", encapsulation="esp")], [peer("b", unique=Unique.KEEP)]
    ).up()
    path = ladder.path("a")
    elsewhere = type(path)(path.local._replace(port=1500), path.remote)  # the peer that is there would be authenticating anew
    ladder.a.do(ladder.a.core.initiate("again", elsewhere, ladder.clock()))
    ladder.settle()
    assert "unique = keep" in failure(ladder.b).text
    assert len(ladder.b.status) == 1


def test_two_tunnels_of_the_same_identities_stand_side_by_side():
    """The second sends no INITIAL_CONTACT, which would delete its sibling, and traffic selectors tell which tunnel is meant."""
    nets = {"a": proxy_id("10.1.9.0/24", "10.2.9.0/24"), "b": proxy_id("10.2.9.0/24", "10.1.9.0/24")}
    second = {site: peer(site, tunnel="second", proxy_ids=(nets[site],)) for site in nets}
    ladder = Ladder(a=[peer("a"), second["a"]], b=[peer("b"), second["b"]]).up()
    ladder.a.do(ladder.a.core.initiate("second", ladder.path("a"), ladder.clock()))
    ladder.run(60)
    ladder.check(ikes=1)
    assert [len(ladder.b.core.status(name, ladder.clock())) for name in ("to-a", "second")] == [1, 1]
    assert len(ladder.b.sad.sending) == 2


def test_eap_is_refused():
    """IKE_AUTH without AUTH asks for EAP (RFC 7296 §2.16)."""
    ladder = Ladder()
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")
    session = ladder.a.core.sessions("to-b")[0]
    request = None if session.task is None else session.task.build(session, ladder.clock())
    payloads = [payload for payload in request or () if not isinstance(payload, Authentication)]
    datagrams = seal(session, Header(session.sa.spi_i, session.sa.spi_r, 35, 8, 1), payloads).datagrams
    ladder.b.do(ladder.b.core.receive(datagrams[0], ladder.path("b"), ladder.clock()))
    assert "EAP" in failure(ladder.b).text
    assert not ladder.b.sad.inbound
