"""Which certificates of a peer are looked at further: keys, names and constraints, before anything is computed."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from ipsec_dp.ike import certificate_rules, certificates
from ipsec_dp.ike.auth import SecretError
from ipsec_dp.ike.certificates import CertificateError, Trust
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.strangers import LIMITS

from .pki import NOW, OpenSsl

ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
SUB_KEY = ec.generate_private_key(ec.SECP256R1())
CA = (x509.BasicConstraints(ca=True, path_length=None), True)
GW = (x509.SubjectAlternativeName([x509.DNSName("gw.example")]), False)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, signer, *extensions):
    builder = x509.CertificateBuilder(name(issuer), name(subject), key, x509.random_serial_number())
    builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


@cache
def root():
    return certificate("root", ROOT_KEY.public_key(), "root", ROOT_KEY, CA)


def below_root(key, *extensions):
    return certificate("gw", key, "root", ROOT_KEY, *(extensions or (GW,)))


def sub(*extensions):
    return certificate("sub", SUB_KEY.public_key(), "root", ROOT_KEY, CA, *extensions)


def below_sub(key=None):
    return certificate("gw", key or ed25519.Ed25519PrivateKey.generate().public_key(), "sub", SUB_KEY, GW)


def verify(*chain):
    return certificates.verify(chain, Identity.from_text("gw.example"), Trust((root(),)), NOW)


def rsa_key(bits):
    """A modulus of that size that nobody knows the factors of."""
    return rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) | 1).public_key()


@pytest.mark.parametrize("bits", [2048, 4096, LIMITS.rsa_bits])
def test_rsa_keys_that_are_admitted(bits):
    assert verify(below_root(rsa_key(bits))).key_size == bits


@pytest.mark.parametrize("bits", [1024, LIMITS.rsa_bits + 8, 16384])
def test_rsa_keys_that_are_not(bits):
    with pytest.raises(CertificateError, match=f"an RSA key of {bits} bits; 2048 to 8192 are admitted"):
        verify(below_root(rsa_key(bits)))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_curves_that_are_admitted(curve):
    assert verify(below_root(ec.generate_private_key(curve).public_key())).curve.name == curve.name


@pytest.mark.parametrize(
    "curve", [ec.SECP192R1(), ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()], ids=lambda curve: curve.name
)
def test_curves_that_are_not(curve):
    with pytest.raises(CertificateError, match=f"a key on {curve.name}; secp256r1, secp384r1, secp521r1 are admitted"):
        verify(below_root(ec.generate_private_key(curve).public_key()))


@pytest.mark.parametrize("kind", [ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey], ids=lambda kind: kind.__name__)
def test_edwards_curves_that_are_admitted(kind):
    key = kind.generate()
    assert verify(below_root(key.public_key())) == key.public_key()


def test_keys_of_other_kinds_are_refused_by_name():
    other = {
        "an X25519 key": x25519.X25519PrivateKey.generate().public_key(),
        "an X448 key": x448.X448PrivateKey.generate().public_key(),
        "a DSA key": dsa.generate_private_key(2048).public_key(),
    }
    for name, key in other.items():
        with pytest.raises(CertificateError, match=f"{name}; RSA, ECDSA, Ed25519 and Ed448 keys are admitted"):
            verify(below_root(key))


def test_a_key_of_ours_of_another_kind_is_refused_by_name_too(tmp_path):
    made = OpenSsl(tmp_path)
    with pytest.raises(SecretError, match="an X448 key; RSA, ECDSA, Ed25519 and Ed448 keys can be used"):
        certificates.load_private_key(made.key("other", "x448"))
    public = certificates.public_octets(certificates.load_private_key(made.key("gw")).public_key())
    with pytest.raises(CertificateError, match="with an X448 key"):
        certificates.check_key(below_root(x448.X448PrivateKey.generate().public_key()), public, "gw.key", "other.crt")


def test_a_key_that_is_not_admitted_is_in_no_chain_and_spoils_none_that_it_stands_beside(monkeypatch):
    """RFC 7296 §3.6. Nothing is computed with it either: the verifier never sees it."""
    verify(below_sub(), sub(), certificate("other", rsa_key(16384), "root", ROOT_KEY, CA))
    with pytest.raises(CertificateError, match=r"does not lead.*of what it sent besides, this does not do: .*16384 bits"):
        verify(below_sub(), certificate("sub", rsa_key(16384), "root", ROOT_KEY, CA))
    verify(below_sub(), certificate("sub", rsa_key(16384), "root", ROOT_KEY, CA), sub())
    monkeypatch.setattr(certificate_rules, "check_rules", lambda _: None)
    with pytest.raises(CertificateError, match="does not lead") as refused:
        verify(below_sub(), certificate("sub", rsa_key(16384), "root", ROOT_KEY, CA))
    assert "besides" not in str(refused.value)


def test_too_many_names():
    key, names = SUB_KEY.public_key(), [x509.DNSName("gw.example")]
    verify(below_root(key, (x509.SubjectAlternativeName(names * LIMITS.names), False)))
    with pytest.raises(CertificateError, match=f"more than {LIMITS.names} names"):
        verify(below_root(key, (x509.SubjectAlternativeName(names * (LIMITS.names + 1)), False)))


def constrained(*permitted, excluded=(), critical=True):
    return x509.NameConstraints(list(permitted) or None, list(excluded) or None), critical


def test_name_constraints_that_are_understood_are_applied():
    verify(below_sub(), sub(constrained(x509.DNSName("example"))))
    with pytest.raises(CertificateError, match="does not lead"):
        verify(below_sub(), sub(constrained(x509.DNSName("other"))))
    with pytest.raises(CertificateError, match="does not lead"):
        verify(below_sub(), sub(constrained(excluded=[x509.DNSName("example")])))
    verify(below_sub(), sub(constrained(x509.IPAddress(ip_network("192.0.2.0/24")))))


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("side", ["permitted", "excluded"])
@pytest.mark.parametrize(
    "kind", [x509.DirectoryName(name("else")), x509.UniformResourceIdentifier("else"), x509.RFC822Name("else.example")], ids=repr
)
def test_name_constraints_of_other_kinds_are_refused_critical_or_not(kind, side, critical):
    """One that is not critical was passed over, and with it what its authority says of whom it may vouch for."""
    constraint = constrained(kind, critical=critical) if side == "permitted" else constrained(excluded=[kind], critical=critical)
    with pytest.raises(CertificateError, match=r"not understood here|does not lead"):
        verify(below_sub(), sub(constraint))


def test_name_constraints_of_an_authority_that_is_configured_count_too():
    key = ec.generate_private_key(ec.SECP256R1())
    narrow = certificate("narrow", key.public_key(), "narrow", key, CA, constrained(x509.DirectoryName(name("x")), critical=False))
    leaf = certificate("gw", SUB_KEY.public_key(), "narrow", key, GW)
    with pytest.raises(CertificateError, match="not understood here"):
        certificates.verify([leaf], Identity.from_text("gw.example"), Trust((narrow,)), NOW)


def test_too_many_name_constraints():
    many = [x509.DNSName(f"d{number}.example") for number in range(LIMITS.constraints + 1)]
    with pytest.raises(CertificateError, match=f"more than {LIMITS.constraints} name constraints"):
        verify(below_sub(), sub(constrained(x509.DNSName("example"), excluded=many)))


@pytest.mark.parametrize(
    ("usages", "good"),
    [
        ([ExtendedKeyUsageOID.CODE_SIGNING], False),
        ([ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ObjectIdentifier("1.3.6.1.5.5.7.3.17")], True),
    ],
)
def test_an_authority_between_must_be_for_ike_too_if_it_says_what_it_is_for(usages, good):
    chain = below_sub(), sub((x509.ExtendedKeyUsage(usages), False))
    if good:
        verify(*chain)
    else:
        with pytest.raises(CertificateError, match="extended key usage is not for IKE"):
            verify(*chain)


def test_how_many_and_how_long():
    octets = below_root(SUB_KEY.public_key()).public_bytes(Encoding.DER)
    assert len(certificates.from_der([octets] * LIMITS.certificates)) == LIMITS.certificates
    with pytest.raises(CertificateError, match=f"{LIMITS.certificates + 1} certificates, {LIMITS.certificates} are the most"):
        certificates.from_der([octets] * (LIMITS.certificates + 1))
    for several in ([octets, bytes(LIMITS.certificate_octets + 1)], [bytes(LIMITS.certificate_octets)] * 3):
        with pytest.raises(CertificateError, match=r"octets, .* are the most"):
            certificates.from_der(several)


def test_an_exponent_that_is_longer_than_anybody_needs():
    """OpenSSL takes one as long as the modulus, and a verification then costs a hundred times as much."""
    with pytest.raises(CertificateError, match="exponent has 3000 bits; 64 are the most"):
        verify(below_root(rsa.RSAPublicNumbers(1 << 2999 | 1, 1 << 3071 | 1).public_key()))


def test_how_many_extensions():
    def extensions(number):
        kinds = (ObjectIdentifier(f"1.3.6.1.4.1.99999.{each}") for each in range(number))
        return [(x509.UnrecognizedExtension(kind, b"\x05\0"), False) for kind in kinds]

    key = SUB_KEY.public_key()
    verify(below_root(key, GW, *extensions(LIMITS.extensions - 1)))
    with pytest.raises(CertificateError, match=f"more than {LIMITS.extensions} extensions"):
        verify(below_root(key, GW, *extensions(LIMITS.extensions)))


def test_how_long_a_name_may_be():
    def named(number):
        wide = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, str(each)) for each in range(number)]
        builder = x509.CertificateBuilder(name("root"), x509.Name(wide), SUB_KEY.public_key(), 1)
        builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
        return builder.add_extension(*GW).sign(ROOT_KEY, hashes.SHA256())

    verify(named(LIMITS.name_attributes))
    with pytest.raises(CertificateError, match=f"a name of more than {LIMITS.name_attributes} attributes"):
        verify(named(LIMITS.name_attributes + 1))
