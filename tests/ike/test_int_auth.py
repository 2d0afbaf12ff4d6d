"""IntAuth and the keys of each round, computed a second time here from the formulas of RFC 9242 §3.3.2 and RFC 9370 §2.2.2."""

import hmac
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.v2 import fragment, int_auth, protect
from ipsec_dp.ike.v2.fragment import Reassembler
from ipsec_dp.ike.v2.ike_init import IkeSaInit
from ipsec_dp.ike.v2.intermediate import Intermediate
from ipsec_dp.ike.v2.message import Header, parse_message
from ipsec_dp.ike.v2.payloads import (
    Authentication,
    Encrypted,
    EncryptedFragment,
    IdentificationInitiator,
    IdentificationResponder,
    KeyExchangePayload,
)
from ipsec_dp.ike.v2.payloads import Nonce as NoncePayload
from ipsec_dp.ike.v2.protect import parse_inner

from .ladder import Ladder, peer
from .test_protect import SUITES, both_ends

PSK = b"a secret both of them know"
HEADER = Header(bytes(range(8)), bytes(range(8, 16)), 43, 0x08, 1)
INNER = (KeyExchangePayload(36, bytes(range(256)) * 4),)


# --- A | P -----------------------------------------------------------------------------------------------------------


def opened(suite):
    """`INNER` after its way in one message."""
    sealing, opening = both_ends(suite)
    datagram = protect.seal_message(sealing, HEADER, INNER, bytes)
    return protect.open_message(opening, datagram, parse_message(datagram))


def reassembled(suite):
    """`INNER` after its way in fragments."""
    sealing, opening = both_ends(suite)
    reassembler = Reassembler()
    for datagram in fragment.seal_datagrams(sealing, HEADER, INNER, bytes, room=400, fragment=True):
        message = parse_message(datagram)
        piece = message.get(EncryptedFragment)
        assert piece is not None
        whole = reassembler.add(1, piece, protect.open_payload(opening, datagram, piece), 0.0)
        if whole is not None:
            return protect.opened(message, *whole)
    raise AssertionError("not whole")


@pytest.mark.parametrize("way", [opened, reassembled])
@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_what_is_covered_is_the_same_by_every_cipher_and_in_fragments(suite, way):
    """Lengths as if there were neither IV nor padding nor ICV, Next Payload SK, whatever it was sent in."""
    body = (36).to_bytes(2, "big") + bytes(2) + INNER[0].data
    payload = bytes([0, 0]) + (4 + len(body)).to_bytes(2, "big") + body
    front = HEADER.spi_i + HEADER.spi_r + bytes([46, 0x20, 43, 8]) + (1).to_bytes(4, "big")
    expected = front + (28 + 4 + len(payload)).to_bytes(4, "big") + bytes([34, 0]) + (4 + len(payload)).to_bytes(2, "big") + payload
    assert int_auth.sent(HEADER, INNER) == expected
    assert int_auth.came(way(suite)) == expected


def test_payloads_that_mean_nothing_here_are_covered_as_they_came():
    sealing, opening = both_ends(SUITES["aes128gcm16"])
    plaintext = bytes([0, 0, 0, 6, 1, 2])  # a payload of a type that nobody knows
    datagram = protect.seal_payload(sealing, HEADER, Encrypted(200, b""), plaintext, bytes)
    message = protect.open_message(opening, datagram, parse_message(datagram))
    assert message.payloads == ()
    assert int_auth.came(message).endswith(bytes([200, 0, 0, 10]) + plaintext)


# --- a whole handshake -----------------------------------------------------------------------------------------------


class Listener:
    """Knows the shared secrets, and derives everything else by itself."""

    def __init__(self, name, key, integrity, aead):
        self.name, self.sizes, self.aead = name, (key + 4 * aead, integrity), aead
        self.nonces = self.spis = b""
        self.keys: dict[str, bytes] = {}

    def prf(self, key, data):
        return hmac.digest(key, data, self.name)

    def first(self, request, response, secret):
        nonces = [message.get(NoncePayload) for message in (request, response)]
        assert all(nonces)
        self.nonces = b"".join(one.data for one in nonces)
        self.spis = response.header.spi_i + response.header.spi_r
        self.from_seed(self.prf(self.nonces, secret))

    def following(self, secret):
        self.from_seed(self.prf(self.keys["d"], secret + self.nonces))

    def from_seed(self, seed):
        length = len(self.prf(b"", b""))
        encr, integ = self.sizes
        stream = block = b""
        for count in range(1, 20):
            block = self.prf(seed, block + self.nonces + self.spis + bytes([count]))
            stream += block
        for name, size in (("d", length), ("ai", integ), ("ar", integ), ("ei", encr), ("er", encr), ("pi", length), ("pr", length)):
            self.keys[name], stream = stream[:size], stream[size:]

    def open(self, datagram, side):
        """First inner type and plaintext of an SK message."""
        key, (front, rest) = self.keys[f"e{side}"], (datagram[:32], datagram[32:])
        if self.aead:
            plaintext = AESGCM(key[:-4]).decrypt(key[-4:] + rest[:8], rest[8:], front)
        else:
            icv = self.prf(self.keys[f"a{side}"], datagram[:-24])[:24]
            assert datagram[-24:] == icv
            decryptor = Cipher(algorithms.AES(key), modes.CBC(rest[:16])).decryptor()
            plaintext = decryptor.update(rest[16:-24])
        return datagram[28], plaintext[: -1 - plaintext[-1]]


def covered(datagram, first, plaintext):
    octets = len(plaintext) + 4
    return datagram[:24] + (28 + octets).to_bytes(4, "big") + bytes([first, 0]) + octets.to_bytes(2, "big") + plaintext


@pytest.mark.parametrize(
    ("words", "listener"),
    [
        ("aes128gcm16-prfsha256-x25519-ke1_ecp384-ke2_mlkem768", Listener("sha256", 16, 0, aead=True)),
        ("aes256-sha384-x25519-ke1_mlkem768-ke2_ecp256", Listener("sha384", 32, 48, aead=False)),
    ],
    ids=["GCM", "CBC"],
)
def test_somebody_else_derives_the_same_keys_intauth_and_auth(words, listener):
    proposals = parse_ike([words])
    peers = {site: [peer(site, ike_proposals=proposals, datagram=1500)] for site in "ab"}
    ladder = Ladder(**peers)
    int_i = int_r = b""
    ladder.initiate("a")
    for number in range(3):
        task = ladder.a.core.sessions()[0].task
        assert isinstance(task, IkeSaInit | Intermediate)
        exchanged = task.key
        assert exchanged is not None
        ladder.deliver("b")
        request, response = (delivery.data[0] for delivery, _ in ladder.wire.log[-2:])
        if number == 0:
            ke = parse_message(response).get(KeyExchangePayload)
            assert ke is not None
            listener.first(parse_message(request), parse_message(response), bytes(exchanged.shared_secret(ke.data)))
        else:
            sent, got = listener.open(request, "i"), listener.open(response, "r")
            int_i = listener.prf(listener.keys["pi"], int_i + covered(request, *sent))
            int_r = listener.prf(listener.keys["pr"], int_r + covered(response, *got))
            (answer,) = parse_inner(*got)
            assert isinstance(answer, KeyExchangePayload)
            listener.following(bytes(exchanged.shared_secret(answer.data)))
        ladder.deliver("a")
    ladder.settle()
    ladder.check()
    auths = [delivery.data[0] for delivery, _ in ladder.wire.log[-2:]]
    firsts = [delivery.data[0] for delivery, _ in ladder.wire.log[:2]]
    nonces = [parse_message(one).get(NoncePayload) for one in reversed(firsts)]
    for side, datagram, first, nonce, identity in zip(
        "ir", auths, firsts, nonces, (IdentificationInitiator, IdentificationResponder), strict=True
    ):
        assert nonce is not None
        inner = parse_inner(*listener.open(datagram, side))
        (claimed,) = (one for one in inner if isinstance(one, identity))
        (proof,) = (one for one in inner if isinstance(one, Authentication))
        signed = first + nonce.data + listener.prf(listener.keys[f"p{side}"], claimed.body())
        signed += int_i + int_r + (3).to_bytes(4, "big")
        assert proof.data == listener.prf(listener.prf(PSK, b"Key Pad for IKEv2"), signed)


def test_without_a_round_auth_covers_what_it_always_did():
    assert int_auth.IntAuth().over(1) == b""
    assert replace(int_auth.IntAuth(), of_initiator=b"i", of_responder=b"r").over(2) == b"ir\0\0\0\2"
