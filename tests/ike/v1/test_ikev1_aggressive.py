"""Aggressive mode as message ladders: by shared key and by signatures, both roles, what is refused and what is then said."""

import hashlib
import hmac

import pytest

from ipsec_dp.ike.actions import Cause, Endpoint, Kind, Path
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.certificates import Credential, Revocation, Trust, load_certificates
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.keymat import decrypt
from ipsec_dp.ike.v1.message import build_isakmp, build_payloads, parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.wire import HEADER, PayloadKind
from tests.ike.ladder import ADDRESSES, OTHER, proxy_id
from tests.ike.pki import CA, NOW, OpenSsl

from .gateways import Gateways, aggressive, texts
from .isakmp_peer import bodies, in_words, sent

UP = [Kind.IKE_UP, Kind.CHILD_UP]
SECRET = b"a secret both of them know"


def both(**changes):
    """Gateways of which each speaks aggressive mode."""
    return Gateways([aggressive("a", **changes.pop("of_a", {}))], [aggressive("b", **changes.pop("of_b", {}))], **changes)


def kinds(datagram):
    return [payload.type.name for payload in in_words(datagram).payloads]


@pytest.mark.parametrize("site", ["a", "b"])
def test_three_and_three_messages_bring_both_phases_up(site):
    gateways, other = both(), OTHER[site]
    gateways.initiate(site)
    # 1: SA, KE, NONCE, ID, VID -->
    assert kinds(sent(gateways, site, 1)) == ["SA", "KE", "NONCE", "ID", *["VENDOR_ID"] * 6]
    assert gateways.deliver(other)
    # <-- 2: SA, KE, NONCE, ID, HASH, VID, NAT-D: who answers has proven who it is, and nobody is anybody yet for it
    assert kinds(sent(gateways, other, 1)) == ["SA", "KE", "NONCE", "ID", "HASH", *["VENDOR_ID"] * 3, *["NAT_D"] * 2]
    assert [one.kinds() for one in gateways.sites.values()] == [[], []]
    assert gateways.sites[other].core.counters().half_open == 1
    # 3*: HASH, NAT-D, N(INITIAL-CONTACT) -->, and at once quick mode
    assert gateways.deliver(site)
    assert gateways.sites[site].kinds() == [Kind.IKE_UP]
    assert gateways.deliver(other)
    assert gateways.sites[other].kinds() == [Kind.IKE_UP]
    assert f" at {ADDRESSES[site]}" in gateways.sites[other].events[0].text
    gateways.settle()
    gateways.check()
    assert gateways.a.kinds() == gateways.b.kinds() == UP
    there, back = f"{site}{other}", f"{other}{site}"
    assert sorted(gateways.modes()) == sorted(
        [f"{there} aggressive", f"{back} aggressive", f"{there} aggressive", f"{there} quick", f"{back} quick", f"{there} quick"]
    )
    assert gateways.faults() == {"a": {}, "b": {}}
    assert {one.core.counters().half_open for one in gateways.sites.values()} == {0}


def test_nothing_is_sent_of_its_own_accord_once_it_is_up():
    gateways = both().start()
    gateways.run(600)
    assert len(gateways.modes()) == 6


def test_the_hashes_are_those_of_the_words_of_rfc_2409():
    """HASH_I and HASH_R, computed a second time from what was on the wire and the secret, over the initiator's whole SA body."""
    gateways = Gateways(
        [aggressive("a", ike_proposals=parse_ike(["aes256-aes128-sha256-ecp256"]))],
        [aggressive("b", ike_proposals=parse_ike(["aes128-sha256-ecp256"]))],
    ).start()
    one, two, three = sent(gateways, "a", 1), sent(gateways, "b", 1), sent(gateways, "a", 2)
    (sa_i, ke_i, ni, id_i), (sa_r, ke_r, nr, id_r) = bodies(one), bodies(two)
    assert sa_i != sa_r, "two transforms were offered, one chosen"
    cookie_i, cookie_r = two[:8], two[8:16]
    skeyid = hmac.digest(SECRET, ni + nr, "sha256")
    hash_r = hmac.digest(skeyid, ke_r + ke_i + cookie_r + cookie_i + sa_i + id_r, "sha256")
    assert in_words(two).get(p.HashPayload) == p.HashPayload(hash_r)
    suite, keys = gateways.a.core.ikev1.sessions("to-b")[0].keyed
    iv = hashlib.sha256(ke_i + ke_r).digest()[:16]
    header, first = parse_isakmp_header(three)
    opened = parse_payloads(header, first, decrypt(keys.cipher, iv, three[HEADER:]), padded=True)
    hash_i = hmac.digest(skeyid, ke_i + ke_r + cookie_i + cookie_r + sa_i + id_i, "sha256")
    assert opened.get(p.HashPayload) == p.HashPayload(hash_i)
    assert str(suite).startswith("aes128")


def test_the_secret_is_chosen_by_the_identity():
    """Two peers behind one address, each with a secret of its own, which main mode could not tell apart."""
    net = {"x": ("10.1.0.0/24", "10.2.0.0/24"), "y": ("10.1.8.0/24", "10.2.8.0/24")}

    def auth(name):
        return {"auth": SharedKeyAuth(PreSharedKey.from_text(f"secret of {name}"))}

    hub = [
        aggressive(
            "b", tunnel=f"to-{name}", remote_id=Identity.from_text(f"{name}.example"), proxy_ids=(proxy_id(b, a),), **auth(name)
        )
        for name, (a, b) in net.items()
    ]
    for name, (a, b) in net.items():
        who = {"local_id": Identity.from_text(f"{name}.example"), "proxy_ids": (proxy_id(a, b),)}
        gateways = Gateways([aggressive("a", **who, **auth(name))], hub).start("a")
        assert gateways.a.kinds() == gateways.b.kinds() == UP
        assert {event.tunnel for event in gateways.b.events} == {f"to-{name}"}


@pytest.mark.parametrize("site", ["a", "b"])
def test_the_group_is_that_of_the_first_proposal(site):
    """It is not negotiated; whoever answers takes it where it has it at all."""
    order = {"a": "aes256-sha256-ecp256-ecp384", "b": "aes256-sha256-ecp384-ecp256"}
    gateways = Gateways(*([aggressive(name, ike_proposals=parse_ike([text]))] for name, text in order.items())).start(site)
    gateways.check()
    group = {"a": "ecp256", "b": "ecp384"}[site]
    assert [str(session.sa.suite).endswith(group) for session in gateways.a.core.ikev1.sessions("to-b")] == [True]


def give(gateways, site, datagram):
    """As it comes from the address of the peer."""
    who = gateways.sites[site]
    who.do(who.core.receive(datagram, gateways.path(site), gateways.clock()))


# --- message 3, which nobody acknowledges ----------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_message_3_goes_again_until_the_peer_says_something(lost):
    gateways = both()
    gateways.wire.drop("a", "b", *(1 + 2 * number for number in range(1, lost + 1)))  # messages 2, 4, … of a are quick mode's
    gateways.wire.drop("a", "b", 2)
    gateways.initiate("a")
    gateways.run(60)
    gateways.check()
    sent_so_far = len(gateways.modes())
    gateways.run(600)
    assert len(gateways.modes()) == sent_so_far


def test_message_3_again_is_answered_by_nothing():
    gateways = both().start()
    third, before = sent(gateways, "a", 2), len(gateways.modes())
    give(gateways, "b", third)
    assert len(gateways.modes()) == before
    gateways.check()


def test_message_2_again_gets_message_3_again():
    """A peer may send it again; ours does not."""
    gateways = both().start()
    second, third = sent(gateways, "b", 1), sent(gateways, "a", 2)
    give(gateways, "a", second)
    assert gateways.taken("b")[0] == third


def test_a_renewal_that_is_silent_ends_its_repetitions():
    """Phase 1 alone is renewed: nothing follows that would acknowledge message 3, and the peer has no DPD to be asked by."""
    gateways = both().start()
    gateways.run(60)
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock(), ike=True))
    gateways.run(300)
    gateways.check()
    assert gateways.a.kinds() == [*UP, Kind.IKE_REKEYED]
    before = len(gateways.modes())
    gateways.run(600)
    assert len(gateways.modes()) == before


def in_clear(gateways, *further):
    """Message 3 as some peers send it: not encrypted."""
    session = gateways.a.core.ikev1.sessions("to-b")[0]
    _, two = sent(gateways, "a", 1), sent(gateways, "b", 1)
    three = sent(gateways, "a", 2)
    header, first = parse_isakmp_header(three)
    iv = hashlib.sha256(b"".join(session.negotiation.publics)).digest()[:16]
    opened = parse_payloads(header, first, decrypt(session.keyed[1].cipher, iv, three[HEADER:]), padded=True)
    payloads = [one for one in opened.payloads if type(one) is not p.NotificationPayload]
    kind, body = build_payloads([*payloads, *further])
    return build_isakmp(type(header)(header.cookie_i, two[8:16], 4, 0, 0), kind, body)


@pytest.fixture
def answered():
    """a is up, and b waits for message 3."""
    gateways = both()
    gateways.initiate("a")
    gateways.deliver("b")
    gateways.deliver("a")
    return gateways


def test_message_3_in_clear_is_taken(answered):
    """RFC 2409 §5.4 draws it so; what follows is encrypted, from the IV that both public values give."""
    give(answered, "b", in_clear(answered))
    assert answered.b.kinds() == [Kind.IKE_UP]
    session = answered.b.core.ikev1.sessions("to-a")[0]
    assert session.sa.last_block == hashlib.sha256(b"".join(session.negotiation.publics)).digest()[:16]


def test_what_is_owed_encryption_is_not_taken_in_clear(answered):
    contact = p.NotificationPayload(1, 24578, bytes(16))
    give(answered, "b", in_clear(answered, contact))
    assert answered.b.kinds() == []
    assert answered.faults()["b"] == {"malformed": 1}
    answered.settle()
    answered.check()


def test_a_message_3_that_proves_nothing_ends_it_and_is_told(answered):
    forged = in_clear(answered)
    at = forged.index(bytes([PayloadKind.NAT_D, 0, 0, 36]), HEADER) + 4  # the hash comes first
    give(answered, "b", forged[:at] + bytes([forged[at] ^ 1]) + forged[at + 1 :])
    (failed,) = answered.b.events
    assert (failed.kind, failed.cause) == (Kind.IKE_FAILED, Cause.AUTHENTICATION)
    assert "its hash does not fit" in failed.text
    assert answered.b.core.counters().sessions == 0


def test_a_peer_that_begins_anew_says_so():
    gateways = both().start()
    killed = gateways.a
    killed.core, killed.sad.inbound, killed.sad.outbound, killed.sad.sending = (
        IkeVersions(killed.core.environment, [aggressive("a")]),
        {},
        {},
        [],
    )
    gateways.initiate("a")
    gateways.settle()
    gateways.run(20)
    gateways.check()
    assert "the peer began anew (INITIAL-CONTACT)" in texts(gateways.b, Kind.CHILD_DOWN)
    assert len(gateways.b.sad.inbound) == 1


def test_both_call_at_once():
    gateways = both()
    for site in ("a", "b"):
        gateways.initiate(site)
    gateways.settle()
    gateways.run(60)
    gateways.check()
    assert [len(site.sad.sending) for site in gateways.sites.values()] == [1, 1]


# --- NAT -------------------------------------------------------------------------------------------------------------


def test_a_nat_is_found_and_message_3_floats():
    gateways = both()

    def translate(path, receiver):
        seen = Path(path.remote, path.local, path.natt)
        if receiver == "b":
            return Path(seen.local, Endpoint(seen.remote.address, 31000 + (seen.natt is True)), seen.natt)
        return Path(Endpoint(seen.local.address, 4500 if seen.natt else 500), seen.remote, seen.natt)

    gateways.translate = translate
    gateways.start("a")
    gateways.check()
    ports = [delivery.data[1].remote.port for delivery, _ in gateways.wire.log if delivery.sender == "a"]
    assert ports == [500, 4500, 4500, 4500]
    assert [status.nat for status in (*gateways.a.status, *gateways.b.status)] == ["local", "remote"]
    assert gateways.b.status[0].path.remote.port == 31001
    assert [install.udp for one in gateways.sites.values() for install in one.sad.inbound.values()] == [True, True]


@pytest.mark.parametrize("forces", ["a", "b"])
def test_encapsulation_is_forced_by_either_side(forces):
    gateways = both(**{f"of_{forces}": {"encapsulation": "udp"}}).start("a")
    gateways.check()
    assert [install.udp for one in gateways.sites.values() for install in one.sad.inbound.values()] == [True, True]
    assert gateways.wire.log[2][0].data[1].remote.port == 4500


def test_without_nat_traversal_nothing_floats():
    gateways = both(of_a={"encapsulation": "esp"}).start()
    assert {delivery.data[1].remote.port for delivery, _ in gateways.wire.log} == {500}


# --- signatures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    """Certificates of both gateways with each kind of key, and one of another authority."""
    openssl = OpenSsl(tmp_path_factory.mktemp("pki"))
    openssl.certificate("ca", "/CN=authority", extensions=CA)
    openssl.certificate("other-ca", "/CN=another authority", extensions=CA)
    for site in "ab":
        name = f"gw{site}.example"
        for kind in ("rsa", "ec", "ec384"):
            openssl.certificate(f"{site}-{kind}", f"/CN={name}", "ca", f"subjectAltName=DNS:{name}", kind)
        openssl.certificate(f"{site}-other", f"/CN={name}", "other-ca", f"subjectAltName=DNS:{name}")
    return openssl


def signing(ca, site, kind):
    credential = Credential.from_files(ca.path(f"{site}-{kind}.crt"), ca.path(f"{site}-{kind}.key"))
    return aggressive(site, auth=SignatureAuth(credential, Trust(load_certificates(ca.path("ca.crt")), (), Revocation.OFF)))


@pytest.mark.parametrize("kind", ["rsa", "ec", "ec384"])
@pytest.mark.parametrize("site", ["a", "b"])
def test_signatures(ca, kind, site):
    gateways = Gateways([signing(ca, "a", kind)], [signing(ca, "b", kind)], epoch=NOW).start(site)
    gateways.check()
    assert gateways.a.kinds() == gateways.b.kinds() == UP
    assert {"CR", "SIG", "CERT"} <= set(kinds(sent(gateways, OTHER[site], 1)))


@pytest.mark.parametrize("site", ["a", "b"])
def test_another_authoritys_certificate_proves_nothing(ca, site):
    of_a, of_b = ("other", "ec") if site == "a" else ("ec", "other")
    gateways = Gateways([signing(ca, "a", of_a)], [signing(ca, "b", of_b)], epoch=NOW)
    gateways.initiate("a")
    gateways.run(100)
    (failed,) = [event for event in gateways.sites[OTHER[site]].events if event.kind is Kind.IKE_FAILED]
    assert "does not lead to one of our authorities" in failed.text
    assert not any(one.ups for one in gateways.sites.values())
    if site == "a":  # it was up for itself, until the other had seen message 3
        assert texts(gateways.a, Kind.IKE_DOWN) == ["the peer says that we are not who we say"]
