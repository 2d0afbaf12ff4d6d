"""What is odd about a peer's proposals is read out, and nothing is said of those that are as they should be."""

from __future__ import annotations

import pytest

from ipsec_dp.ike import oddities
from ipsec_dp.ike.negotiation import accept, explain_mismatch, with_spi
from ipsec_dp.ike.proposal import DEFAULT_ESP, DEFAULT_IKE, Proposal, ProposalError, parse_esp, parse_ike
from ipsec_dp.ipsec.transforms import ESN, NO_ESN, Transform

GCM, CHACHA, CBC = Transform(1, 20, 256), Transform(1, 28), Transform(1, 12, 128)
PRF, SHA256, X25519 = Transform(2, 5), Transform(3, 12), Transform(4, 31)


def odd(*proposals):
    return oddities.of((proposal.protocol, proposal.transforms) for proposal in proposals)


def ike(*transforms):
    return Proposal(1, 1, b"", transforms)


def esp(*transforms):
    return Proposal(1, 3, b"\1\2\3\4", (*transforms, NO_ESN))


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (Transform(1, 28, 256), "chacha20poly1305 with Key Length 256: RFC 7296 §3.3.5 forbids it; some appliances send it"),
        (Transform(1, 3, 192), "3des with Key Length 192: RFC 7296 §3.3.5 forbids it"),
        (Transform(2, 5, 256), "prfsha256 with Key Length 256: RFC 7296 §3.3.5 forbids it"),
        (Transform(4, 14, 2048), "modp2048 with Key Length 2048: RFC 7296 §3.3.5 forbids it"),
        (Transform(1, 20), "aesgcm16 without a Key Length: RFC 7296 §3.3.5 demands one"),
        (Transform(1, 12, 32), "aes with Key Length 32: it counts bits (RFC 7296 §3.3.5), 256 is meant"),
        (Transform(1, 20, 288), "aesgcm16 with Key Length 288: it leaves out the salt (RFC 4106 §8.4), 256 is meant"),
        (Transform(1, 12, 288), "aes with Key Length 288: AES has keys of 128, 192 and 256 bits"),
        (Transform(1, 20, 512), "aesgcm16 with Key Length 512: AES has keys of 128, 192 and 256 bits"),
        (Transform(4, 1030), "ke1030 is a number for private use"),
        (Transform(6, 1054), "ke1_1054 is a number for private use"),
        (Transform(1, 12, 128, ((5, b"x"),)), "aes with an attribute other than Key Length"),
    ],
)
def test_an_odd_transform_is_explained(transform, words):
    (said, *_) = odd(esp(transform))
    assert said.startswith(words)


@pytest.mark.parametrize(
    ("proposal", "words"),
    [
        (ike(GCM, CBC, PRF, SHA256, X25519), "AEAD and other ciphers in one proposal"),
        (ike(GCM, PRF, SHA256, X25519), "an AEAD cipher beside an integrity algorithm"),
        (ike(CBC, PRF, X25519), "a cipher without an integrity algorithm"),
        (ike(GCM, X25519), "an IKE proposal without a PRF"),
        (ike(GCM, PRF), "an IKE proposal without a key exchange"),
        (Proposal(1, 2, b"\1\2\3\4", (SHA256, NO_ESN)), "AH is not spoken here"),
        (esp(GCM, PRF), "an ESP proposal with a PRF"),
    ],
)
def test_an_odd_proposal_is_explained(proposal, words):
    assert any(said.startswith(words) for said in odd(proposal))


def test_nothing_is_odd_about_what_we_offer_nor_about_a_cipher_that_we_do_not_have():
    assert odd(*parse_ike(DEFAULT_IKE), *parse_esp(DEFAULT_ESP)) == []
    assert odd(esp(Transform(1, 3), SHA256), esp(CHACHA), ike(Transform(1, 23, 256), PRF, Transform(3, 1), X25519)) == []
    assert odd(ike(GCM, PRF, X25519, Transform(6, 36), Transform(7, 0))) == [], "an additional key exchange"


def test_each_is_said_once():
    assert len(odd(esp(Transform(1, 28, 256), ESN), esp(Transform(1, 28, 256)))) == 1


def test_both_roles_say_so():
    """A responder that finds nothing in common, an initiator whose peer chose what it does not speak."""
    theirs = Transform(1, 28, 256)
    said = explain_mismatch(parse_esp(["chacha20poly1305"]), [esp(theirs)])
    assert said.endswith("some appliances send it")
    assert "ours chacha20poly1305, peer's chacha20poly1305/256" in said
    with pytest.raises(ProposalError, match="some appliances send it"):
        accept(with_spi(parse_esp(["chacha20poly1305"]), b"\1\2\3\4"), [esp(theirs)])


def test_a_peer_that_sends_thousands_is_answered_in_a_line():
    flood = [esp(*(Transform(1, number, 7) for number in range(200)))] * 60
    assert len(explain_mismatch(parse_esp(["aes128gcm16"]), flood)) < 1500
