"""Keys and AUTH with a PPK, computed a second time here from the formulas of RFC 8784 §3 and RFC 9867 §3.1."""

import hmac

import pytest

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.ppk import Ppk
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.v2 import keymat, ppk_auth
from ipsec_dp.ike.v2.ike_init import IkeSaInit
from ipsec_dp.ike.v2.intermediate import Intermediate
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.payloads import (
    Authentication,
    IdentificationInitiator,
    IdentificationResponder,
    KeyExchangePayload,
    Nonce,
    Notify,
)
from ipsec_dp.ike.v2.protect import parse_inner
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.ipsec.transforms import PRFS

from .ladder import Ladder, peer
from .test_int_auth import PSK, Listener, covered

OCTETS = bytes(range(48))
ONE = Ppk(b"one", PreSharedKey(OCTETS))
SUITES = {
    "GCM": ("aes128gcm16-prfsha256-x25519", Listener("sha256", 16, 0, aead=True)),
    "CBC": ("aes256-sha384-x25519", Listener("sha384", 32, 48, aead=False)),
}


def plus(listener, key, seed, octets):
    """prf+(key, seed), of so many octets."""
    stream = block = b""
    for count in range(1, 20):
        block = listener.prf(key, block + seed + bytes([count]))
        stream += block
    return stream[:octets]


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_mixed_is_prf_plus_with_the_ppk_as_its_key(name):
    algorithm = next(one for one in PRFS if one.keyword == f"prf{name}")
    sk = bytes(range(100, 100 + algorithm.octets))
    expected = hmac.digest(OCTETS, sk + b"\1", name)
    assert keymat.mixed(algorithm, OCTETS, sk) == expected
    assert keymat.mixed(algorithm, OCTETS, sk * 2) == hmac.digest(OCTETS, sk * 2 + b"\1", name) + hmac.digest(
        OCTETS, hmac.digest(OCTETS, sk * 2 + b"\1", name) + sk * 2 + b"\2", name
    )


def init(ladder, listener):
    """IKE_SA_INIT, and its keys."""
    ladder.initiate("a")
    task = ladder.a.core.sessions()[0].task
    assert isinstance(task, IkeSaInit)
    ladder.deliver("b")
    request, response = (parse_message(delivery.data[0]) for delivery, _ in ladder.wire.log[-2:])
    ke = response.get(KeyExchangePayload)
    assert ke is not None
    listener.first(request, response, bytes(task.key.shared_secret(ke.data)))
    ladder.deliver("a")


def auths(ladder, listener, keys, covers=b""):
    """Both sides' AUTH is by these SK_pi and SK_pr; what else is in the request."""
    datagrams = [delivery.data[0] for delivery, _ in ladder.wire.log]
    firsts, last = datagrams[:2], datagrams[-2:]
    nonces = [parse_message(one).get(Nonce) for one in reversed(firsts)]
    identities = (IdentificationInitiator, IdentificationResponder)
    inner = [parse_inner(*listener.open(datagram, side)) for side, datagram in zip("ir", last, strict=True)]
    for side, first, nonce, payloads, identity in zip("ir", firsts, nonces, inner, identities, strict=True):
        assert nonce is not None
        (claimed,) = (one for one in payloads if isinstance(one, identity))
        (proof,) = (one for one in payloads if isinstance(one, Authentication))
        assert proof.data == auth_of(listener, first + nonce.data, keys[f"p{side}"], claimed, covers)
    claimed = next(one for one in inner[0] if isinstance(one, IdentificationInitiator))
    assert nonces[0] is not None
    without = auth_of(listener, firsts[0] + nonces[0].data, listener.keys["pi"], claimed, covers)
    return without, [{one.notify_type: one.data for one in payloads if isinstance(one, Notify)} for payloads in inner]


def auth_of(listener, signed, sk_p, claimed, covers):
    return listener.prf(listener.prf(PSK, b"Key Pad for IKEv2"), signed + listener.prf(sk_p, claimed.body()) + covers)


@pytest.mark.parametrize(("words", "listener"), SUITES.values(), ids=SUITES)
@pytest.mark.parametrize("use", ["required", "if-offered"])
def test_somebody_else_derives_the_same_by_rfc_8784(words, listener, use, monkeypatch):
    monkeypatch.setattr(ppk_auth, "offered", lambda peer: [Notify(NotifyType.USE_PPK)] if peer.ppks else [])
    proposals = parse_ike([words])
    ladder = Ladder(**{site: [peer(site, ike_proposals=proposals, ppks=(ONE,), ppk=use)] for site in "ab"})
    init(ladder, listener)
    ladder.settle()
    ladder.check()
    size = len(listener.keys["d"])
    mixed = {name: plus(listener, OCTETS, listener.keys[name], size) for name in ("d", "pi", "pr")}
    without, (request, response) = auths(ladder, listener, mixed)
    assert request[NotifyType.PPK_IDENTITY] == b"\2one"
    assert response[NotifyType.PPK_IDENTITY] == b""
    assert request.get(NotifyType.NO_PPK_AUTH) == (without if use == "if-offered" else None)
    keys = ladder.a.core.sessions()[0].sa.keys
    assert keys is not None
    assert keys.sk_d == mixed["d"]
    assert_keymat(ladder, listener, mixed["d"])


def assert_keymat(ladder, listener, sk_d):
    """KEYMAT of the first CHILD_SA is by this SK_d (RFC 7296 §2.17)."""
    (ours,) = ladder.a.sad.outbound.values()
    (theirs,) = ladder.a.sad.inbound.values()
    size = len(ours.keymat)
    assert plus(listener, sk_d, listener.nonces, 2 * size) == ours.keymat + theirs.keymat


@pytest.mark.parametrize(("words", "listener"), SUITES.values(), ids=SUITES)
@pytest.mark.parametrize("further", ["", "-ke1_ecp256"], ids=["alone", "beside a key exchange"])
def test_somebody_else_derives_the_same_by_rfc_9867(words, listener, further):
    proposals = parse_ike([words + further])
    ladder = Ladder(**{site: [peer(site, ike_proposals=proposals, ppks=(ONE,), datagram=1500)] for site in "ab"})
    init(ladder, listener)
    task = ladder.a.core.sessions()[0].task
    assert isinstance(task, Intermediate)
    ladder.deliver("b")
    request, response = (delivery.data[0] for delivery, _ in ladder.wire.log[-2:])
    sent, got = listener.open(request, "i"), listener.open(response, "r")
    int_i, int_r = (
        listener.prf(listener.keys[side], covered(datagram, *inner))
        for side, datagram, inner in (("pi", request, sent), ("pr", response, got))
    )
    offered, answered = parse_inner(*sent), parse_inner(*got)
    (offer,) = (one for one in offered if isinstance(one, Notify))
    (choice,) = (one for one in answered if isinstance(one, Notify))
    confirmation = hmac.digest(OCTETS, listener.nonces + listener.spis, listener.name)[:8]
    assert (offer.notify_type, offer.data) == (16446, b"\2one" + confirmation)
    assert (choice.notify_type, choice.data) == (16436, b"\2one")
    if task.key is not None:
        (ke,) = (one for one in answered if isinstance(one, KeyExchangePayload))
        listener.following(bytes(task.key.shared_secret(ke.data)))
    listener.from_seed(plus(listener, OCTETS, listener.keys["d"], len(listener.keys["d"])))
    ladder.settle()
    ladder.check()
    _, (auth_request, _) = auths(ladder, listener, listener.keys, int_i + int_r + (2).to_bytes(4, "big"))
    assert not {NotifyType.PPK_IDENTITY, NotifyType.NO_PPK_AUTH} & auth_request.keys()
    assert_keymat(ladder, listener, listener.keys["d"])
