"""What a proof rests on is renewed: CRLs by newer ones, our certificate and the authorities by a reload. Nothing stops for it."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.certificates import Credential, Revocation
from ipsec_dp.ike.effect import Effect

from .ladder import Ladder
from .test_proof import AUTHORITY, END, EPOCH, LONG, certificate, credential, crl, ended, leaf, run_to, signed, up

# ---- a CRL that is out of date


def strict(seconds, caller="a", **changes):
    """Both up under strict revocation, with a CRL that is good for so long."""
    changes |= {"crls": [crl(seconds=seconds)], "revocation": Revocation.STRICT}
    ladder = Ladder(**{site: [signed(site, credential(site), **changes)] for site in "ab"}, epoch=EPOCH)
    return ladder.up(caller)


def renew_crl(ladder, site, seconds):
    """A CRL of later is there."""
    who = ladder.sites[site]
    (session,) = [one for one in who.core.sessions(who.tunnel) if one.in_use]
    new = signed(site, session.peer.auth.credential, [crl(seconds=seconds)], revocation=Revocation.STRICT)
    who.core.set_peers([replace(session.peer, auth=new.auth)])
    who.do(who.core.judge_again(who.tunnel, ladder.clock()))


@pytest.mark.parametrize("caller", "ab")
@pytest.mark.parametrize("start", ["respond", "start"])
def test_where_revocation_is_strict_the_end_of_the_crl_ends_the_ike_sa(caller, start):
    """Nothing says any more that the peer's certificate is good; to authenticate again before brings no other CRL."""
    ladder = strict(END, caller, start=start)
    run_to(ladder, END - 2)
    ladder.check()
    assert sum(text in ("ab IKE_AUTH", "ba IKE_AUTH") for text in ladder.messages()) == 1
    run_to(ladder, END + 60)
    for site in ladder.sites.values():
        assert not site.sad.inbound
    texts = [event.text for site in ladder.sites.values() for event in site.events if event.kind is Kind.IKE_DOWN]
    assert any("no current CRL of CN=root, and revocation is strict" in text for text in texts)


def test_nobody_authenticates_by_it_afterwards():
    ladder = strict(END, start="respond")
    run_to(ladder, END + 60)
    before = len(ladder.a.ups)
    ladder.initiate("a")
    ladder.settle()
    assert len(ladder.a.ups) == before
    assert not ladder.a.sad.inbound


def test_a_newer_crl_in_time_lets_it_live_to_the_end_of_that_one():
    ladder = strict(END, start="respond")
    for site in "ab":
        renew_crl(ladder, site, 3 * END)
    run_to(ladder, 3 * END - 2)
    ladder.check()
    assert not ladder.a.causes()
    run_to(ladder, 3 * END + 60)
    assert not ladder.a.sad.inbound
    assert not ladder.b.sad.inbound


def test_a_certificate_that_ends_before_the_crl_is_authenticated_again_all_the_same():
    own = {"a": credential("a"), "b": credential("b", END)}
    changes = {"crls": [crl()], "revocation": Revocation.STRICT, "start": "start"}
    ladder = Ladder(**{site: [signed(site, own[site], **changes)] for site in "ab"}, epoch=EPOCH).up()
    run_to(ladder, END - 2)
    ladder.check()
    assert ladder.messages().count("ab IKE_AUTH") > 1


def test_unless_it_is_strict_a_crl_that_is_out_of_date_ends_nothing():
    changes = {"crls": [crl(seconds=END)], "start": "respond"}
    ladder = Ladder(**{site: [signed(site, credential(site), **changes)] for site in "ab"}, epoch=EPOCH).up()
    run_to(ladder, 2 * END)
    ladder.check()
    assert not ladder.a.causes()


# ---- reloads that only renew what is shown


def renew(ladder, site, new, effect):
    """A reload there; nothing stops for it."""
    who = ladder.sites[site]
    before = len(who.events)
    who.do(who.core.reconfigure([new], {who.tunnel: effect}, ladder.clock()))
    assert who.sad.sending
    return who.events[before:]


def carrying(ladder):
    def step():
        assert ladder.a.sad.sending
        assert ladder.b.sad.sending

    return step


@pytest.mark.parametrize("caller", "ab")
@pytest.mark.parametrize("site", "ab")
def test_another_certificate_of_ours_is_shown_without_a_break(caller, site):
    """The new IKE SA comes first, then the old one goes."""
    ladder = up(caller, seconds=LONG, start="start")
    own = credential(site)
    renew(ladder, site, signed(site, own, start="start"), Effect.REAUTH)
    ladder.run(30, carrying(ladder))
    ladder.check()
    assert leaf(ladder, site) == own.certificates[0]
    assert [event.kind for event in ladder.sites[site].events].count(Kind.IKE_REAUTHENTICATED) == 1
    assert not ladder.a.causes()
    assert not ladder.b.causes()


def test_one_that_the_peer_does_not_accept_leaves_the_old_ike_sa():
    """It is told, and tried again."""
    ladder = up("a", seconds=LONG, start="start")
    key = ec.generate_private_key(ec.SECP256R1())
    forged = certificate("gwa", key, key, "nobody", LONG, (x509.SubjectAlternativeName([x509.DNSName("gwa.example")]), False))
    renew(ladder, "a", signed("a", Credential((forged,), key), start="start"), Effect.REAUTH)
    ladder.run(20, carrying(ladder))
    assert Kind.IKE_FAILED in ladder.a.kinds()
    assert Kind.IKE_REAUTHENTICATED not in ladder.a.kinds()
    renew(ladder, "a", signed("a", credential("a"), start="start"), Effect.REAUTH)
    ladder.run(30, carrying(ladder))
    assert Kind.IKE_REAUTHENTICATED in ladder.a.kinds()


def test_who_waits_for_the_peer_to_call_says_that_it_does():
    ladder = up("a", seconds=LONG, start="respond")
    (event,) = renew(ladder, "b", signed("b", credential("b"), start="respond"), Effect.REAUTH)
    assert (event.kind, "when it authenticates again" in event.text) == (Kind.WARNING, True)
    ladder.run(60, carrying(ladder))
    assert ladder.messages().count("ab IKE_AUTH") == 1


def test_a_reload_between_ike_auth_and_its_answer_shows_the_new_one_afterwards():
    ladder = Ladder(**{site: [signed(site, credential(site), start="start")] for site in "ab"}, epoch=EPOCH)
    ladder.initiate("a")
    while ladder.messages("a")[-1] != "ab IKE_AUTH":
        assert ladder.deliver("b")
        assert ladder.deliver("a")
    own = credential("a")
    ladder.a.do(ladder.a.core.reconfigure([signed("a", own, start="start")], {"to-b": Effect.REAUTH}, ladder.clock()))
    ladder.settle()
    ladder.run(30)
    ladder.check()
    assert leaf(ladder, "a") == own.certificates[0]


@pytest.mark.parametrize("site", "ab")
def test_an_authority_that_is_added_changes_nothing_for_who_is_there(site):
    ladder = up(seconds=LONG, start="start")
    key = ec.generate_private_key(ec.SECP256R1())
    other = certificate("other", key, key, "other", LONG, AUTHORITY)
    own = credential(site)
    assert renew(ladder, site, signed(site, own, also=[other], start="start"), Effect.RECHECK) == []
    ladder.run(60, carrying(ladder))
    assert ladder.messages().count("ab IKE_AUTH") == 1


@pytest.mark.parametrize("site", "ab")
def test_one_that_is_taken_out_ends_who_proved_himself_by_it_and_he_is_called_anew(site):
    ladder = up(seconds=LONG, start="start")
    key = ec.generate_private_key(ec.SECP256R1())
    other = certificate("other", key, key, "other", LONG, AUTHORITY)
    who = ladder.sites[site]
    new = signed(site, credential(site), authority=other, start="start")
    who.do(who.core.reconfigure([new], {who.tunnel: Effect.RECHECK}, ladder.clock()))
    assert "its issuer CN=root is not known" in ended(who)
