"""The end of a proof ends the IKE SA: by the calendar, by a CRL, by a reload; in both roles, told, and in time."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.certificates import Credential, Revocation, Trust
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.negotiation import with_spi
from ipsec_dp.ike.peer import Liveness, SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.proof import LOOK
from ipsec_dp.ike.v2.wire import NotifyType

from .ladder import IKE, OTHER, Ladder, peer
from .pki import NOW
from .test_session_attacks import Traitor, errors

ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
END = 5000.0  # seconds after the start, of what runs out
LONG = 90 * 86_400.0
EPOCH = NOW


def certificate(subject, key, signer, issuer, seconds, *extensions):
    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(EPOCH - timedelta(days=1)).not_valid_after(EPOCH + timedelta(seconds=seconds))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


AUTHORITY = (x509.BasicConstraints(ca=True, path_length=None), True)
ROOT = certificate("root", ROOT_KEY, ROOT_KEY, "root", LONG, AUTHORITY)


def credential(site, seconds=LONG, through=None):
    """Of a site, which ends after `seconds`; `through`: seconds of an authority between it and the root."""
    key, between = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signer, issuer = (ROOT_KEY, "root") if through is None else (between, "between")
    names = x509.SubjectAlternativeName([x509.DNSName(f"gw{site}.example")]), False
    chain = [certificate(f"gw{site}", key, signer, issuer, seconds, names)]
    chain += [] if through is None else [certificate("between", between, ROOT_KEY, "root", through, AUTHORITY)]
    return Credential(tuple(chain), key)


def crl(*revoked, seconds=30 * 86_400.0):
    """Good for so long."""
    builder = x509.CertificateRevocationListBuilder(ROOT.subject, EPOCH, EPOCH + timedelta(seconds=seconds))
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(EPOCH).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(ROOT_KEY, hashes.SHA256())


def signed(site, own, crls=(), authority=ROOT, revocation=Revocation.IF_PRESENT, also=(), **changes):
    return peer(site, auth=SignatureAuth(own, Trust((authority, *also), tuple(crls), revocation)), **changes)


def up(caller="a", short="b", seconds=END, through=None, **changes):
    """Up, begun by `caller`; the certificate of `short` ends after `seconds`."""
    own = {site: credential(site) for site in "ab"} | {short: credential(short, seconds, through)}
    ladder = Ladder(a=[signed("a", own["a"], **changes)], b=[signed("b", own["b"], **changes)], epoch=EPOCH)
    return ladder.up(caller)


def run_to(ladder, second, step=None):
    """To a second after EPOCH."""
    ladder.run(second - ladder.clock(), step)


def ended(site):
    """It carries nothing any more, and has said why, once."""
    (event,) = [event for event in site.events if event.kind is Kind.IKE_DOWN]
    assert (event.cause, event.again) == (Cause.AUTHENTICATION, True)
    assert not site.sad.inbound
    assert not site.sad.outbound
    assert not site.ups
    return event.text


@pytest.mark.parametrize("caller", "ab")
@pytest.mark.parametrize("start", ["respond", "start"])
def test_a_certificate_that_runs_out_ends_the_ike_sa(caller, start):
    """B's. It is tried to authenticate again before, where A called or may call, which brings the same certificate."""
    ladder = up(caller, start=start)
    run_to(ladder, END - 2)
    ladder.check()
    assert (ladder.messages().count("ab IKE_AUTH") > 1) is (start == "start" or caller == "a")
    ladder.run(3)
    assert "is valid from" in ended(ladder.a)
    assert ladder.b.causes()[-1] is Cause.PEER
    assert not ladder.b.sad.inbound


def test_so_does_one_of_an_authority_between():
    ladder = up(seconds=LONG, through=END)
    run_to(ladder, END - 2)
    ladder.check()
    ladder.run(3)
    assert "does not lead to one of our authorities" in ended(ladder.a)


def test_one_that_is_good_for_long_is_left_alone():
    ladder = up(seconds=LONG)
    ladder.run(2 * END)
    ladder.check()
    assert ladder.messages().count("ab IKE_AUTH") == 1


@pytest.mark.parametrize("caller", "ab")
def test_a_peer_that_has_another_certificate_by_then_stays_up_without_a_break(caller):
    ladder = up(caller, start="start")
    ladder.b.core.set_peers([signed("b", credential("b", LONG), start="start")])

    def carries():
        assert ladder.a.sad.sending
        assert ladder.b.sad.sending

    run_to(ladder, END + 500, carries)
    ladder.check()
    assert not ladder.a.causes()
    assert Kind.IKE_REAUTHENTICATED in ladder.a.kinds()
    assert len(ladder.a.ups) == 1


def test_a_rekey_does_not_outlive_it():
    ladder = up(start="respond")
    for site in ladder.sites.values():
        site.do(site.core.rekey(site.tunnel, ladder.clock(), ike=True))
        ladder.settle()
    ladder.b.do(ladder.b.core.rekey("to-a", ladder.clock(), ike=True))
    ladder.settle()
    ladder.check()
    run_to(ladder, END + 1)
    ended(ladder.a)


def test_while_the_host_was_suspended():
    """The clock goes on, and the first timer afterwards sees that it is over."""
    ladder = up(start="respond")
    ladder.clock.advance(10 * END)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    assert not ladder.a.sad.inbound
    ended(ladder.a)


def test_the_calendar_is_set_forward():
    ladder = up(start="respond")
    ladder.run(100)
    ladder.a.calendar += timedelta(seconds=END)
    ladder.run(LOOK + 1)
    ended(ladder.a)


def test_the_calendar_is_set_back():
    ladder = up(start="respond")
    run_to(ladder, END - 100)
    ladder.a.calendar -= timedelta(seconds=1000)
    ladder.run(1000)
    ladder.check()
    ladder.run(101)
    ended(ladder.a)


# ---- CRLs


def revoke(ladder, *revoked, site="a"):
    """A CRL that is new to a site."""
    who = ladder.sites[site]
    (session,) = [one for one in who.core.sessions(who.tunnel) if one.in_use]
    own = session.peer.auth.credential
    who.core.set_peers([signed(site, own, [crl(*revoked)], start="respond", liveness=Liveness(0.0))])
    who.do(who.core.judge_again(who.tunnel, ladder.clock()))


def leaf(ladder, site):
    other = ladder.sites[OTHER[site]]
    (session,) = [one for one in other.core.sessions(other.tunnel) if one.in_use]
    return session.ends.certificates[0]


@pytest.mark.parametrize("caller", "ab")
def test_a_crl_that_names_it_ends_it_at_once(caller):
    ladder = up(caller, seconds=LONG, start="respond")
    revoke(ladder, ROOT)  # another one
    ladder.settle()
    ladder.check()
    revoke(ladder, leaf(ladder, "b"))
    assert "is revoked" in ended(ladder.a)
    ladder.settle()
    assert not ladder.b.sad.inbound


def test_a_peer_that_answers_nothing_does_not_put_it_off():
    """A request of ours is under way, so that our DELETE has to wait; nothing is carried meanwhile, nor made."""
    ladder = up(seconds=LONG, start="respond")
    traitor = Traitor(Ladder(a=[signed("a", credential("a"))], b=[signed("b", credential("b"))], epoch=EPOCH).up())
    ladder = traitor.ladder
    ladder.b.do(ladder.b.core.rekey("to-a", ladder.clock()))
    while ladder.wire.take("a") is not None:
        pass
    revoke(ladder, leaf(ladder, "a"), site="b")
    assert "is revoked" in ended(ladder.b)
    assert errors(traitor.child()) == [NotifyType.TEMPORARY_FAILURE]
    rekey = traitor.ask(
        36,
        p.SecurityAssociation(with_spi(IKE, b"rekeyspi")),
        p.Nonce(bytes(32)),
        p.KeyExchangePayload(31, bytes([9]) + bytes(31)),
    )
    assert errors(rekey) == [NotifyType.TEMPORARY_FAILURE]
    assert not ladder.b.sad.inbound
    ladder.run(300)
    assert ladder.b.core.counters().sessions == 0


def test_what_a_rekey_under_way_makes_of_it_ends_too():
    ladder = up(seconds=LONG, start="respond")
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.deliver("b")
    revoke(ladder, leaf(ladder, "b"))
    ladder.run(120)
    ended(ladder.a)
    for site in ladder.sites.values():
        assert site.core.counters().sessions == 0
    assert Kind.IKE_REKEYED not in ladder.a.kinds()


# ---- reloads


def reload(ladder, site, new, effect=Effect.RESTART):
    who = ladder.sites[site]
    before = len(who.events)
    who.do(who.core.reconfigure([] if new is None else [new], {who.tunnel: effect}, ladder.clock()))
    assert not who.sad.inbound
    return [(event.kind, event.cause, event.text) for event in who.events[before:]]


@pytest.mark.parametrize("site", "ab")
def test_another_shared_key_ends_it_and_is_told(site):
    other = "gwb.example" if site == "a" else "gwa.example"
    changed = SharedKeyAuth(PreSharedKey.from_text("another secret from now on"))
    told = reload(Ladder().up(), site, peer(site, auth=changed))
    assert told == [(Kind.WARNING, Cause.AUTHENTICATION, f"ended by a reload: the shared key with {other} is another one now")]
    assert reload(Ladder().up(), site, peer(site)) == [], "the same key: it begins anew for another reason"
    assert reload(Ladder().up(), site, None) == [], "who takes a tunnel out knows it"


@pytest.mark.parametrize("site", "ab")
def test_an_identity_that_is_no_longer_admitted(site):
    ((_, _, text),) = reload(Ladder().up(), site, peer(site, remote_id=Identity.from_text("else.example")))
    assert text.endswith(".example is no longer admitted")


@pytest.mark.parametrize("site", "ab")
def test_an_authority_that_was_taken_out(site):
    ladder = up(seconds=LONG)
    own = credential(site)
    key = ec.generate_private_key(ec.SECP256R1())
    other = certificate("other", key, key, "other", LONG, AUTHORITY)
    ((kind, cause, text),) = reload(ladder, site, signed(site, own, authority=other))
    assert (kind, cause) == (Kind.WARNING, Cause.AUTHENTICATION)
    assert "its issuer CN=root is not known" in text
    assert reload(up(seconds=LONG), site, signed(site, own)) == []


def test_a_shared_key_in_the_place_of_certificates_and_the_other_way_round():
    ((_, _, text),) = reload(up(seconds=LONG), "a", peer("a"))
    assert "prove itself by a shared key now" in text
    ((_, _, text),) = reload(Ladder().up(), "a", signed("a", credential("a")))
    assert "the shared key with gwb.example is another one now" in text


def test_what_a_key_is_compared_by():
    one, same, other = (PreSharedKey.from_text(text) for text in ("a secret", " a secret\n", "another"))
    assert one.same_as(same)
    assert not one.same_as(other)
    assert replace(peer("a"), auth=SharedKeyAuth(one)) != replace(peer("a"), auth=SharedKeyAuth(same)), "which is why"
