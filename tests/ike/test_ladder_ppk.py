"""Post-quantum preshared keys as message ladders, in both roles: in IKE_AUTH (RFC 8784) and in IKE_INTERMEDIATE (RFC 9867)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.certificates import Credential, Revocation, Trust, load_certificates
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.ppk import Ppk
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import ppk_auth
from ipsec_dp.ike.v2.message import Header, build_message, parse_message
from ipsec_dp.ike.v2.payloads import Notify, SecurityAssociation
from ipsec_dp.ike.v2.protect import open_message, seal_message
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.ipsec.transforms import ADDITIONAL_KEY_EXCHANGES

from .ladder import IKE, OTHER, Ladder, peer
from .pki import CA, NOW, OpenSsl

ADDED = parse_ike(["aes128gcm16-prfsha256-x25519-ke1_mlkem768"])
PREFERS = parse_ike(["aes128gcm16-prfsha256-x25519-ke1_mlkem768", "aes128gcm16-prfsha256-x25519"])


def ppk(name="one", text="thirty-two octets of a good secret!"):
    return Ppk(name.encode(), PreSharedKey.from_text(text))


ONE, OTHER_KEY, TWO = ppk(), ppk(text="thirty-two octets of another secret"), ppk("two", "0x" + "ab" * 32)


def ladder_of(a=(ONE,), b=(ONE,), use=("required", "required"), seed=0, **changes):
    has = {"a": a, "b": b}
    peers = {site: [peer(site, ppks=has[site], ppk=how, **changes)] for site, how in zip("ab", use, strict=True)}
    return Ladder(**peers, seed=seed)


def without(*kinds):
    """Alters an IKE_SA_INIT message."""

    def change(data):
        message = parse_message(data[0])
        left = tuple(one for one in message.payloads if not (isinstance(one, Notify) and one.notify_type in kinds))
        assert left != message.payloads
        return build_message(replace(message, payloads=left)), data[1]

    return change


def quantum(ladder):
    """What both say of the IKE SA and of the CHILD_SA."""
    found = set()
    for site in ladder.sites.values():
        (ike,) = site.status
        (child,) = ike.children
        assert site.core.post_quantum(child.child) == child.post_quantum
        found.add((ike.post_quantum, child.post_quantum))
    ((ike, child),) = found
    assert ike.ike == child.ike
    return tuple(ike), child.child


def refused(ladder, *, first="a"):
    """Nothing comes of it: what the side says that ends it."""
    ladder.initiate(first)
    ladder.run(90)
    assert not ladder.a.ups
    assert not ladder.b.ups
    assert not ladder.a.sad.inbound
    assert not ladder.b.sad.inbound
    return [event.text for site in ladder.sites.values() for event in site.events if event.kind is Kind.IKE_FAILED]


@pytest.fixture
def rfc8784(monkeypatch):
    """Whoever begins does not know RFC 9867, as most peers."""
    monkeypatch.setattr(ppk_auth, "offered", lambda peer: [Notify(NotifyType.USE_PPK)] if peer.ppks else [])


@pytest.fixture(params=["RFC 8784", "RFC 9867"])
def way(request):
    if request.param == "RFC 8784":
        request.getfixturevalue("rfc8784")
    return request.param


# --- both have one ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize(
    "use", [("required", "required"), ("if-offered", "required"), ("required", "if-offered"), ("if-offered",) * 2]
)
def test_a_ppk_that_both_have_is_used(way, use, first):
    ladder = ladder_of(use=use).up(first)
    assert quantum(ladder) == ((("none", "ppk"), "ppk") if way == "RFC 8784" else (("ppk", "inherited"), "inherited"))
    assert not [event for site in ladder.sites.values() for event in site.events if event.kind is Kind.WARNING]


@pytest.mark.parametrize("first", ["a", "b"])
def test_beside_additional_key_exchanges_it_is_in_the_last_round(way, first):
    ladder = ladder_of(ike_proposals=parse_ike(["aes128gcm16-prfsha256-x25519-ke1_mlkem768-ke2_ecp256"])).up(first)
    assert quantum(ladder) == (("mlkem768", "inherited"), "inherited")
    rounds = {parse_message(one.data[0]).header.message_id for one, _ in ladder.wire.log if one.data[0][18] == 43}
    assert len(rounds) == 2


def test_of_several_the_first_that_both_have_is_used():
    assert quantum(ladder_of((TWO, ONE), (ppk("three"), ONE)).up()) == (("ppk", "inherited"), "inherited")


@pytest.mark.usefixtures("rfc8784")
def test_by_rfc_8784_it_is_the_first_of_the_initiator_s():
    assert quantum(ladder_of((TWO, ONE), (ONE, TWO)).up()) == (("none", "ppk"), "ppk")
    assert "has none of that name" in refused(ladder_of((TWO, ONE), (ONE,)))[1]


# --- one is wrong, or is not there -----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("theirs", [(), (OTHER_KEY,), (TWO,)], ids=["missing", "wrong", "of another name"])
@pytest.mark.parametrize("use", [("required", "required"), ("required", "if-offered")])
def test_without_one_that_is_required_there_is_no_ike_sa(way, use, theirs, first):
    ladder = ladder_of(b=theirs, use=use)
    assert refused(ladder, first=first)
    assert {Cause.AUTHENTICATION, Cause.REFUSED, Cause.TIMEOUT} >= {
        cause for site in ladder.sites.values() for cause in site.causes()
    }


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("theirs", [(), (TWO,)], ids=["missing", "of another name"])
def test_where_it_need_not_be_there_is_one_without_and_a_warning(way, theirs, first):
    ladder = ladder_of(b=theirs, use=("if-offered",) * 2).up(first)
    assert quantum(ladder) == (("none", "none"), "none")
    (warning,) = [event.text for event in ladder.a.events if event.kind is Kind.WARNING]
    assert "no ML-KEM and no PPK" in warning


@pytest.mark.usefixtures("rfc8784")
def test_a_wrong_one_is_no_reason_to_do_without():
    """RFC 8784 §3: NO_PPK_AUTH is for whoever has no PPK of that name."""
    ladder = ladder_of(b=(OTHER_KEY,), use=("if-offered",) * 2)
    said = refused(ladder)
    assert any("the PPK one is another one there (ppk_file)" in text for text in said)


def test_by_rfc_9867_a_wrong_one_is_found_out_before_anybody_says_who_he_is():
    ladder = ladder_of(b=(OTHER_KEY,))
    assert "no PPK is the same on both sides" in refused(ladder)[0]
    assert not any("IKE_AUTH" in line for line in ladder.messages())
    assert quantum(ladder_of(b=(OTHER_KEY,), use=("if-offered",) * 2).up()) == (("none", "none"), "none")


def test_a_wrong_shared_key_is_not_helped_by_a_good_ppk(way):
    del way
    wrong = SharedKeyAuth(PreSharedKey.from_text("another secret"))
    ladder = Ladder(a=[peer("a", ppks=(ONE,))], b=[peer("b", ppks=(ONE,), auth=wrong)])
    assert refused(ladder)


def test_a_ppk_of_another_tunnel_lets_nobody_into_this_one(way):
    """IKE_SA_INIT does not say for whom it is."""
    del way
    other = peer("b", tunnel="other", remotes=(), ppks=(TWO,), remote_id=peer("b").local_id)
    ladder = Ladder(a=[peer("a", ppks=(TWO,))], b=[peer("b", remotes=(), ppks=(ONE,)), other])
    assert refused(ladder)
    ladder = Ladder(a=[peer("a", ppks=(ONE,))], b=[peer("b", remotes=(), ppks=(ONE,)), other])
    ladder.initiate("a")
    ladder.settle()
    ladder.check()


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """Each site's peer, as tunnels that authenticate by certificates have it."""
    openssl = OpenSsl(tmp_path_factory.mktemp("pki"))
    openssl.certificate("ca", "/CN=Test CA", extensions=CA)
    trust = Trust(load_certificates(openssl.path("ca.crt")), (), Revocation.OFF)
    found = {}
    for site in "ab":
        openssl.certificate(f"gw{site}", f"/CN=gw{site}", "ca", f"subjectAltName=DNS:gw{site}.example", "ec")
        own = Credential.from_files(openssl.path(f"gw{site}.crt"), openssl.path(f"gw{site}.key"))
        found[site] = SignatureAuth(own, trust)
    return found


def with_certificates(certified, **changes):
    peers = {site: [peer(site, auth=certified[site], **({"ppks": (ONE,)} | changes.get(site, {})))] for site in "ab"}
    return Ladder(**peers, epoch=NOW - timedelta(seconds=1000))


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_ppk_beside_certificates(certified, way, first):
    assert quantum(with_certificates(certified).up(first))[1] == ("ppk" if way == "RFC 8784" else "inherited")
    refused(with_certificates(certified, b={"ppks": (OTHER_KEY,)}), first=first)
    without: dict[str, dict[str, Any]] = {site: {"ppk": "if-offered"} for site in "ab"}
    without["b"]["ppks"] = (TWO,)
    assert quantum(with_certificates(certified, **without).up(first)) == (("none", "none"), "none")


# --- rekeys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asks", ["a", "b"])
def test_rekeys_keep_it(way, asks):
    ladder = ladder_of().up()
    site = ladder.sites[asks]
    before = quantum(ladder)
    site.do(site.core.rekey(site.tunnel, ladder.clock()))
    ladder.settle()
    ladder.check()
    assert quantum(ladder) == before
    site.do(site.core.rekey(site.tunnel, ladder.clock(), ike=True))
    ladder.settle()
    ladder.check()
    assert quantum(ladder)[0] == ("inherited", "inherited")
    site.do(site.core.rekey(site.tunnel, ladder.clock()))
    ladder.settle()
    ladder.check()
    assert quantum(ladder) == (("inherited", "inherited"), "inherited")
    assert way


# --- the wire --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("fault", ["drop", "double", "delay"])
def test_a_fault_at_any_datagram_changes_nothing_in_the_end(way, fault, first):
    for sender in ("a", "b"):
        for number in range(1, 5 if way == "RFC 9867" else 3):
            ladder = ladder_of(ike_proposals=ADDED if number > 3 else IKE, seed=number)
            getattr(ladder.wire, fault)(sender, OTHER[sender], number)
            ladder.initiate(first)
            ladder.run(20)
            assert ladder.wire.sent(sender, OTHER[sender]) >= min(number, 3)
            ladder.check()
            assert all(site.core.counters().sessions == 1 for site in ladder.sites.values())


# --- a man in the middle ---------------------------------------------------------------------------------------------


def without_kem(data):
    message = parse_message(data[0])

    def stripped(payload):
        if not isinstance(payload, SecurityAssociation):
            return payload
        kept = [
            replace(one, transforms=tuple(t for t in one.transforms if t.type not in ADDITIONAL_KEY_EXCHANGES))
            for one in payload.proposals
        ]
        return SecurityAssociation(tuple(kept))

    return build_message(replace(message, payloads=tuple(map(stripped, message.payloads)))), data[1]


STRIPPED = {
    "ADDKE": without_kem,
    "16438": without(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),
    "USE_PPK": without(NotifyType.USE_PPK),
    "USE_PPK and USE_PPK_INT": without(NotifyType.USE_PPK, NotifyType.USE_PPK_INT),
}


@pytest.mark.parametrize("use", ["required", "if-offered"])
@pytest.mark.parametrize("post_quantum", ["preferred", "required"])
@pytest.mark.parametrize("sender", ["a", "b"])
@pytest.mark.parametrize("what", STRIPPED)
def test_whoever_strips_what_was_said_gets_no_ike_sa(what, sender, post_quantum, use):
    settings = {"use": (use, use), "ike_proposals": PREFERS, "post_quantum": post_quantum}
    assert quantum(ladder_of(**settings).up())[0] == ("mlkem768", "inherited")
    ladder = ladder_of(**settings)
    if sender == "b" and what.startswith("USE_PPK"):
        ladder.wire.alter("b", "a", 1, without(NotifyType.USE_PPK_INT))
    else:
        ladder.wire.alter(sender, OTHER[sender], 1, STRIPPED[what])
    ladder.initiate("a")
    ladder.settle()
    assert not ladder.a.ups
    assert not ladder.b.ups


@pytest.mark.usefixtures("rfc8784")
@pytest.mark.parametrize("use", ["required", "if-offered"])
@pytest.mark.parametrize("sender", ["a", "b"])
def test_whoever_strips_use_ppk_of_rfc_8784_gets_no_ike_sa(sender, use):
    ladder_of(use=(use, use)).up()
    ladder = ladder_of(use=(use, use))
    ladder.wire.alter(sender, OTHER[sender], 1, without(NotifyType.USE_PPK))
    ladder.initiate("a")
    ladder.settle()
    assert not ladder.a.ups
    assert not ladder.b.ups


# --- post_quantum = "required" ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b"])
def test_required_is_fulfilled_by_ml_kem_or_a_ppk_of_rfc_9867(first):
    assert quantum(ladder_of((), (), ike_proposals=ADDED, post_quantum="required").up(first))[0] == ("mlkem768", "inherited")
    assert quantum(ladder_of(post_quantum="required").up(first))[0] == ("ppk", "inherited")


@pytest.mark.usefixtures("rfc8784")
@pytest.mark.parametrize("demands", ["a", "b"])
def test_required_is_not_fulfilled_by_rfc_8784(demands):
    """Its IKE SA is open to a quantum adversary: identities, and what CREATE_CHILD_SA says."""
    peers = {site: [peer(site, ppks=(ONE,), post_quantum="required" if site == demands else "preferred")] for site in "ab"}
    ladder = Ladder(**peers)
    assert any('post_quantum = "required"' in text for text in refused(ladder))
    if demands == "a":
        assert not any("IKE_AUTH" in line for line in ladder.messages())


@pytest.mark.parametrize("demands", ["a", "b"])
def test_required_refuses_a_peer_that_has_neither(demands):
    peers = {site: [peer(site, ike_proposals=IKE, post_quantum="required" if site == demands else "preferred")] for site in "ab"}
    ladder = Ladder(**peers)
    assert any('post_quantum = "required"' in text for text in refused(ladder))
    if demands == "a":
        assert not any("IKE_AUTH" in line for line in ladder.messages())


def test_preferred_tells_of_a_peer_that_takes_less_than_it_is_offered():
    ladder = Ladder(a=[peer("a", ike_proposals=parse_ike(["aes128gcm16-prfsha256-x25519-ke1_mlkem768-ke1_none"]))]).up()
    (warning,) = [event.text for event in ladder.a.events if event.kind is Kind.WARNING]
    assert "do not withstand a quantum adversary" in warning
    assert not [event for event in ladder.b.events if event.kind is Kind.WARNING]  # nothing of it is configured there


# --- strangers -------------------------------------------------------------------------------------------------------


def offers_of(ladder, count):
    """B's answer to so many unknown names before the good one, in IKE_INTERMEDIATE."""
    ladder.wire.drop("a", "b", 2)
    ladder.initiate("a")
    ladder.settle()
    (session,), (sender,) = ladder.b.core.sessions(), ladder.a.core.sessions()
    assert session.state is State.INTERMEDIATE_AWAITED
    request = sender.window.outstanding.datagrams[0]
    good = open_message(sender.sa.outgoing, request, parse_message(request)).payloads
    bad = [Notify(NotifyType.PPK_IDENTITY_KEY, b"\2" + name.to_bytes(2, "big") + bytes(8)) for name in range(count)]
    header = Header(sender.sa.spi_i, sender.sa.spi_r, ExchangeType.IKE_INTERMEDIATE, sender.sa.request_flags, 1)
    sealed = seal_message(sender.sa.outgoing, header, [*bad, *good], ladder.b.randbytes)
    ladder.b.do(ladder.b.core.receive(sealed, ladder.path("b"), ladder.clock()))
    return session.handshake.ppk.used


def test_no_more_ppks_are_compared_than_the_limit():
    assert offers_of(ladder_of(), LIMITS.ppks - 1) is ONE
    assert offers_of(ladder_of(), LIMITS.ppks) is None


def test_no_more_ppks_are_offered_than_the_limit():
    many = tuple(ppk(f"name {number}") for number in range(LIMITS.ppks + 1))
    ladder = ladder_of(a=(*many[:-1], ONE), use=("if-offered",) * 2).up()
    assert quantum(ladder) == (("none", "none"), "none")


@pytest.mark.parametrize("data", [b"", b"\2", b"\1one" + bytes(8), b"\2" + bytes(8), b"\2one" + bytes(7)])
def test_what_names_no_ppk_is_passed_over(data):
    ladder = ladder_of()
    ladder.wire.drop("a", "b", 2)
    ladder.initiate("a")
    ladder.settle()
    (session,), (sender,) = ladder.b.core.sessions(), ladder.a.core.sessions()
    header = Header(sender.sa.spi_i, sender.sa.spi_r, ExchangeType.IKE_INTERMEDIATE, sender.sa.request_flags, 1)
    offered = [Notify(NotifyType.PPK_IDENTITY_KEY, data)]
    ladder.b.do(ladder.b.core.receive(seal_message(sender.sa.outgoing, header, offered, bytes), ladder.path("b"), ladder.clock()))
    assert session.handshake.ppk.used is None
    assert session.state is State.INIT_ANSWERED
