"""The algorithm tables: IANA numbers, sizes that agree with their RFCs, keywords."""

import pytest

from ipsec_dp.ike.modp import PRIMES
from ipsec_dp.ipsec import transforms as t
from ipsec_dp.ipsec.transforms import Transform


@pytest.mark.parametrize(
    ("keyword", "transform"),
    [
        ("aes128gcm16", Transform(1, 20, 128)),
        ("AES256GCM128", Transform(1, 20, 256)),
        ("chacha20poly1305", Transform(1, 28)),
        ("aes256", Transform(1, 12, 256)),
        ("prfsha1", Transform(2, 2)),
        ("prfsha256", Transform(2, 5)),
        ("prfsha384", Transform(2, 6)),
        ("prfsha512", Transform(2, 7)),
        ("sha1", Transform(3, 2)),
        ("sha2_256", Transform(3, 12)),
        ("sha384", Transform(3, 13)),
        ("sha512", Transform(3, 14)),
        ("modp1024", Transform(4, 2)),
        ("modp1536", Transform(4, 5)),
        ("modp2048", Transform(4, 14)),
        ("modp3072", Transform(4, 15)),
        ("modp4096", Transform(4, 16)),
        ("ecp256", Transform(4, 19)),
        ("ecp384", Transform(4, 20)),
        ("ecp521", Transform(4, 21)),
        ("curve25519", Transform(4, 31)),
    ],
)
def test_keyword_and_number(keyword, transform):
    algorithm = t.by_keyword(keyword)
    assert algorithm is not None
    assert algorithm.transform == transform
    assert t.by_keyword(t.transform_text(transform)) == algorithm


def test_an_unknown_keyword_names_nothing():
    assert t.by_keyword("des") is None


def test_no_algorithm_that_makes_key_material_has_a_length_of_zero():
    assert all(cipher.key > 0 for cipher in t.ENCRYPTIONS)
    assert all(integrity.key > 0 < integrity.icv for integrity in t.INTEGRITIES)
    assert all(prf.octets > 0 for prf in t.PRFS)


def test_key_length_attributes_are_the_keys_in_bits():
    assert {cipher.key * 8 for cipher in t.ENCRYPTIONS if cipher.key_length == cipher.key * 8} == {128, 192, 256}
    assert all(cipher.key_length in (None, cipher.key * 8) for cipher in t.ENCRYPTIONS)


def test_a_modp_public_value_is_as_long_as_its_prime():
    assert {group.id: group.public * 8 for group in t.GROUPS if group.id in PRIMES} == {
        group: prime.bit_length() for group, prime in PRIMES.items()
    }


def test_only_groups_2_and_5_are_legacy():
    assert {group.id for group in t.GROUPS if group.legacy} == {2, 5}


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (Transform(1, 3), "3des"),
        (Transform(1, 13, 128), "aes128ctr"),
        (Transform(1, 12), "aes"),
        (Transform(1, 20, 512), "aes512gcm16"),
        (Transform(1, 28, 256), "chacha20poly1305/256"),
        (Transform(1, 99), "encr99"),
        (Transform(1, 99, 64), "encr99/64"),
        (Transform(3, 12, 256), "sha256/256"),
        (Transform(4, 0), "none"),
        (Transform(4, 99), "ke99"),
        (Transform(4, 36), "mlkem768"),
        (Transform(6, 36), "ke1_mlkem768"),
        (Transform(12, 0), "ke7_none"),
        (Transform(6, 35), "ke1_mlkem512"),
        (Transform(7, 1025), "ke2_1025"),
        (Transform(99, 7), "type99-7"),
        (Transform(1, 12, 128, ((5, b"x"),)), "aes128+attribute"),
    ],
)
def test_what_we_do_not_speak_still_has_a_name(transform, text):
    assert t.transform_text(transform) == text
