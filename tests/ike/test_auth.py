"""AUTH: shared keys and signatures prove what they should, and nothing else passes."""

import hashlib
import hmac
import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike import auth
from ipsec_dp.ike.auth import AuthenticationError, AuthMethod, HashAlgorithm, PreSharedKey, Proof, SecretError
from ipsec_dp.ike.v2.payloads import IdentificationInitiator
from ipsec_dp.ipsec.transforms import PRFS

from .pki import OpenSsl, run

SHA256 = PRFS[0]
OCTETS = b"what is signed"
ALL_HASHES = frozenset(auth.OUR_HASHES)


@pytest.fixture(scope="module")
def keys():
    return {
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "ed448": ed448.Ed448PrivateKey.generate(),
    }


def test_signed_octets_of_rfc_7296():
    """§2.15, computed here with hmac: message | nonce of the other | prf(SK_p, body of the ID payload)."""
    body = IdentificationInitiator(2, b"gw.example").body()
    assert body == bytes.fromhex("02000000") + b"gw.example"
    expected = b"message" + b"nonce" + hmac.digest(b"sk_pi", body, hashlib.sha256)
    assert auth.signed_octets(SHA256, b"message", b"nonce", b"sk_pi", body) == expected


# --- shared keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prf", PRFS, ids=lambda prf: prf.keyword)
def test_a_shared_key_gives_the_octets_of_rfc_7296_and_verifies(prf):
    key = PreSharedKey.from_text("a secret of some length")
    proof = key.sign(prf, OCTETS)
    inner = hmac.digest(b"a secret of some length", b"Key Pad for IKEv2", prf.hash)
    assert proof == Proof(2, hmac.digest(inner, OCTETS, prf.hash))
    key.verify(prf, OCTETS, proof)


@pytest.mark.parametrize(
    "received",
    [
        Proof(2, bytes(32)),
        Proof(2, b"x"),
        Proof(1, bytes(256)),
        Proof(0, bytes(32)),
        Proof(14, bytes(32)),
        Proof(99, bytes(32)),
    ],
)
def test_anything_else_than_the_shared_keys_auth_is_refused(received):
    with pytest.raises(AuthenticationError):
        PreSharedKey.from_text("k" * 16).verify(SHA256, OCTETS, received)


def test_another_key_or_other_octets_do_not_verify():
    proof = PreSharedKey.from_text("k" * 16).sign(SHA256, OCTETS)
    for key, octets in (("l" * 16, OCTETS), ("k" * 16, OCTETS + b"x")):
        with pytest.raises(AuthenticationError, match="shared keys differ"):
            PreSharedKey.from_text(key).verify(SHA256, octets, proof)


@pytest.mark.parametrize(("text", "key"), [("0x00ff10", b"\x00\xff\x10"), (" text \n", b"text"), ("žlutý", "žlutý".encode())])
def test_texts_of_a_shared_key(text, key):
    assert PreSharedKey.from_text(text).sign(SHA256, OCTETS) == PreSharedKey(key).sign(SHA256, OCTETS)


@pytest.mark.parametrize("text", ["", " \n", "0x", "0xzz", "0x123"])
def test_texts_that_are_no_shared_key(text):
    with pytest.raises(SecretError):
        PreSharedKey.from_text(text)


def test_a_short_key_warns_and_a_long_one_does_not():
    assert "15 octets" in (PreSharedKey(b"k" * 15).warning or "")
    assert PreSharedKey(b"k" * 16).warning is None


def test_a_shared_key_is_in_no_repr_and_no_error_and_can_be_wiped():
    key = PreSharedKey(b"very secret words")
    assert repr(key) == str(key) == "<PreSharedKey>"
    with pytest.raises(SecretError) as caught:
        PreSharedKey.from_text("0xvery secret words")
    assert "very" not in str(caught.value)
    before = key.sign(SHA256, OCTETS)
    key.wipe()
    assert key.sign(SHA256, OCTETS) != before


def test_a_secret_file_is_read_when_kept_from_others(tmp_path):
    path = tmp_path / "to-b.psk"
    path.write_text("0x00112233445566778899aabbccddeeff\n")
    path.chmod(0o600)
    assert PreSharedKey.from_file(path).warning is None


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_a_secret_file_open_to_everybody_is_refused(tmp_path, mode):
    path = tmp_path / "to-b.psk"
    path.write_text("k" * 16)
    path.chmod(mode)
    with pytest.raises(SecretError, match="open to every user"):
        PreSharedKey.from_file(path)


def test_a_missing_special_huge_or_binary_secret_file_is_refused(tmp_path):
    with pytest.raises(SecretError, match="No such file"):
        PreSharedKey.from_file(tmp_path / "none")
    with pytest.raises(SecretError, match="not a regular file"):
        PreSharedKey.from_file("/dev/null")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SecretError, match="not a regular file"):
        PreSharedKey.from_file(tmp_path / "fifo")
    for content, why in ((b"k" * 65_537, "longer than"), (b"\xff\xfe", "not UTF-8")):
        path = tmp_path / "file"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SecretError, match=why):
            PreSharedKey.from_file(path)


# --- signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "peer_hashes", "scheme"),
    [
        ("rsa", ALL_HASHES, "RSA-PSS-SHA256"),
        ("rsa", {HashAlgorithm.SHA2_512}, "RSA-PSS-SHA512"),
        ("p256", ALL_HASHES, "ECDSA-SHA256"),
        ("p384", ALL_HASHES, "ECDSA-SHA384"),
        ("p521", ALL_HASHES, "ECDSA-SHA512"),
        ("p521", {HashAlgorithm.SHA2_256, HashAlgorithm.SHA1}, "ECDSA-SHA256"),
        ("ed25519", ALL_HASHES, "Ed25519"),
        ("ed448", ALL_HASHES, "Ed448"),
        ("p256", None, "ECDSA_P256"),
        ("p384", None, "ECDSA_P384"),
        ("p521", None, "ECDSA_P521"),
        ("rsa", None, "RSA-SHA256 (method 1)"),
    ],
)
def test_a_signature_verifies_by_the_scheme_both_sides_know(keys, key, peer_hashes, scheme):
    proof = auth.sign(keys[key], OCTETS, None if peer_hashes is None else frozenset(peer_hashes))
    assert auth.verify(keys[key].public_key(), OCTETS, proof) == scheme
    with pytest.raises(AuthenticationError):
        auth.verify(keys[key].public_key(), OCTETS + b"x", proof)


def test_pkcs1_is_used_where_preferred(keys):
    proof = auth.sign(keys["rsa"], OCTETS, ALL_HASHES, pss=False)
    assert auth.verify(keys["rsa"].public_key(), OCTETS, proof) == "RSA-SHA256"


def test_the_sha1_form_of_the_classic_method_is_off_by_default(keys):
    proof = auth.sign(keys["rsa"], OCTETS, None, sha1=True)
    keys["rsa"].public_key().verify(proof.data, OCTETS, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - the subject of this test
    with pytest.raises(AuthenticationError, match="SHA-1, which is off"):
        auth.verify(keys["rsa"].public_key(), OCTETS, proof)
    assert auth.verify(keys["rsa"].public_key(), OCTETS, proof, sha1=True) == "RSA-SHA1 (method 1)"


@pytest.mark.parametrize(
    ("key", "peer_hashes"), [("ed25519", None), ("ed448", None), ("ed25519", {2}), ("rsa", {1}), ("p256", {5}), ("rsa", set())]
)
def test_no_signature_is_made_that_the_peer_could_not_verify(keys, key, peer_hashes):
    with pytest.raises(AuthenticationError):
        auth.sign(keys[key], OCTETS, None if peer_hashes is None else frozenset(peer_hashes))


def test_signature_hash_algorithms_both_ways():
    assert auth.hash_algorithms_data() == bytes.fromhex("0002000300040005")
    assert auth.parse_hash_algorithms(auth.hash_algorithms_data()) == ALL_HASHES
    assert auth.parse_hash_algorithms(b"\0\x02\0") == {2}
    assert auth.parse_hash_algorithms(b"") == frozenset()


@pytest.mark.parametrize("signer", ["rsa", "p256", "ed25519", "ed448"])
@pytest.mark.parametrize("verifier", ["rsa", "p256", "p384", "ed25519", "ed448"])
def test_a_signature_of_one_key_never_verifies_with_another(keys, signer, verifier):
    if signer == verifier:
        return
    for proof in (
        auth.sign(keys[signer], OCTETS, ALL_HASHES),
        auth.sign(keys["rsa" if signer == "rsa" else "p256"], OCTETS, None),
    ):
        if verifier == "p256" and proof.method == AuthMethod.ECDSA_P256:
            continue
        with pytest.raises(AuthenticationError):
            auth.verify(keys[verifier].public_key(), OCTETS, proof)


@pytest.mark.parametrize(
    "identifier",
    [
        "300d06092a864886f70d0101050500",  # RSA with SHA-1
        "300906072a8648ce3d0401",  # ECDSA with SHA-1
        "300b06092a864886f70d01010b",  # RSA with SHA-256, the NULL left out (RFC 4055 §5 wants it)
        "300d06092a864886f70d01010b0500" + "00",
        "308100",
        "300f06092a864886f70d01010a3000" + "0000",  # PSS with its SHA-1 defaults
        "",
    ],
)
def test_an_algorithm_identifier_that_is_not_in_the_table_octet_for_octet_is_refused(keys, identifier):
    der = bytes.fromhex(identifier)
    for name in ("rsa", "p256"):
        public = keys[name].public_key()
        signature = auth.sign(keys[name], OCTETS, ALL_HASHES).data
        with pytest.raises(AuthenticationError, match="not admitted"):
            auth.verify(public, OCTETS, Proof(14, bytes([len(der)]) + der + signature[1 + signature[0] :]))


def test_the_two_forms_of_a_pss_identifier_are_both_taken(keys):
    for scheme in (s for s in auth.SCHEMES if s.pss):
        digest = {2: hashes.SHA256(), 3: hashes.SHA384(), 4: hashes.SHA512()}[scheme.hash]
        signature = keys["rsa"].sign(OCTETS, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        for identifier in scheme.identifiers:
            proof = Proof(14, bytes([len(identifier)]) + identifier + signature)
            assert auth.verify(keys["rsa"].public_key(), OCTETS, proof) == scheme.name


@given(st.sampled_from([1, 9, 10, 11, 14]), st.binary(min_size=1, max_size=150))
def test_arbitrary_auth_data_raises_only_the_authentication_error(keys, method, data):
    for key in keys.values():
        with pytest.raises(AuthenticationError):
            auth.verify(key.public_key(), OCTETS, Proof(method, data))


def forged_pkcs1(key, encoded):
    """A "signature" whose RSA decoding is exactly `encoded`: what a forger of lax verifiers aims for."""
    numbers = key.private_numbers()
    n, d = numbers.public_numbers.n, numbers.d
    return pow(int.from_bytes(encoded, "big"), d, n).to_bytes(key.key_size // 8, "big")


def test_lax_pkcs1_encodings_are_refused(keys):
    """Bug class: lax PKCS#1 v1.5. Only 00 01 FF… 00 DigestInfo hash, to the last octet, is a signature."""
    key, digest = keys["rsa"], hashlib.sha256(OCTETS).digest()
    info = bytes.fromhex("3031300d060960864801650304020105000420") + digest
    without_null = bytes.fromhex("302f300b0609608648016503040201") + bytes.fromhex("0420") + digest
    good = b"\0\x01" + b"\xff" * (253 - len(info)) + b"\0" + info
    bad = {
        "rubbish after the hash": b"\0\x01" + b"\xff" * 8 + b"\0" + info + bytes(256 - 11 - len(info)),
        "short padding, rubbish in front": b"\0\x01" + b"\xff" * 8 + b"\0" + bytes(256 - 11 - len(info)) + info,
        "padding other than FF": b"\0\x01" + b"\xfe" * (253 - len(info)) + b"\0" + info,
        "block type 2": b"\0\x02" + good[2:],
        "DigestInfo without NULL": b"\0\x01" + b"\xff" * (253 - len(without_null)) + b"\0" + without_null,
        "bare hash": b"\0\x01" + b"\xff" * (253 - 32) + b"\0" + digest,
    }
    for method, prefix in ((1, b""), (14, bytes([15]) + bytes.fromhex("300d06092a864886f70d01010b0500"))):
        auth.verify(key.public_key(), OCTETS, Proof(method, prefix + forged_pkcs1(key, good)))
        for why, encoded in bad.items():
            assert len(encoded) == 256, why
            with pytest.raises(AuthenticationError):
                auth.verify(key.public_key(), OCTETS, Proof(method, prefix + forged_pkcs1(key, encoded)))


def test_a_weak_rsa_key_proves_nothing():
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - the subject of this test
    with pytest.raises(AuthenticationError, match="1024 bits"):
        auth.verify(weak.public_key(), OCTETS, auth.sign(weak, OCTETS, ALL_HASHES))


def test_a_shared_key_method_never_passes_for_a_signature(keys):
    with pytest.raises(AuthenticationError, match="a shared key"):
        auth.verify(keys["rsa"].public_key(), OCTETS, PreSharedKey(b"k" * 16).sign(SHA256, OCTETS))


@pytest.mark.parametrize("r", [0, 1])
def test_ecdsa_numbers_out_of_range_are_refused(keys, r):
    data = r.to_bytes(32, "big") + bytes(32)
    with pytest.raises(AuthenticationError):
        auth.verify(keys["p256"].public_key(), OCTETS, Proof(9, data))


SELF_SIGNED = {  # scheme: kind of key, what makes openssl sign that way
    "RSA-PSS-SHA256": ("rsa", ["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]),
    "RSA-PSS-SHA384": ("rsa", ["-sha384", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]),
    "RSA-PSS-SHA512": ("rsa", ["-sha512", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]),
    "RSA-SHA256": ("rsa", ["-sha256"]),
    "RSA-SHA384": ("rsa", ["-sha384"]),
    "RSA-SHA512": ("rsa", ["-sha512"]),
    "ECDSA-SHA256": ("ec", ["-sha256"]),
    "ECDSA-SHA384": ("ec", ["-sha384"]),
    "ECDSA-SHA512": ("ec", ["-sha512"]),
    "Ed25519": ("ed25519", []),
    "Ed448": ("ed448", []),
}


def test_algorithm_identifiers_are_those_openssl_writes(tmp_path):
    """A certificate holds its AlgorithmIdentifier twice: the table is checked against an implementation that is not ours."""
    openssl = OpenSsl(tmp_path)
    keys = {kind: openssl.key(kind, kind) for kind in ("rsa", "ec", "ed25519", "ed448")}
    for scheme in auth.SCHEMES:
        kind, options = SELF_SIGNED[scheme.name]
        der = run("openssl", "req", "-x509", "-key", keys[kind], "-subj", "/CN=x", *options, "-outform", "DER")
        assert der.count(scheme.identifiers[0]) >= 2, scheme.name
