"""The Encrypted payload: published and hand-made ciphertexts, and everything that must not open."""

import contextlib
import hashlib
import hmac
import os
import subprocess

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Writer
from ipsec_dp.ike.payload import build_chain
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.suites import ike_suite
from ipsec_dp.ike.v2 import keymat, protect
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.errors import IntegrityError
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message

from . import strategies

SUITES = {
    name: ike_suite(parse_ike([f"{name}-prfsha256-x25519"])[0])
    for name in (
        "aes128gcm16",
        "aes192gcm16",
        "aes256gcm16",
        "chacha20poly1305",
        "aes128-sha256",
        "aes192-sha384",
        "aes256-sha512",
        "aes128-sha1",
    )
}
HEADER = Header(b"\x01" * 8, b"\x02" * 8, 35, 0x08, 1)
INNER = (p.Notify(16384), p.Authentication(2, b"\x5a" * 32))
any_suite = st.sampled_from(list(SUITES.values()))
every_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


def keys_of(suite):
    return keymat.ike_keys(suite, b"seed", b"i" * 16, b"r" * 16, b"s" * 8, b"t" * 8)


def both_ends(suite):
    """(sealing, opening) protections of the initiator's direction."""
    return protect.protections(suite, keys_of(suite))[0], protect.protections(suite, keys_of(suite))[0]


def sealed_by(suite, payloads=INNER):
    return protect.seal_message(both_ends(suite)[0], HEADER, payloads, os.urandom)


def chain(payloads):
    writer = Writer()
    build_chain(writer, payloads)
    return writer.take()


@given(suite=any_suite, payloads=strategies.chains)
def test_what_is_sealed_opens_to_itself(suite, payloads):
    sealing, opening = both_ends(suite)
    datagram = protect.seal_message(sealing, HEADER, payloads, os.urandom)
    assert protect.open_message(opening, datagram, parse_message(datagram)) == Message(HEADER, payloads)


def test_chacha20_poly1305_of_rfc_7634():
    """Appendix B: the IKEv2 example, IV 10..17, no padding."""
    suite = SUITES["chacha20poly1305"]
    keys = keys_of(suite)
    keys.sk_ei[:] = bytes(range(0x80, 0xA4))
    opening, _ = protect.protections(suite, keys)
    datagram = bytes.fromhex(
        "c0c1c2c3c4c5c6c7 d0d1d2d3d4d5d6d7 2e202500 00000009 00000045 29000029"
        "1011121314151617 61039470 1f8d017f 7c129248 89 6b71bfe25236efd7cdc67066906315b2"
    )
    message = parse_message(datagram)
    assert protect.open_message(opening, datagram, message).payloads == (p.Notify(16385, b"\0\0\0\x0a"),)


@pytest.mark.parametrize("name", ["aes128gcm16", "aes256gcm16"])
def test_aes_gcm_layout_of_rfc_5282(name):
    """Salt | IV is the nonce; header to Encrypted payload header is associated data; the ICV has 16 octets."""
    suite = SUITES[name]
    keys = keys_of(suite)
    datagram = sealed_by(suite)
    front, iv, body, icv = datagram[:32], datagram[32:40], datagram[40:-16], datagram[-16:]
    size = suite.encryption.key
    decryptor = Cipher(algorithms.AES(keys.sk_ei[:size]), modes.GCM(bytes(keys.sk_ei[size:]) + iv, icv)).decryptor()
    decryptor.authenticate_additional_data(front)
    assert decryptor.update(body) + decryptor.finalize() == chain(INNER) + b"\0"


def test_aes_cbc_hmac_layout_of_rfc_7296():
    """IV | ciphertext | ICV, the ICV over the whole message before it; opened here by openssl and hashlib."""
    suite = SUITES["aes128-sha256"]
    keys = keys_of(suite)
    datagram = sealed_by(suite)
    assert datagram[-16:] == hmac.digest(keys.sk_ai, datagram[:-16], hashlib.sha256)[:16]
    plain = subprocess.run(
        ["openssl", "enc", "-d", "-aes-128-cbc", "-nopad", "-K", keys.sk_ei.hex(), "-iv", datagram[32:48].hex()],
        input=datagram[48:-16],
        capture_output=True,
        check=True,
    ).stdout
    inner = chain(INNER)
    assert plain[: len(inner)] == inner
    assert plain[-1] == len(plain) - len(inner) - 1


def test_the_mac_of_sha1_is_cut_to_96_bits():
    suite = SUITES["aes128-sha1"]
    datagram = sealed_by(suite)
    assert datagram[-12:] == hmac.digest(keys_of(suite).sk_ai, datagram[:-12], hashlib.sha1)[:12]


@every_suite
def test_what_was_made_of_keys_outlives_them(suite):
    """Repeats of a request are still checked once its keys are wiped: others are in use, or the IKE SA is at its end."""
    keys = keys_of(suite)
    opening, _ = protect.protections(suite, keys)
    datagram = sealed_by(suite)
    keys.wipe()
    assert protect.open_message(opening, datagram, parse_message(datagram)).payloads == INNER


@every_suite
def test_the_directions_have_different_keys(suite):
    initiator, responder = protect.protections(suite, keys_of(suite))
    datagram = protect.seal_message(initiator, HEADER, INNER, os.urandom)
    with pytest.raises(IntegrityError):
        protect.open_message(responder, datagram, parse_message(datagram))


@every_suite
def test_no_changed_octet_of_a_message_opens(suite):
    """Header, generic header, IV, ciphertext and ICV are all covered; a header may be refused before the ICV is looked at."""
    datagram = sealed_by(suite)
    _, opening = both_ends(suite)
    for at in range(len(datagram)):
        changed = bytearray(datagram)
        changed[at] ^= 0x80
        with pytest.raises(IntegrityError if at >= 32 else (IntegrityError, IkeSyntaxError)):
            protect.open_message(opening, changed, parse_message(changed))


@given(suite=any_suite, body=st.binary(max_size=80))
def test_arbitrary_content_is_an_integrity_error(suite, body):
    _, opening = both_ends(suite)
    with pytest.raises(IntegrityError):
        protect.open_payload(opening, bytes(32) + body, p.Encrypted(35, body))


@given(suite=any_suite, plaintext=st.binary(max_size=64))
def test_authenticated_rubbish_is_a_syntax_error_at_worst(suite, plaintext):
    """An authenticated peer with a broken builder: padding longer than the content, payloads that are none."""
    sealing, opening = both_ends(suite)
    associated = b"a" * 32
    padded = plaintext + bytes(-len(plaintext) % sealing.block)
    data = sealing.seal(associated, padded or bytes(sealing.block), os.urandom)
    with contextlib.suppress(IkeSyntaxError):
        protect.parse_inner(41, protect.open_payload(opening, associated + data, p.Encrypted(41, data)))


@pytest.mark.parametrize("name", ["aes128gcm16", "aes128-sha256"])
def test_padding_longer_than_what_it_pads_is_refused(name):
    sealing, opening = both_ends(SUITES[name])
    data = sealing.seal(b"a", b"\xff" * 16, os.urandom)
    with pytest.raises(IkeSyntaxError, match="padding"):
        protect.open_payload(opening, b"a" + data, p.Encrypted(41, data))


def test_an_aead_never_uses_an_iv_twice():
    sealing, _ = both_ends(SUITES["aes128gcm16"])
    ivs = {protect.seal_message(sealing, HEADER, INNER, os.urandom)[32:40] for _ in range(100)}
    assert len(ivs) == 100


def test_cbc_takes_its_iv_from_the_randomness_handed_in():
    sealing, _ = both_ends(SUITES["aes128-sha256"])
    assert protect.seal_message(sealing, HEADER, INNER, lambda count: b"\x42" * count)[32:48] == b"\x42" * 16


def test_payloads_in_front_of_the_encrypted_one_are_dropped_though_covered():
    sealing, opening = both_ends(SUITES["aes128gcm16"])
    inner = chain(INNER) + b"\0"
    shell = p.Encrypted(INNER[0].type, bytes(len(inner) + sealing.overhead))
    associated = build_message(Message(HEADER, (p.Notify(24), shell)))[: -len(shell.data)]
    datagram = associated + sealing.seal(associated, inner, os.urandom)
    assert protect.open_message(opening, datagram, parse_message(datagram)).payloads == INNER


def test_a_message_without_protection_does_not_open():
    with pytest.raises(IkeSyntaxError, match="without an Encrypted payload"):
        protect.open_message(both_ends(SUITES["aes128gcm16"])[1], b"", Message(HEADER, INNER))
