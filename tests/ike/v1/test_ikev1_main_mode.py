"""Main mode as message ladders: by shared key and by signatures, both roles, what is refused and what is then said."""

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Cause, Endpoint, Kind, Origin, Path
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.certificates import Credential, Revocation, Trust, load_certificates
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1.wire import HEADER
from tests.ike.ladder import OTHER
from tests.ike.pki import CA, NOW, OpenSsl

from .gateways import Gateways, peer

UP = [Kind.IKE_UP, Kind.CHILD_UP]


@pytest.mark.parametrize("site", ["a", "b"])
def test_six_and_three_messages_bring_both_phases_up(site):
    gateways, other = Gateways(), OTHER[site]
    gateways.initiate(site)
    # 1: SA, VID -->, <-- 2: SA, VID; 3: KE, NONCE, NAT-D -->, <-- 4: KE, NONCE, NAT-D; 5*: ID, HASH -->, <-- 6*: ID, HASH
    for _ in range(3):
        assert gateways.deliver(other)
        assert gateways.deliver(site)
    assert [one.kinds() for one in gateways.sites.values()] == [[Kind.IKE_UP]] * 2
    assert not any(one.sad.log for one in gateways.sites.values())
    # quick mode 1*: HASH(1), SA, NONCE, IDci, IDcr -->: the responder receives before its answer leaves
    assert gateways.deliver(other)
    assert gateways.installs(other) == ["InstallInbound", "InstallOutbound"]
    # <-- 2*: HASH(2), …: the initiator sends
    assert gateways.deliver(site)
    assert gateways.installs(site) == ["InstallInbound", "InstallOutbound", "SwitchOutbound"]
    # 3*: HASH(3) -->: so does the responder
    assert gateways.deliver(other)
    assert gateways.installs(other) == ["InstallInbound", "InstallOutbound", "SwitchOutbound"]
    gateways.check()
    assert gateways.a.kinds() == gateways.b.kinds() == UP
    assert gateways.modes() == [f"{site}{other} main", f"{other}{site} main"] * 3 + [
        f"{site}{other} quick",
        f"{other}{site} quick",
        f"{site}{other} quick",
    ]
    assert gateways.faults() == {"a": {}, "b": {}}
    assert [status.version for status in gateways.a.status] == [1]
    assert {one.core.counters().half_open for one in gateways.sites.values()} == {0}


def test_nothing_is_sent_of_its_own_accord_once_it_is_up():
    gateways = Gateways().start()
    gateways.run(600)
    assert len(gateways.modes()) == 9


def other_secret(site):
    return peer(site, auth=SharedKeyAuth(PreSharedKey.from_text("another secret")))


def test_another_secret_is_no_message_to_the_responder():
    gateways = Gateways(b=[other_secret("b")])
    gateways.initiate()
    gateways.run(200)
    (failed,) = [event for event in gateways.a.events if event.kind is Kind.IKE_FAILED]
    assert "did not answer message 5 of main mode" in failed.text
    assert "the shared keys or the identities differ" in failed.text
    (failed,) = [event for event in gateways.b.events if event.kind is Kind.IKE_FAILED]
    assert "cannot be read: the shared keys differ" in failed.text
    assert failed.origin is Origin.CLAIMED, "it has not shown that it is the peer"
    assert not gateways.a.sad.log
    assert not gateways.b.sad.log
    assert gateways.b.core.counters().half_open == gateways.b.core.counters().sessions == 0


@pytest.mark.parametrize("site", ["a", "b"])
def test_another_identity_is_refused_by_either_side(site):
    expects = {site: [peer(site, remote_id=Identity.from_text("else.example"))]}
    gateways = Gateways(**expects)
    gateways.initiate("a")
    gateways.run(200)
    (failed,) = [event for event in gateways.sites[site].events if event.kind is Kind.IKE_FAILED]
    assert f"expected else.example; the peer says it is gw{OTHER[site]}.example" in failed.text
    assert failed.cause is Cause.IDENTITY
    for one in gateways.sites.values():
        assert Kind.CHILD_UP not in one.kinds()
        assert not one.ups
        assert one.core.counters().sessions == 0
    said = [event.text for event in gateways.sites[OTHER[site]].events]
    assert any("AUTHENTICATION-FAILED" in text or "not who we say" in text for text in said)


def test_proposals_that_differ_are_told_on_both_sides():
    gateways = Gateways(b=[peer("b", ike_proposals=parse_ike(["aes128-sha256-ecp256"]))])
    gateways.initiate()
    gateways.run(200)
    assert gateways.modes() == ["ab main", "ba info"]
    assert gateways.b.events[0].text.endswith("differs: encryption (ours aes128, peer's aes256)")
    (hint, failed) = gateways.a.events
    assert (hint.kind, failed.kind, failed.cause) == (Kind.HINT, Kind.IKE_FAILED, Cause.PROPOSAL)
    assert "NO-PROPOSAL-CHOSEN: it takes none of our phase-1 proposals (aes256-sha256-ecp256-psk)" in failed.text
    assert failed.text.endswith("(not authenticated)")
    assert gateways.b.core.counters().sessions == 0


def test_a_forged_refusal_does_not_end_the_attempt():
    gateways = Gateways(b=[peer("b", ike_proposals=parse_ike(["aes128-sha256-ecp256"]))])
    gateways.initiate()
    gateways.settle()
    forged = next(delivery.data for delivery, _ in gateways.wire.log if delivery.sender == "b")[0]
    genuine = Gateways()
    genuine.initiate()
    own = genuine.wire.log[0][0].data[0]
    genuine.a.do(genuine.a.core.receive(own[:8] + forged[8:], genuine.path("a"), genuine.clock()))
    assert genuine.a.kinds() == [Kind.HINT]
    genuine.settle()
    genuine.check()


def test_who_is_not_expected_gets_no_answer():
    gateways = Gateways(b=[peer("b", remotes=(ip_address("192.0.2.77"),))])
    gateways.initiate()
    gateways.settle()
    assert gateways.modes() == ["ab main"]
    assert gateways.faults()["b"] == {"no_peer": 1}
    assert "no tunnel expects anybody from there" in gateways.b.events[0].text


# --- signatures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    """Certificates of both gateways with each kind of key, and one of another authority."""
    openssl = OpenSsl(tmp_path_factory.mktemp("pki"))
    openssl.certificate("ca", "/CN=authority", extensions=CA)
    openssl.certificate("other-ca", "/CN=another authority", extensions=CA)
    for site in "ab":
        for kind in ("rsa", "ec", "ec384", "ed25519"):
            name = f"gw{site}.example"
            openssl.certificate(f"{site}-{kind}", f"/CN={name}", "ca", f"subjectAltName=DNS:{name}", kind)
        openssl.certificate(f"{site}-other", f"/CN=gw{site}.example", "other-ca", f"subjectAltName=DNS:gw{site}.example")
    return openssl


def signing(ca, site, kind, **changes):
    credential = Credential.from_files(ca.path(f"{site}-{kind}.crt"), ca.path(f"{site}-{kind}.key"))
    trust = Trust(load_certificates(ca.path("ca.crt")), (), Revocation.OFF)
    return peer(site, auth=SignatureAuth(credential, trust), **changes)


@pytest.mark.parametrize("kind", ["rsa", "ec", "ec384"])
@pytest.mark.parametrize("site", ["a", "b"])
def test_signatures(ca, kind, site):
    gateways = Gateways([signing(ca, "a", kind)], [signing(ca, "b", kind)], epoch=NOW).start(site)
    gateways.check()
    assert gateways.a.kinds() == gateways.b.kinds() == UP


@pytest.mark.parametrize("site", ["a", "b"])
def test_another_authoritys_certificate_proves_nothing(ca, site):
    other = "other" if site == "a" else "ec", "ec" if site == "a" else "other"
    gateways = Gateways([signing(ca, "a", other[0])], [signing(ca, "b", other[1])], epoch=NOW)
    gateways.initiate("a")
    gateways.run(100)
    (failed,) = [event for event in gateways.sites[OTHER[site]].events if event.kind is Kind.IKE_FAILED]
    assert failed.cause is Cause.AUTHENTICATION
    assert "does not lead to one of our authorities" in failed.text
    assert not any(one.ups for one in gateways.sites.values())


def test_a_key_of_another_kind_is_told(ca):
    gateways = Gateways([signing(ca, "a", "ec")], [signing(ca, "b", "rsa")], epoch=NOW)
    gateways.initiate("a")
    gateways.run(100)
    assert "differs: authentication (ours rsa, peer's ecdsa256)" in gateways.b.events[0].text


def test_a_secret_does_for_none_who_must_sign(ca):
    gateways = Gateways([peer("a")], [signing(ca, "b", "rsa")], epoch=NOW)
    gateways.initiate("a")
    gateways.run(100)
    assert "differs: authentication (ours rsa, peer's psk)" in gateways.b.events[0].text


# --- NAT -------------------------------------------------------------------------------------------------------------


def behind_nat(gateways, port=31000):
    """a stands behind a NAT that gives it another port."""

    def translate(path, receiver):
        seen = Path(path.remote, path.local, path.natt)
        if receiver == "b":
            return Path(seen.local, Endpoint(seen.remote.address, port + (seen.natt is True)), seen.natt)
        return Path(Endpoint(seen.local.address, 4500 if seen.natt else 500), seen.remote, seen.natt)

    gateways.translate = translate
    return gateways


def test_a_nat_is_found_and_message_5_floats():
    gateways = behind_nat(Gateways())
    gateways.start("a")
    gateways.check()
    ports = [delivery.data[1].remote.port for delivery, _ in gateways.wire.log if delivery.sender == "a"]
    assert ports == [500, 500, 4500, 4500, 4500]
    assert [status.nat for status in (*gateways.a.status, *gateways.b.status)] == ["local", "remote"]
    assert gateways.b.status[0].path.remote.port == 31001
    assert [install.udp for one in gateways.sites.values() for install in one.sad.inbound.values()] == [True, True]


def test_without_nat_traversal_nothing_floats():
    gateways = Gateways([peer("a", encapsulation="esp")]).start()
    assert {delivery.data[1].remote.port for delivery, _ in gateways.wire.log} == {500}
    assert [install.udp for one in gateways.sites.values() for install in one.sad.inbound.values()] == [False, False]


@pytest.mark.parametrize("forces", ["a", "b"])
def test_encapsulation_is_forced_by_either_side(forces):
    gateways = Gateways(**{forces: [peer(forces, encapsulation="udp")]}).start("a")
    gateways.check()
    assert [install.udp for one in gateways.sites.values() for install in one.sad.inbound.values()] == [True, True]
    assert gateways.wire.log[4][0].data[1].remote.port == 4500


def test_a_mapping_follows_what_is_authentic_and_new_alone():
    """A new message moves it; the same one again, recorded, from elsewhere does not, nor does one that was altered."""
    gateways = behind_nat(Gateways()).start("a")
    gateways.run(30)
    behind_nat(gateways, 32000)
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock()))
    datagram, path = gateways.taken("b")
    elsewhere = Path(path.remote, Endpoint(ip_address("192.0.2.66"), 7), natt=True)
    forged = datagram[:-1] + bytes([datagram[-1] ^ 1])
    gateways.b.do(gateways.b.core.receive(forged, elsewhere, gateways.clock()))
    assert gateways.b.status[0].path.remote.port == 31001
    gateways.b.do(gateways.b.core.receive(datagram, gateways.translate(path, "b"), gateways.clock()))
    assert gateways.b.status[0].path.remote.port == 32001
    assert [moved.path.remote.port for moved in gateways.b.moved] == [32001]
    gateways.clock.advance(2.0)
    gateways.b.do(gateways.b.core.receive(datagram, elsewhere, gateways.clock()))
    assert gateways.b.status[0].path.remote.port == 32001
    gateways.run(5)
    gateways.check()


# --- what strangers cost ---------------------------------------------------------------------------------------------


def test_half_open_ones_end_by_time():
    gateways = Gateways()
    gateways.initiate("a")
    gateways.deliver("b")
    assert gateways.b.core.counters().half_open == 1
    gateways.wire.cut("a", "b")
    gateways.run(LIMITS.half_open_seconds + 1)
    assert gateways.b.core.counters().half_open == gateways.b.core.counters().sessions == 0
    assert gateways.b.kinds() == [Kind.WARNING], "that it does not go on was said, and its end is not worth an event"


def test_of_one_network_there_are_so_many_and_the_oldest_goes():
    gateways = Gateways()
    gateways.initiate("a")
    first = gateways.wire.log[0][0].data[0]
    path = gateways.path("b")
    for number in range(LIMITS.half_open_of_network + 10):
        begun = number.to_bytes(7, "big") + b"x" + first[8:]
        gateways.b.core.receive(begun, path, gateways.clock())
    counted = gateways.b.core.counters()
    assert (counted.half_open, counted.refused) == (LIMITS.half_open_of_network, 10)


def test_what_is_not_authenticated_gets_one_answer_of_one_datagram_at_the_most():
    """And none twice unasked: in thirty seconds nothing more leaves for somebody who only ever began."""
    gateways = Gateways()
    gateways.initiate("a")
    gateways.wire.cut("b", "a")
    assert gateways.deliver("b")
    gateways.wire.cut("a", "b")
    gateways.run(40)
    assert len(gateways.modes("b")) == 1


def test_clear_where_it_must_be_encrypted_does_nothing():
    gateways = Gateways()
    gateways.initiate("a")
    for _ in range(2):
        gateways.deliver("b")
        gateways.deliver("a")
    datagram, path = gateways.taken("b")
    clear = datagram[:19] + b"\0" + datagram[20:]
    gateways.b.do(gateways.b.core.receive(clear, gateways.translate(path, "b"), gateways.clock()))
    assert gateways.faults()["b"] == {"malformed": 1}
    gateways.b.do(gateways.b.core.receive(datagram, gateways.translate(path, "b"), gateways.clock()))
    gateways.settle()
    gateways.check()


@pytest.mark.parametrize("number", range(1, 10))
def test_an_altered_datagram_changes_nothing(number):
    """Any octet behind the header of any message: the genuine one, sent again, does what it would have done."""
    sender = "a" if number in (1, 3, 5, 7, 9) else "b"
    place = (number + 1) // 2 if number < 7 else {7: 4, 8: 4, 9: 5}[number]
    for octet in (HEADER, HEADER + 2, HEADER + 9, -1):
        gateways = Gateways()

        def alter(data, octet=octet):
            changed = bytearray(data[0])
            changed[octet] ^= 0x55
            return bytes(changed), data[1]

        gateways.wire.alter(sender, OTHER[sender], place, alter)
        gateways.initiate("a")
        gateways.run(100)
        if gateways.a.ups:
            gateways.check()
        else:
            assert number in (3, 4, 5, 6), "whoever is on the way can end a main mode that is not done yet, and nothing else"
        assert not [event for one in gateways.sites.values() for event in one.events if event.kind is Kind.CHILD_DOWN]


def test_a_hash_that_does_not_fit_proves_nothing():
    """Message 6 with another last block: identity and form are as they were, the hash is not."""
    gateways = Gateways()
    gateways.initiate("a")
    for receiver in ("b", "a", "b", "a", "b"):
        assert gateways.deliver(receiver)
    datagram, path = gateways.taken("a")
    forged = datagram[:-20] + bytes([datagram[-20] ^ 1]) + datagram[-19:]
    gateways.a.do(gateways.a.core.receive(forged, gateways.translate(path, "a"), gateways.clock()))
    assert not gateways.a.ups
    assert "its hash does not fit" in gateways.a.events[-1].text
    gateways.a.do(gateways.a.core.receive(datagram, gateways.translate(path, "a"), gateways.clock()))
    gateways.settle()
    gateways.check()


def test_a_forged_message_6_that_is_faster_does_not_end_the_attempt():
    gateways = Gateways()
    gateways.initiate("a")
    for receiver in ("b", "a", "b", "a", "b"):
        assert gateways.deliver(receiver)
    datagram, path = gateways.taken("a")
    forged = datagram[:HEADER] + bytes([datagram[HEADER] ^ 1]) + datagram[HEADER + 1 :]
    for each in (forged, datagram):
        gateways.a.do(gateways.a.core.receive(each, gateways.translate(path, "a"), gateways.clock()))
    gateways.settle()
    gateways.check()


def test_what_is_sent_again_is_counted_and_when_the_peer_was_heard():
    gateways = Gateways()
    gateways.wire.drop("a", "b", 1, 2)
    gateways.initiate("a")
    gateways.run(30)
    gateways.check()
    assert (gateways.a.core.retransmissions("to-b"), gateways.b.core.retransmissions("to-a")) == (2, 0)
    assert gateways.a.core.counters().retransmissions == 2
    assert gateways.a.status[0].heard > gateways.clock() - 31
    assert gateways.a.status[0].udp


def test_an_icmp_message_about_the_port_explains_a_silence():
    gateways = Gateways()
    gateways.wire.cut("a", "b")
    gateways.initiate("a")
    message = gateways.wire.log[0][0].data[0]
    core, path = gateways.a.core, gateways.path("a")
    gateways.a.do(core.unreachable(message[:16], path, "port unreachable", gateways.clock()))
    gateways.a.do(core.unreachable(b"another!" + message[8:16], path, "port unreachable", gateways.clock()))
    assert gateways.a.kinds() == [Kind.HINT]
    assert "UDP port 500 of 192.0.2.2 is not reached: port unreachable" in gateways.a.events[0].text
    gateways.wire.mend("a", "b")
    gateways.run(10)
    gateways.check()
