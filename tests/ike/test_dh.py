"""Key exchange: both sides agree, published vectors hold, values an attacker would send are refused (RFC 6989)."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ipsec_dp.ike import dh
from ipsec_dp.ike.modp import PRIMES
from ipsec_dp.ipsec.transforms import GROUP_OF_ID, GROUPS, KEMS

pytestmark = pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")

MODP = sorted(PRIMES)
ECP = [19, 20, 21]


def zeros(count):
    return bytes(count)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.keyword)
def test_both_sides_agree(group):
    ours = dh.initiate(group, os.urandom)
    public, secret = dh.respond(group, ours.public, os.urandom)
    assert len(ours.public) == len(public) == group.public
    assert ours.shared_secret(public) == secret
    assert len(secret) == (group.public // 2 if group.id in ECP else group.public)
    assert isinstance(secret, bytearray)  # can be wiped


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.keyword)
def test_the_same_randomness_makes_the_same_exchange(group):
    assert dh.initiate(group, zeros).public == dh.initiate(group, zeros).public


def test_primes_follow_the_formula_of_their_rfcs():
    """p = 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + c), RFC 2409 §6.2 and RFC 3526 §2 to §5."""
    for group, (bits, c) in {
        2: (1024, 129093),
        5: (1536, 741804),
        14: (2048, 124476),
        15: (3072, 1690314),
        16: (4096, 240904),
    }.items():
        assert PRIMES[group] == 2**bits - 2 ** (bits - 64) - 1 + 2**64 * (pi_times_two_to(bits - 130) + c)


def pi_times_two_to(bits):
    """Machin's formula in integers, 64 bits to spare."""
    one = 1 << (bits + 64)

    def arctan_of_inverse(x):
        total = term = one // x
        sign, n = -1, 3
        while term:
            term //= x * x
            total += sign * (term // n)
            sign, n = -sign, n + 2
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> 64


@pytest.mark.parametrize("group_id", MODP)
def test_modp_is_plain_exponentiation(group_id):
    group, prime = GROUP_OF_ID[group_id], PRIMES[group_id]
    ours = dh.initiate(group, zeros)
    exponent = 1 << 511  # what `zeros` leads to
    assert int.from_bytes(ours.public, "big") == pow(2, exponent, prime)
    assert int.from_bytes(ours.shared_secret((3).to_bytes(group.public, "big")), "big") == pow(3, exponent, prime)


RFC_7748 = [  # §5.2: scalar, u-coordinate, result
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
]


@pytest.mark.parametrize(("scalar", "peer", "secret"), RFC_7748)
def test_curve25519_of_rfc_7748(scalar, peer, secret):
    ours = dh.initiate(GROUP_OF_ID[31], lambda _: bytes.fromhex(scalar))
    assert ours.shared_secret(bytes.fromhex(peer)).hex() == secret


def test_ecp256_of_rfc_5903():
    """§8.1; the randomness is chosen so that the scalar becomes the one of the RFC."""
    scalar = int("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433", 16)
    ours = dh.initiate(GROUP_OF_ID[19], lambda count: (scalar - 1).to_bytes(count, "big"))
    assert ours.public.hex() == (
        "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180"
        "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3"
    )
    peer = (
        "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63"
        "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab"
    )
    secret = ours.shared_secret(bytes.fromhex(peer))
    assert secret.hex() == "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"


# --- values an attacker would send -----------------------------------------------------------------------------------


@pytest.mark.parametrize("group_id", MODP)
@pytest.mark.parametrize("offset", [None, 0, 1, "p-1", "p", "p+1"])
def test_modp_values_of_small_order_or_beyond_the_prime_are_refused(group_id, offset):
    """Bug class: unchecked DH public value."""
    prime = PRIMES[group_id]
    values = {None: 2 ** prime.bit_length() - 1, 0: 0, 1: 1, "p-1": prime - 1, "p": prime, "p+1": prime + 1}
    ours = dh.initiate(GROUP_OF_ID[group_id], os.urandom)
    with pytest.raises(dh.KeyExchangeError):
        ours.shared_secret(values[offset].to_bytes(GROUP_OF_ID[group_id].public, "big"))


@pytest.mark.parametrize("group_id", ECP)
def test_points_off_the_curve_or_of_the_wrong_form_are_refused(group_id):
    """Bug class: unchecked KE public value (invalid-curve attack)."""
    group = GROUP_OF_ID[group_id]
    ours = dh.initiate(group, os.urandom)
    good = dh.initiate(group, os.urandom).public
    half = group.public // 2
    off_curve = good[:-1] + bytes([good[-1] ^ 1])
    for bad in (off_curve, bytes(group.public), b"\xff" * group.public, good[half:] + good[:half]):
        with pytest.raises(dh.KeyExchangeError):
            ours.shared_secret(bad)


def test_a_point_of_another_curve_is_refused():
    numbers = ec.generate_private_key(ec.SECP256K1()).public_key().public_numbers()
    foreign = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    with pytest.raises(dh.KeyExchangeError):
        dh.initiate(GROUP_OF_ID[19], os.urandom).shared_secret(foreign)


@pytest.mark.parametrize(
    "low_order",
    [
        bytes(32),
        b"\x01" + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ],
)
def test_curve25519_points_of_low_order_are_refused(low_order):
    with pytest.raises(dh.KeyExchangeError):
        dh.initiate(GROUP_OF_ID[31], os.urandom).shared_secret(low_order)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.keyword)
def test_a_value_of_another_length_is_refused(group):
    ours = dh.initiate(group, zeros)
    for octets in (0, 1, group.public - 1, group.public + 1, 65_000):
        with pytest.raises(dh.KeyExchangeError, match="octets"):
            ours.shared_secret(bytes(octets))


def test_no_secret_in_repr_or_error():
    ours = dh.initiate(GROUP_OF_ID[31], lambda count: b"\xab" * count)
    assert "abab" not in repr(ours)
    assert "_private" not in repr(ours)


# --- key encapsulation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", KEMS, ids=lambda method: method.keyword)
def test_an_encapsulation_gives_both_sides_one_secret(method):
    ours = dh.initiate(method, os.urandom)
    ciphertext, secret = dh.respond(method, ours.public, os.urandom)
    assert (len(ours.public), len(ciphertext), len(secret)) == (method.public, method.ciphertext, 32)
    assert ours.shared_secret(ciphertext) == secret
    assert isinstance(secret, bytearray)  # can be wiped


@pytest.mark.parametrize("method", KEMS, ids=lambda method: method.keyword)
def test_an_altered_ciphertext_gives_another_secret_and_no_error(method):
    """FIPS 203 §6.3: it shows in the next ICV."""
    ours = dh.initiate(method, os.urandom)
    ciphertext, secret = dh.respond(method, ours.public, os.urandom)
    other = ours.shared_secret(bytes([ciphertext[0] ^ 1]) + ciphertext[1:])
    assert len(other) == 32
    assert other != secret


@pytest.mark.parametrize("method", KEMS, ids=lambda method: method.keyword)
def test_keys_and_ciphertexts_of_the_wrong_form_are_refused(method):
    ours = dh.initiate(method, os.urandom)
    ciphertext, _ = dh.respond(method, ours.public, os.urandom)
    for key in (b"", ours.public[:-1], ours.public + b"\0", bytes(method.ciphertext + 1)):
        with pytest.raises(dh.KeyExchangeError, match="octets"):
            dh.respond(method, key, os.urandom)
    with pytest.raises(dh.KeyExchangeError, match="unfit"):
        dh.respond(method, bytes([255]) * method.public, os.urandom)  # coefficients beyond the modulus
    for answer in (b"", ciphertext[:-1], ciphertext + b"\0", bytes(method.public + 1)):
        with pytest.raises(dh.KeyExchangeError, match="octets"):
            ours.shared_secret(answer)
