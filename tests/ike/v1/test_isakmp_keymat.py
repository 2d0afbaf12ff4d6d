"""Keys of IKEv1, each computed a second time here by `hmac` and `hashlib` from the words of RFC 2409."""

import hashlib
import hmac

import pytest

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.suites import EspSuite
from ipsec_dp.ike.v1 import keymat
from ipsec_dp.ike.v1.registry import suites_phase1, suites_phase2

NI, NR = bytes(range(32)), bytes(range(100, 132))
COOKIES = b"initiate" + b"responds"
SHARED = bytes(range(7, 39))


def mac(name, key, *parts):
    return hmac.new(bytes(key), b"".join(parts), name).digest()


def phase1(text):
    return suites_phase1(parse_ike([text], legacy=True))[0]


@pytest.mark.parametrize("name", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("cipher", ["aes128", "aes192", "aes256"])
def test_skeyid_and_what_follows(name, cipher):
    suite = phase1(f"{cipher}-{name}-modp2048")
    by_secret = mac(name, b"secret", NI, NR)
    assert keymat.skeyid_of_secret(suite.prf, b"secret", (NI, NR)) == by_secret
    by_signatures = mac(name, NI + NR, SHARED)
    assert keymat.skeyid_of_signatures(suite.prf, SHARED, (NI, NR)) == by_signatures
    d = mac(name, by_secret, SHARED, COOKIES, b"\0")
    a = mac(name, by_secret, d, SHARED, COOKIES, b"\1")
    e = mac(name, by_secret, a, SHARED, COOKIES, b"\2")
    keys = keymat.skeyids(suite, bytearray(by_secret), SHARED, COOKIES)
    assert (keys.d, keys.a, keys.e) == (d, a, e)
    octets = int(cipher.removeprefix("aes")) // 8
    if len(e) >= octets:
        assert keys.cipher == e[:octets]
    else:  # K1 = prf(SKEYID_e, 0), K2 = prf(SKEYID_e, K1)
        one = mac(name, e, b"\0")
        assert keys.cipher == (one + mac(name, e, one))[:octets]


def test_keys_are_wiped_and_shown_nowhere():
    keys = keymat.skeyids(phase1("aes128-sha256-modp2048"), bytearray(b"k" * 32), SHARED, COOKIES)
    held = (keys.skeyid, keys.d, keys.a, keys.e, keys.cipher)
    assert repr(keys) == "<Skeyids>"
    keys.wipe()
    assert not any(map(any, held))


@pytest.mark.parametrize("name", ["sha1", "sha256", "sha512"])
def test_ivs(name):
    prf = phase1(f"aes128-{name}-modp2048").prf
    assert keymat.first_iv(prf, b"gxi", b"gxr") == hashlib.new(name, b"gxigxr").digest()[:16]
    last = bytes(range(16))
    assert keymat.exchange_iv(prf, last, 0x01020304) == hashlib.new(name, last + b"\1\2\3\4").digest()[:16]


def test_hashes_of_both_sides():
    prf = phase1("aes128-sha256-modp2048").prf
    expected = mac("sha256", b"skeyid", b"gxi", b"gxr", COOKIES, b"SAi_b", b"IDii_b")
    assert keymat.side_hash(prf, b"skeyid", (b"gxi", b"gxr"), (COOKIES[:8], COOKIES[8:]), b"SAi_b", b"IDii_b") == expected


@pytest.mark.parametrize("text", ["aes128gcm16", "aes256gcm16", "aes128-sha1", "aes256-sha256", "aes256-sha512", "aes192-sha384"])
@pytest.mark.parametrize("shared", [b"", SHARED], ids=["without PFS", "with PFS"])
def test_keymat(text, shared):
    suite: EspSuite = suites_phase2(parse_esp([text]))[0]
    integrity = 0 if suite.integrity is None else suite.integrity.key
    wanted = suite.encryption.key + suite.encryption.salt + integrity
    assert suite.encryption.salt == (4 if "gcm" in text else 0)
    expected, block = b"", b""
    while len(expected) < wanted:
        block = mac("sha256", b"skeyid_d", block, shared, b"\3", b"\0\0\x10\1", NI, NR)
        expected += block
    got = keymat.sa_keymat(phase1("aes128-sha256-modp2048").prf, b"skeyid_d", suite, b"\0\0\x10\1", (NI, NR), shared)
    assert got == expected[:wanted]


def test_each_direction_has_keys_of_its_own():
    prf, suite = phase1("aes128-sha256-modp2048").prf, suites_phase2(parse_esp(["aes128gcm16"]))[0]
    assert keymat.sa_keymat(prf, b"d", suite, b"\0\0\1\1", (NI, NR)) != keymat.sa_keymat(prf, b"d", suite, b"\0\0\1\2", (NI, NR))


def test_the_cipher_pads_with_zeros_and_opens_whole_blocks_alone():
    key, iv = bytes(16), bytes(range(16))
    sealed = keymat.encrypt(key, iv, b"x" * 17)
    assert keymat.decrypt(key, iv, sealed) == b"x" * 17 + bytes(15)
    assert len(keymat.encrypt(key, iv, b"x" * 16)) == 16
    for octets in (b"", sealed[:-1], sealed + b"x"):
        with pytest.raises(IkeSyntaxError):
            keymat.decrypt(key, iv, octets)
