"""Certificates made by `openssl` and `pki`: chains, identities, usages, expiry, revocation, files."""

import ast
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike import auth, certificates
from ipsec_dp.ike.auth import SecretError
from ipsec_dp.ike.certificates import CertificateError, Credential, Revocation, Trust
from ipsec_dp.ike.identity import Identity, IdType
from ipsec_dp.ike.v2.cert_payloads import certificate_payloads, certificate_request, from_payloads
from ipsec_dp.ike.v2.payloads import Certificate

from .pki import CA, NOW, OpenSsl, pki_program, run

SAN = "subjectAltName=IP:192.0.2.2,IP:2001:db8::2,DNS:gwB.example,email:admin@gw.example"
DN = "C=DE, O=Org, CN=gwB"
LEAVES = {  # name: (kind of key, extension lines)
    "gw": ("ec", SAN),
    "no-san": ("ec", "keyUsage=digitalSignature"),
    "rsa": ("rsa", SAN),
    "ed25519": ("ed25519", SAN),
    "ike-eku": ("ec", SAN + "\nextendedKeyUsage=critical,1.3.6.1.5.5.7.3.17\nkeyUsage=critical,digitalSignature"),
    "tls-eku": ("ec", SAN + "\nextendedKeyUsage=serverAuth"),
    "mail-eku": ("ec", SAN + "\nextendedKeyUsage=emailProtection"),
    "encipher": ("ec", SAN + "\nkeyUsage=critical,keyEncipherment"),
    "unknown-critical": ("ec", SAN + "\n1.2.3.4=critical,ASN1:NULL"),
    "weak": ("rsa1024", SAN),
    "ed448": ("ed448", SAN),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """root -> leaves; root -> sub1 .. sub6 -> leaf under each; another root with the same name."""
    openssl = OpenSsl(tmp_path_factory.mktemp("pki"))
    openssl.certificate("root", "/O=Org/CN=Root", extensions=CA)
    openssl.certificate("impostor", "/O=Org/CN=Root", extensions=CA)
    for name, (kind, extensions) in LEAVES.items():
        openssl.certificate(name, "/C=DE/O=Org/CN=gwB", "root", extensions, kind)
    issuer = "root"
    for depth in range(1, 7):
        openssl.certificate(f"sub{depth}", f"/O=Org/CN=Sub {depth}", issuer, CA)
        issuer = f"sub{depth}"
        openssl.certificate(f"under{depth}", "/C=DE/O=Org/CN=gwB", issuer, SAN)
    openssl.certificate("no-ca", "/O=Org/CN=No CA", "root", "basicConstraints=CA:FALSE")
    openssl.certificate("under-no-ca", "/C=DE/O=Org/CN=gwB", "no-ca", SAN)
    openssl.certificate("no-sign", "/O=Org/CN=No sign", "root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign")
    openssl.certificate("under-no-sign", "/C=DE/O=Org/CN=gwB", "no-sign", SAN)
    openssl.certificate("alone", "/C=DE/O=Org/CN=gwB", None, SAN)
    openssl.certificate("narrow", "/O=Org/CN=Narrow", "root", CA + "\nnameConstraints=critical,permitted;DNS:other.example")
    openssl.certificate("under-narrow", "/C=DE/O=Org/CN=gwB", "narrow", "subjectAltName=DNS:gwB.example")
    return openssl


def load(made, *names):
    return [certificates.load_certificates(made.path(f"{name}.crt"))[0] for name in names]


def trust(made, *crls, revocation=Revocation.IF_PRESENT, roots=("root",)):
    return Trust(tuple(load(made, *roots)), tuple(certificates.load_crl(made.path(f"{c}.crl")) for c in crls), revocation)


def verify(made, *names, identity="gwB.example", at=NOW, using=None):
    return certificates.verify(load(made, *names), Identity.from_text(identity), using or trust(made), at)


UNREADABLE = {
    # what a fuzzer found, and what of a certificate becomes what: `cryptography` raises another exception for each
    "a BIT STRING in the issuer": (b"\x0c\x04Root", b"\x03\x04\0oot"),
    "version 35": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x22"),
}


@pytest.mark.parametrize("spoiled", UNREADABLE)
def test_a_certificate_that_the_library_cannot_hold_is_refused_like_any_other(made, spoiled):
    (leaf,) = load(made, "gw")
    octets = leaf.public_bytes(Encoding.DER).replace(*UNREADABLE[spoiled])
    assert octets != leaf.public_bytes(Encoding.DER)
    with pytest.raises(CertificateError, match=r"cannot be read|is no X\.509"):
        certificates.verify(from_payloads([Certificate(4, octets)]), Identity.from_text("gwB.example"), trust(made), NOW)


# --- chains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gw", "rsa", "ed25519", "ed448", "ike-eku", "tls-eku"])
def test_a_certificate_of_our_authority_gives_the_key_that_verifies_auth(made, name):
    key = verify(made, name)
    private = certificates.load_private_key(made.path(f"{name}.key"))
    auth.verify(key, b"octets", auth.sign(private, b"octets", frozenset(auth.OUR_HASHES)))


def test_a_certificate_without_san_is_good_for_its_dn_alone(made):
    verify(made, "no-san", identity=DN)
    with pytest.raises(CertificateError, match="its certificate holds C=DE, O=Org, CN=gwB"):
        verify(made, "no-san", identity="gwB")


@pytest.mark.parametrize("depth", range(1, 6))
def test_chains_with_up_to_five_authorities_between_in_any_order(made, depth):
    between = [f"sub{n}" for n in range(1, depth + 1)]
    verify(made, f"under{depth}", *between)
    verify(made, f"under{depth}", *reversed(between), "gw", "impostor")


def test_a_chain_with_six_authorities_between_is_refused(made):
    with pytest.raises(CertificateError, match="does not lead"):
        verify(made, "under6", *[f"sub{n}" for n in range(1, 7)])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["under1"], "issuer O=Org, CN=Sub 1 is not known"),
        (["under2", "sub2"], "does not lead"),
        (["alone"], "is not known"),
        (["under-no-ca", "no-ca"], "does not lead"),
        (["under-no-sign", "no-sign"], "does not lead"),
        (["under-narrow", "narrow"], "does not lead"),
        (["mail-eku"], "extended key usage is not for IKE"),
        (["encipher"], "digital signatures"),
        (["unknown-critical"], "critical"),
        (["weak"], "1024 bits"),
    ],
)
def test_a_certificate_that_must_not_be_believed(made, names, why):
    with pytest.raises(CertificateError, match=why):
        verify(made, *names)


def test_an_authority_of_the_same_name_with_another_key_is_refused(made):
    with pytest.raises(CertificateError, match="does not lead"):
        verify(made, "gw", using=trust(made, roots=["impostor"]))
    verify(made, "gw", using=trust(made, roots=["impostor", "root"]))


def test_without_authorities_nothing_is_believed(made):
    with pytest.raises(CertificateError, match="no certificate authorities"):
        verify(made, "gw", using=Trust(()))


@pytest.mark.parametrize("days", [-1, 366])
def test_a_certificate_is_only_good_in_its_time(made, days):
    with pytest.raises(CertificateError, match="is valid from"):
        verify(made, "gw", at=NOW + timedelta(days=days))


# --- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity", ["192.0.2.2", "2001:db8::2", "gwB.example", "GWB.EXAMPLE", "admin@gw.example", DN, "c=de,o=org,cn=GWB"]
)
def test_identities_a_certificate_holds(made, identity):
    verify(made, "gw", identity=identity)


@pytest.mark.parametrize("identity", ["192.0.2.3", "gwA.example", "gwB", "x@gw.example", "C=DE, O=Org", "keyid:gwB.example"])
def test_identities_a_certificate_does_not_hold(made, identity):
    with pytest.raises(CertificateError, match="the peer says it is"):
        verify(made, "gw", identity=identity)


def test_the_certificates_own_octets_of_a_name_are_found(made):
    [leaf] = load(made, "gw")
    held = certificates.identity_in(leaf, Identity.from_text("c=de, o=ORG, cn=gwb"))
    assert held == Identity(IdType.DER_ASN1_DN, leaf.subject.public_bytes())


# --- revocation ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lists(made):
    made.crl("empty", "root")
    made.crl("gw-revoked", "root", ("gw",))
    made.crl("sub1-revoked", "root", ("sub1",))
    made.crl("sub1-empty", "sub1")
    made.crl("forged", "impostor", ("gw",))
    made.crl("forged-empty", "impostor")
    made.crl("partial", "root", ("gw",), "issuingDistributionPoint=critical,onlyuser:TRUE")
    return made


LATER = NOW + timedelta(hours=24)  # after nextUpdate


@pytest.mark.parametrize(
    ("crls", "revocation", "at", "why"),
    [
        ([], "off", NOW, None),
        ([], "if-present", NOW, None),
        ([], "strict", NOW, "no current CRL of O=Org, CN=Root"),
        (["empty"], "strict", NOW, None),
        (["empty"], "strict", LATER, "no current CRL"),
        (["empty"], "if-present", LATER, None),
        (["gw-revoked"], "off", NOW, None),
        (["gw-revoked"], "if-present", NOW, "is revoked"),
        (["gw-revoked"], "if-present", LATER, "is revoked"),
        (["empty", "gw-revoked"], "strict", NOW, "is revoked"),
        (["forged"], "if-present", NOW, None),
        (["forged-empty"], "strict", NOW, "no current CRL"),
        (["partial"], "if-present", NOW, None),
        (["partial"], "strict", NOW, "no current CRL"),
        (["sub1-empty"], "strict", NOW, "no current CRL"),
    ],
)
def test_revocation(lists, crls, revocation, at, why):
    using = trust(lists, *crls, revocation=Revocation(revocation))
    if why is None:
        verify(lists, "gw", at=at, using=using)
        return
    with pytest.raises(CertificateError, match=why):
        verify(lists, "gw", at=at, using=using)


def test_an_authority_without_key_usage_may_sign_crls_and_one_that_excludes_it_may_not(made):
    made.certificate("plain", "/O=Org/CN=Plain", None, "basicConstraints=critical,CA:TRUE")
    made.certificate("certs-only", "/O=Org/CN=Certs only", None, "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign")
    for issuer in ("plain", "certs-only"):
        made.certificate(f"under-{issuer}", "/C=DE/O=Org/CN=gwB", issuer, SAN)
        made.crl(f"{issuer}-empty", issuer)
    verify(made, "under-plain", using=trust(made, "plain-empty", roots=["plain"], revocation=Revocation.STRICT))
    with pytest.raises(CertificateError, match="no current CRL"):
        verify(made, "under-certs-only", using=trust(made, "certs-only-empty", roots=["certs-only"], revocation=Revocation.STRICT))


def test_every_certificate_below_the_root_is_looked_up(lists):
    verify(lists, "under1", "sub1", using=trust(lists, "empty", "sub1-empty", revocation=Revocation.STRICT))
    with pytest.raises(CertificateError, match="CN=Sub 1 is revoked"):
        verify(lists, "under1", "sub1", using=trust(lists, "sub1-revoked", "sub1-empty"))
    with pytest.raises(CertificateError, match="no current CRL of O=Org, CN=Sub 1"):
        verify(lists, "under1", "sub1", using=trust(lists, "empty", revocation=Revocation.STRICT))


# --- what comes in messages, what goes out ---------------------------------------------------------------------------


def test_certificates_travel_as_payloads(made):
    credential = Credential.from_files(made.path("gw.crt"), made.path("gw.key"))
    received = from_payloads(certificate_payloads(credential))
    assert received == credential.certificates
    assert "key" not in repr(credential).lower().replace("publickey", "")


def test_a_certificate_request_names_authorities_by_the_hash_of_their_keys(made):
    request = certificate_request(trust(made))
    key = run("openssl", "x509", "-in", made.path("root.crt"), "-pubkey", "-noout")
    made.path("root.pub").write_bytes(key)
    der = run("openssl", "pkey", "-pubin", "-in", made.path("root.pub"), "-outform", "DER")
    made.path("root.spki").write_bytes(der)
    digest = run("openssl", "dgst", "-sha1", "-r", made.path("root.spki")).split()[0].decode()
    assert (request.encoding, request.authorities.hex()) == (4, digest)


@pytest.mark.parametrize("encoding", [0, 1, 7, 11, 12, 13, 255])
def test_a_certificate_by_url_or_of_another_encoding_is_refused(encoding):
    """Bug class: fetching a URL that an unauthenticated certificate names (12 and 13 are hash and URL)."""
    with pytest.raises(CertificateError, match="never fetched"):
        from_payloads([Certificate(encoding, b"\0" * 20 + b"http://attacker.example/c")])


def test_nothing_in_the_ike_core_can_open_a_socket_read_a_clock_or_decrypt_with_rsa():
    """Bug classes: fetched URLs, Bleichenbacher oracles. What is not imported or called cannot be reached."""
    for path in Path(certificates.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if path.stem != "driver":
            assert not imported & {"socket", "ssl", "urllib", "http", "asyncio", "time", "random", "secrets"}, path
        assert "OAEP" not in path.read_text()


@pytest.mark.parametrize("count", [0, 17])
def test_the_number_of_certificates_is_bounded(made, count):
    with pytest.raises(CertificateError):
        from_payloads([Certificate(4, b"\x30\x00")] * count)


@pytest.fixture(scope="module")
def leaf_der(made):
    return load(made, "gw")[0].public_bytes(Encoding.DER)


@given(st.data())
def test_a_damaged_certificate_raises_only_the_certificate_error(made, leaf_der, data):
    octets = bytearray(leaf_der)
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    if bytes(octets) == leaf_der:
        return
    with pytest.raises(CertificateError):
        receive_and_verify(bytes(octets), trust(made))


def receive_and_verify(der, using):
    return certificates.verify(from_payloads([Certificate(4, der)]), Identity.from_text("gwB.example"), using, NOW)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_key_that_is_not_the_certificates_is_refused(made):
    with pytest.raises(CertificateError, match="is not the key of"):
        Credential.from_files(made.path("gw.crt"), made.path("rsa.key"))


def test_a_file_too_large_to_be_one_is_not_read_whole(made, monkeypatch):
    monkeypatch.setattr(certificates, "MAX_FILE", 100)
    with pytest.raises(CertificateError, match="longer than 100 octets"):
        certificates.load_certificates(made.path("gw.crt"))


def test_our_own_certificate_is_checked_for_time_and_identity(made):
    credential = Credential.from_files(made.path("gw.crt"), made.path("gw.key"))
    own = credential.certificates[0]
    certificates.check_identity(own, Identity.from_text(DN))
    certificates.check_time(own, NOW)
    with pytest.raises(CertificateError, match="is valid from"):
        certificates.check_time(own, NOW + timedelta(days=400))
    with pytest.raises(CertificateError, match=r"does not hold the identity gwA\.example; it holds"):
        certificates.check_identity(own, Identity.from_text("gwA.example"))


def test_a_private_key_open_to_everybody_or_encrypted_is_refused(made):
    copy = made.path("copy.key")
    copy.write_bytes(made.path("gw.key").read_bytes())
    copy.chmod(0o644)
    with pytest.raises(SecretError, match="open to every user"):
        certificates.load_private_key(copy)
    run("openssl", "pkey", "-in", made.path("gw.key"), "-aes128", "-passout", "pass:x", "-out", made.path("locked.key"))
    made.path("locked.key").chmod(0o600)
    with pytest.raises(SecretError, match="no unencrypted private key"):
        certificates.load_private_key(made.path("locked.key"))


def test_der_files_are_read_and_files_of_another_kind_are_named(made):
    run("openssl", "x509", "-in", made.path("gw.crt"), "-outform", "DER", "-out", made.path("gw.der"))
    assert certificates.load_certificates(made.path("gw.der")) == tuple(load(made, "gw"))
    for read in (certificates.load_certificates, certificates.load_crl):
        with pytest.raises(CertificateError, match=r"gw\.key: holds no"):
            read(made.path("gw.key"))
        with pytest.raises(CertificateError, match="No such file"):
            read(made.path("none"))
    made.path("gw.crt").chmod(0o600)
    with pytest.raises(SecretError, match="private key"):
        certificates.load_private_key(made.path("gw.crt"))


@pytest.mark.root
def test_chains_and_crls_made_by_pki(tmp_path):
    """strongSwan's tool: its defaults, its IKE flag, its CRLs."""
    program = pki_program(tmp_path / "strongswan.conf")

    def pki(out, *arguments):
        (tmp_path / out).write_bytes(run(*program, *arguments, "--outform", "pem"))
        (tmp_path / out).chmod(0o600)
        return tmp_path / out

    ca_key, key = pki("ca.key", "--gen", "--type", "ecdsa", "--size", "384"), pki("gw.key", "--gen", "--type", "ed25519")
    ca = pki("ca.crt", "--self", "--ca", "--in", ca_key, "--type", "priv", "--dn", "C=CH, O=strongSwan, CN=Root")
    issue = ["--issue", "--cacert", ca, "--cakey", ca_key, "--type", "priv", "--in", key, "--dn", "C=CH, O=strongSwan, CN=moon"]
    leaf = pki("gw.crt", *issue, "--san", "moon.example", "--flag", "ikeIntermediate")
    crl = pki("ca.crl", "--signcrl", "--cacert", ca, "--cakey", ca_key)
    revoked = pki("revoked.crl", "--signcrl", "--cacert", ca, "--cakey", ca_key, "--reason", "key-compromise", "--cert", leaf)
    [root] = certificates.load_certificates(ca)
    [certificate] = Credential.from_files(leaf, key).certificates
    at = certificate.not_valid_before_utc + timedelta(minutes=1)
    strict = Trust((root,), (certificates.load_crl(crl),), Revocation.STRICT)
    for identity in ("moon.example", "C=CH, O=strongSwan, CN=moon"):
        certificates.verify([certificate], Identity.from_text(identity), strict, at)
    with pytest.raises(CertificateError, match="is revoked"):
        certificates.verify(
            [certificate],
            Identity.from_text("moon.example"),
            Trust((root,), (certificates.load_crl(revoked),), Revocation.STRICT),
            at,
        )


def test_an_authority_with_an_ed25519_key_is_refused_with_a_reason(made):
    """A limit of the X.509 verifier: such a key may authenticate a peer, not sign certificates."""
    made.certificate("ed-root", "/O=Org/CN=Ed root", None, CA, "ed25519")
    made.certificate("under-ed", "/C=DE/O=Org/CN=gwB", "ed-root", SAN)
    with pytest.raises(CertificateError, match="is an authority with an Ed25519 key"):
        verify(made, "under-ed", using=trust(made, roots=["ed-root"]))
    assert isinstance(load(made, "ed-root")[0], x509.Certificate)
