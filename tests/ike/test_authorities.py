"""What a certificate in `ca` is good for: roots of version 1, what is no authority, keys; and what is said of each."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519

from ipsec_dp.ike import authorities, certificates
from ipsec_dp.ike.certificates import CertificateError, Trust
from ipsec_dp.ike.identity import Identity

from .pki import NOW, OpenSsl, run
from .test_certificate_rules import CA, GW, ROOT_KEY, SUB_KEY, certificate, name

GW_KEY = ec.generate_private_key(ec.SECP256R1())
NO_CA = (x509.BasicConstraints(ca=False, path_length=None), True)
CRLS_ONLY = (x509.KeyUsage(True, False, False, False, False, False, True, False, False), True)


def verify(leaf, *others, ca, at=NOW):
    return certificates.verify([leaf, *others], Identity.from_text("gw.example"), Trust(tuple(ca)), at)


def root(*extensions, key=ROOT_KEY, signer=None):
    return certificate("root", key.public_key(), "root", signer or key, *extensions)


def leaf(signer=ROOT_KEY, issuer="root", *extensions):
    return certificate("gw", GW_KEY.public_key(), issuer, signer, GW, *extensions)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A root of version 1, which `openssl x509` makes when it is given no extensions, one that it issued, and a peer below each."""
    pki = OpenSsl(tmp_path_factory.mktemp("v1"))
    first = OpenSsl.certificate

    def version_1(name, subject, issuer=None):
        key, request, out = pki.key(name), pki.path(f"{name}.csr"), pki.path(f"{name}.crt")
        run("openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request)
        signer = ["-signkey", key] if issuer is None else ["-CA", pki.path(f"{issuer}.crt"), "-CAkey", pki.path(f"{issuer}.key")]
        run("openssl", "x509", "-req", "-in", request, *signer, "-set_serial", "7", "-days", "365", "-out", out)

    version_1("root", "/CN=Old root")
    version_1("sub", "/CN=Old sub", "root")
    version_1("alone", "/CN=gw.example")
    for issuer in ("root", "sub"):
        first(pki, f"under-{issuer}", "/CN=gw", issuer, "subjectAltName=DNS:gw.example")
    return pki


def load(pki, name):
    return certificates.load_certificates(pki.path(f"{name}.crt"))[0]


def said(certificate, at=NOW):
    return [wrong for wrong, _ in certificates.remarks(certificate, at)]


# ---- version 1


def test_a_root_of_version_1_may_issue_and_check_says_what_it_is(old):
    made = load(old, "root")
    assert made.version is x509.Version.v1
    assert verify(load(old, "under-root"), ca=[made]) == load(old, "under-root").public_key()
    (text,) = said(made)
    assert text == "CN=Old root is of X.509 version 1, which cannot say that it may issue; it is taken for a root"


def test_another_root_of_the_same_name_and_another_key_vouches_for_nothing_of_it(old, tmp_path):
    other = OpenSsl(tmp_path)
    run("openssl", "req", "-new", "-key", other.key("root"), "-subj", "/CN=Old root", "-out", other.path("root.csr"))
    run(
        "openssl", "x509", "-req", "-in", other.path("root.csr"), "-signkey", other.path("root.key"), "-out", other.path("root.crt")
    )
    assert load(other, "root").version is x509.Version.v1
    with pytest.raises(CertificateError, match="does not lead to one of our authorities"):
        verify(load(old, "under-root"), ca=[load(other, "root")])


def test_version_1_below_a_root_issues_nothing_wherever_it_stands(old):
    with pytest.raises(CertificateError, match=r"CN=Old sub is of X\.509 version 1, and only roots in `ca` may be"):
        verify(load(old, "under-sub"), load(old, "sub"), ca=[load(old, "root")])
    with pytest.raises(CertificateError, match=r"CN=Old sub is of X\.509 version 1, and no root"):
        verify(load(old, "under-sub"), ca=[load(old, "sub")])


def test_a_peer_of_version_1_is_itself_in_ca_or_nobody(old):
    alone = load(old, "alone")
    identity = Identity.from_text("CN=gw.example")
    assert certificates.verify([alone], identity, Trust((alone,)), NOW) == alone.public_key()
    sub = load(old, "sub")
    with pytest.raises(CertificateError, match=r"CN=Old sub is of X\.509 version 1, and not itself in `ca`"):
        certificates.verify([sub], Identity.from_text("CN=Old sub"), Trust((load(old, "root"),)), NOW)


# ---- no authority


@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        ((), "is no authority (no basicConstraints)"),
        ((NO_CA,), "is no authority (CA:FALSE)"),
        ((CA, CRLS_ONLY), "is an authority whose key usage lacks keyCertSign"),
    ],
    ids=["nothing said", "CA:FALSE", "no keyCertSign"],
)
def test_what_may_not_issue_issues_nothing_in_ca_or_below_it(extensions, why):
    below = certificate("sub", SUB_KEY.public_key(), "root", ROOT_KEY, *extensions)
    for chain, ca, subject in (([leaf()], root(*extensions), "root"), ([leaf(SUB_KEY, "sub"), below], root(CA), "sub")):
        with pytest.raises(CertificateError, match="does not lead to one of our authorities: ") as refused:
            verify(*chain, ca=[ca])
        assert f": CN={subject} {why}" in str(refused.value)
    assert verify(leaf(), ca=[root(CA)]) == GW_KEY.public_key()


@pytest.mark.parametrize("extensions", [(), (NO_CA,), (CA,)], ids=["nothing said", "CA:FALSE", "CA:TRUE"])
def test_a_certificate_in_ca_is_the_peers_own_octet_by_octet(extensions):
    """Pinned: nobody vouches for it, or somebody who is not asked."""
    for signer, issuer in ((GW_KEY, "gw"), (ROOT_KEY, "root")):
        pinned, twin = leaf(signer, issuer, *extensions), leaf(signer, issuer, *extensions)
        assert pinned.public_key() == twin.public_key()
        assert verify(pinned, ca=[pinned]) == GW_KEY.public_key()
        if CA not in extensions:
            with pytest.raises(CertificateError, match="does not lead to one of our authorities"):
                verify(twin, ca=[pinned])


def test_a_pinned_certificate_is_held_to_its_time_and_its_identity():
    pinned = leaf(GW_KEY, "gw")
    with pytest.raises(CertificateError, match="CN=gw has expired"):
        verify(pinned, ca=[pinned], at=NOW + timedelta(days=3))
    with pytest.raises(CertificateError, match="the peer says it is"):
        certificates.verify([pinned], Identity.from_text("other.example"), Trust((pinned,)), NOW)


def test_check_says_what_is_taken_for_the_peers_own_unless_it_is_self_signed():
    assert said(leaf(GW_KEY, "gw")) == []
    assert said(leaf()) == ["CN=gw is no authority (no basicConstraints): it vouches for no other; it is taken for the peer's own"]


# ---- keys


@pytest.mark.parametrize("kind", [ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey], ids=["an Ed25519 key", "an Ed448 key"])
def test_authorities_on_edwards_curves_are_refused_in_words_and_peers_are_not(kind, request):
    key, text = kind.generate(), request.node.callspec.id

    def signed(subject, public, *extensions):
        builder = x509.CertificateBuilder(name("root"), name(subject), public, x509.random_serial_number())
        builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(key, None)

    ca = signed("root", key.public_key(), CA)
    says = f"CN=root is an authority with {text}: chains are verified with RSA and ECDSA authorities only"
    with pytest.raises(CertificateError, match=says):
        verify(signed("gw", GW_KEY.public_key(), GW), ca=[ca])
    assert said(ca) == [says]
    own = signed("root", key.public_key(), GW)
    assert verify(own, ca=[own]) == key.public_key(), "pinned"


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()], ids=lambda curve: curve.name)
def test_check_names_the_curve_of_an_authority_that_nobody_is_verified_by(curve):
    key = ec.generate_private_key(curve)
    admitted = "secp256r1, secp384r1, secp521r1 are admitted"
    assert said(root(CA, key=key)) == [f"CN=root is a certificate with a key on {curve.name}; {admitted}: nobody is verified by it"]


# ---- time


def test_expired_and_not_yet_valid_are_two_things_and_the_clock_is_shown():
    late, early = NOW + timedelta(days=3), NOW - timedelta(days=3)
    with pytest.raises(CertificateError, match=rf"CN=gw has expired: .* and this host's clock says {late:%Y-%m-%d %H:%M:%S} UTC"):
        verify(leaf(), ca=[root(CA)], at=late)
    with pytest.raises(CertificateError, match=rf"CN=gw is not yet valid: is this host's clock right\? it says {early:%Y-%m-%d}"):
        verify(leaf(), ca=[root(CA)], at=early)


def test_an_authority_out_of_time_is_named():
    builder = x509.CertificateBuilder(name("root"), name("root"), ROOT_KEY.public_key(), 1).add_extension(*CA)
    for start, end, what in ((-9, -2, "has expired"), (2, 9, "is not yet valid")):
        made = builder.not_valid_before(NOW + timedelta(days=start)).not_valid_after(NOW + timedelta(days=end))
        ca = made.sign(ROOT_KEY, hashes.SHA256())
        with pytest.raises(CertificateError, match=f"the certificate CN=root {what}"):
            verify(leaf(), ca=[ca])
        (text,) = said(ca)
        assert text.startswith(f"the certificate CN=root {what}")


def test_a_chain_that_is_sound_by_names_keeps_the_verifiers_own_words():
    assert authorities.why_not(leaf(), [], [root(CA)], NOW) is None
    with pytest.raises(CertificateError, match="does not lead to one of our authorities: validation failed"):
        verify(leaf(SUB_KEY), ca=[root(CA)])
