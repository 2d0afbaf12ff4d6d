"""X.509 for IKE: files, chains, identities, revocation (RFC 5280, RFC 4945), through `cryptography.x509.verification`.

Nothing is ever fetched: a certificate that comes as hash and URL is refused, distribution points are not followed, CRLs are
files. The time is handed in.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key, load_pem_private_key
from cryptography.x509.verification import Criticality, Policy, PolicyBuilder, Store, VerificationError

from ipsec_dp.ike import authorities, policies
from ipsec_dp.ike.auth import AuthenticationError, PrivateKey, PublicKey, SecretError, read_secret_file
from ipsec_dp.ike.certificate_rules import (
    IKE_USAGES,
    KINDS,
    UNREADABLE,
    RuleError,
    check_constraints,
    check_rules,
    key_text,
    unfit_reason,
)
from ipsec_dp.ike.identity import Identity, IdentityError, IdType, canonical_name
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.util.opening import Ahead, opened_to_read
from ipsec_dp.util.text import named

MAX_FILE: Final = 16 * 1024 * 1024  # octets; CRLs grow large
_PEM: Final = b"-----BEGIN "


class CertificateError(AuthenticationError):
    """A certificate, chain, CRL or file that cannot be relied on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a chain shows: the peer's public key, until when all of its certificates are valid, and, where revocation is strict,
    until when a CRL says of each that it is not revoked."""

    key: PublicKey
    until: datetime
    listed_until: datetime | None = None


class Revocation(StrEnum):
    """How far CRLs decide: not at all; where one is at hand; a current one for every certificate is required."""

    OFF = "off"
    IF_PRESENT = "if-present"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe: root certificates, CRLs, and what to do about revocation."""

    authorities: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] = field(default=(), hash=False)  # the library's have no hash
    revocation: Revocation = Revocation.IF_PRESENT

    def authority_hashes(self) -> bytes:
        """The SHA-1 of each authority's key, one behind the other, as CERTREQ names them (RFC 7296 §3.7)."""
        return b"".join(_key_hash(authority) for authority in self.authorities)


@dataclass(frozen=True, slots=True)
class Credential:
    """Our certificate, the CA certificates to send along, and the private key, which no `repr` shows."""

    certificates: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    @classmethod
    def from_files(
        cls, certificate: str | Path, private_key: str | Path, public: Ahead | None = None, secrets: Ahead | None = None
    ) -> "Credential":
        """The first certificate of the file is ours. `public`, `secrets`: what is opened with these two files. CertificateError or
        SecretError when they cannot be used together."""
        key = load_private_key(private_key, secrets)
        made = cls(load_certificates(certificate, public), key)
        check_key(made.certificates[0], public_octets(key.public_key()), private_key, certificate)
        return made

    def encoded(self) -> tuple[bytes, ...]:
        """The DER of each certificate, ours first."""
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in self.certificates)


# --- files -----------------------------------------------------------------------------------------------------------


def _read(path: str | Path, ahead: Ahead | None) -> bytes:
    try:
        with opened_to_read(path, ahead) as opened, open(opened.descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None
    return content


def _check_length(content: bytes, path: str | Path) -> None:
    if len(content) > MAX_FILE:
        raise CertificateError(f"{path}: longer than {MAX_FILE} octets")


def load_certificates(path: str | Path, ahead: Ahead | None = None) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, or the one of a DER file. `ahead` as of `open_to_read`."""
    return certificates_of(_read(path, ahead), path)


def certificates_of(content: bytes, path: str | Path) -> tuple[x509.Certificate, ...]:
    """One or more, of what a file holds."""
    _check_length(content, path)
    try:
        return tuple(x509.load_pem_x509_certificates(content)) if _PEM in content else (x509.load_der_x509_certificate(content),)
    except UNREADABLE:
        raise CertificateError(f"{path}: holds no certificate") from None


def load_crl(path: str | Path, ahead: Ahead | None = None) -> x509.CertificateRevocationList:
    """The CRL of a PEM or DER file. `ahead` as of `open_to_read`."""
    return crl_of(_read(path, ahead), path)


def crl_of(content: bytes, path: str | Path) -> x509.CertificateRevocationList:
    """Of what a file holds."""
    _check_length(content, path)
    try:
        return x509.load_pem_x509_crl(content) if _PEM in content else x509.load_der_x509_crl(content)
    except UNREADABLE:
        raise CertificateError(f"{path}: holds no CRL") from None


def load_private_key(path: str | Path, ahead: Ahead | None = None) -> PrivateKey:
    """An unencrypted RSA, ECDSA, Ed25519 or Ed448 key, PEM or DER. SecretError also when others can read the file. `ahead` as of
    `open_to_read`."""
    return private_key_of(read_secret_file(path, ahead), path)


def private_key_of(content: bytes | bytearray, path: str | Path) -> PrivateKey:
    """Of what a file holds. SecretError."""
    try:
        key = load_pem_private_key(content, None) if _PEM in content else load_der_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: encrypted
        raise SecretError(f"{path}: holds no unencrypted private key") from None
    if not isinstance(key, PrivateKey):
        raise SecretError(f"{path}: {key_text(key)}; {KINDS} can be used")
    return key


def check_key(own: x509.Certificate, public: bytes, private_key: str | Path, certificate: str | Path) -> None:
    """CertificateError, naming the files, when our certificate holds another key than that whose public half this is."""
    if public != public_octets(own.public_key()):
        raise CertificateError(f"{private_key} is not the key of the certificate in {certificate}")


def check_identity(own: x509.Certificate, identity: Identity) -> None:
    """CertificateError when our certificate does not hold our identity."""
    if identity_in(own, identity) is None:
        raise CertificateError(f"our certificate does not hold the identity {identity}; it holds {_held(own)}")


def public_octets(key: object) -> bytes:
    """Its SubjectPublicKeyInfo (RFC 5280 §4.1). CertificateError for a kind that is not used here."""
    if not isinstance(key, PublicKey):
        raise CertificateError(f"a certificate with {key_text(key)}; {KINDS} can be used")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_hash(certificate: x509.Certificate) -> bytes:
    digest = hashes.Hash(hashes.SHA1())  # noqa: S303 - a name, not a proof (RFC 7296 §3.7)
    digest.update(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def remarks(authority: x509.Certificate, at: datetime) -> list[tuple[str, str]]:
    """What is to be said about a certificate in `ca`, and what would be right. CertificateError for what cannot be read."""
    try:
        found = list(authorities.remarks(authority, at))
        return [(f"{_subject(authority.subject)} {wrong}" if wrong.startswith("is ") else wrong, right) for wrong, right in found]
    except (*UNREADABLE, IdentityError):
        raise CertificateError("a certificate in it holds a key, a name or an extension that cannot be read") from None


# --- the peer's certificates -----------------------------------------------------------------------------------------


def from_der(encoded: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    """What the peer sent, its own certificate first. What is no X.509 is passed over where there is something else (RFC 7296 §3.6).
    CertificateError for nothing else, for none, for too many and for too long ones."""
    if not encoded:
        raise CertificateError("the peer sent no certificate")
    if len(encoded) > LIMITS.certificates:
        raise CertificateError(f"the peer sent {len(encoded)} certificates, {LIMITS.certificates} are the most")
    for octets, most, what in (
        (max(map(len, encoded)), LIMITS.certificate_octets, "a certificate"),
        (sum(map(len, encoded)), LIMITS.chain_octets, "certificates"),
    ):
        if octets > most:
            raise CertificateError(f"the peer sent {what} of {octets} octets, {most} are the most")
    found = tuple(one for one in map(readable, encoded) if one is not None)
    if not found:
        raise CertificateError("the peer sent a certificate that is no X.509")
    return found


def readable(octets: bytes) -> x509.Certificate | None:
    """None: it is no X.509."""
    try:
        return x509.load_der_x509_certificate(octets)
    except UNREADABLE:
        return None


def verify(received: Sequence[x509.Certificate], identity: Identity, trust: Trust, at: datetime) -> PublicKey:
    """As `judge`; the key alone."""
    return judge(received, identity, trust, at).key


def judge(received: Sequence[x509.Certificate], identity: Identity, trust: Trust, at: datetime) -> Verified:
    """The peer's public key and its end, once its certificate chains to an authority, is valid at `at`, not revoked, and holds
    `identity`.

    `received` is the peer's certificate and others in any order; `at` carries its time zone. CertificateError with the reason.
    """
    with _explained():
        return _verify(received, identity, trust, at)


def key_of(received: Sequence[x509.Certificate]) -> PublicKey:
    """The key that the peer's certificate holds, whoever vouches for it. CertificateError for what no rule admits."""
    with _explained():
        return _key_by_rules(received[0])


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuleError as error:
        raise CertificateError(f"the peer's certificates do not do: {error}") from None
    except (*UNREADABLE, IdentityError):
        raise CertificateError("a certificate of the peer's cannot be read") from None


def _key_by_rules(leaf: x509.Certificate) -> PublicKey:
    check_rules(leaf)  # before anything is computed with its key
    key = leaf.public_key()
    if not isinstance(key, PublicKey):
        raise CertificateError("the peer's certificate holds a key of no kind that is used here")
    return key


def _verify(received: Sequence[x509.Certificate], identity: Identity, trust: Trust, at: datetime) -> Verified:
    leaf, key = received[0], _key_by_rules(received[0])
    check_time(leaf, at)
    chain = _chain(leaf, received[1:], trust, at)
    if len(chain) > 1:  # from below the anchor, which by itself asks for nothing
        policies.check_policies(chain[-2::-1])
    if identity_in(leaf, identity) is None:
        raise CertificateError(f"the peer says it is {identity}; its certificate holds {_held(leaf)}")
    until, listed_until = min(certificate.not_valid_after_utc for certificate in chain), None
    if trust.revocation is not Revocation.OFF:
        ends = [_check_revocation(certificate, issuer, trust, at) for certificate, issuer in pairwise(chain)]
        if trust.revocation is Revocation.STRICT:
            listed_until = min((end for end in ends if end is not None), default=None)
    return Verified(key, until, listed_until)


def _chain(leaf: x509.Certificate, others: Sequence[x509.Certificate], trust: Trust, at: datetime) -> list[x509.Certificate]:
    if not trust.authorities:
        raise CertificateError("no certificate authorities are configured")
    if leaf.version is x509.Version.v1:  # it holds nothing but a name and a key
        if leaf in trust.authorities:
            return [leaf]
        raise CertificateError(f"the peer's certificate {_subject(leaf.subject)} is of X.509 version 1, and not itself in `ca`")
    unfit: dict[x509.Certificate, str] = {
        one: why for one in others if (why := unfit_reason(one)) is not None
    }  # passed over (RFC 7296 §3.6)
    others = [one for one in others if one not in unfit]
    builder = PolicyBuilder().store(Store(authorities.anchors(trust.authorities))).time(at.astimezone(UTC).replace(tzinfo=None))
    builder = builder.max_chain_depth(LIMITS.chain).extension_policies(ca_policy=_CA_POLICY, ee_policy=_END_ENTITY_POLICY)
    try:
        chain = builder.build_client_verifier().verify(leaf, list(others)).chain
        for certificate in chain[1:]:
            check_constraints(certificate)
        return chain
    except VerificationError as error:
        why = authorities.why_not(leaf, others, trust.authorities, at) or str(error)
        besides = (
            f"; of what it sent besides, this does not do: {named(list(dict.fromkeys(unfit.values())), LIMITS.certificates)}"
            if unfit
            else ""
        )
        raise CertificateError(
            f"the peer's certificate {_subject(leaf.subject)} does not lead to one of our authorities: {why}{besides}"
        ) from None


def _check_ca_usage(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("a CA certificate whose key usage does not allow signing certificates")


def _check_usage(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise ValueError("its key usage does not allow digital signatures (RFC 4945 §5.1.3.2)")


def _check_extended_usage(_policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None and IKE_USAGES.isdisjoint(usage):
        raise ValueError("its extended key usage is not for IKE (RFC 4945 §5.1.3.12)")


# Stricter than the library's bare rules where RFC 4945 asks for it, laxer than its web profile, which wants SAN and TLS usages.
# Critical extensions that nobody here knows are refused by the library; those of policies are `ike.policies`'s.
_CA_POLICY: Final = (
    policies.admitted()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_ca_usage)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_extended_usage)
)
_END_ENTITY_POLICY: Final = (
    policies.admitted()
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_usage)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_extended_usage)
)


def check_time(certificate: x509.Certificate, at: datetime) -> None:
    """CertificateError when it is not valid at that time."""
    fault = authorities.time_fault(certificate, at)
    if fault is not None:
        raise CertificateError(fault)


_subject = authorities.subject_text


# --- identities ------------------------------------------------------------------------------------------------------


def identity_in(certificate: x509.Certificate, identity: Identity) -> Identity | None:
    """`identity` in the octets the certificate has for it, or None when it does not hold it (RFC 4945 §3.1).

    Addresses, domain names and e-mail addresses come from the subjectAltName alone, a DN from the subject; wildcards match
    nothing. A KEY_ID never is in a certificate.
    """
    wanted = identity.certified()
    return next((held for held in identities_in(certificate) if held.certified() == wanted), None)


def identities_in(certificate: x509.Certificate) -> list[Identity]:
    """All that it holds."""
    held = [Identity(IdType.DER_ASN1_DN, certificate.subject.public_bytes())]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return held
    for name in names:
        if isinstance(name, x509.DNSName):
            held.append(Identity(IdType.FQDN, name.value.encode()))
        elif isinstance(name, x509.RFC822Name):
            held.append(Identity(IdType.RFC822_ADDR, name.value.encode()))
        elif isinstance(name, x509.IPAddress) and isinstance(name.value, IPv4Address | IPv6Address):
            held.append(Identity(IdType.IPV4_ADDR if name.value.version == 4 else IdType.IPV6_ADDR, name.value.packed))
    return held


def _held(certificate: x509.Certificate) -> str:
    return ", ".join(map(str, identities_in(certificate)[:8]))


# --- revocation ------------------------------------------------------------------------------------------------------


def _check_revocation(certificate: x509.Certificate, issuer: x509.Certificate, trust: Trust, at: datetime) -> datetime | None:
    """A revoked serial counts even from a CRL that is out of date; only a current CRL counts as proof of the opposite. Until when
    the last of those is current; None: there is none."""
    current: datetime | None = None
    for crl in trust.crls:
        if not _is_from(crl, issuer):
            continue
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise CertificateError(f"the certificate {_subject(certificate.subject)} is revoked")
        end = crl.next_update_utc
        if end is not None and not_current(crl, at) is None:
            current = end if current is None else max(current, end)
    if trust.revocation is Revocation.STRICT and current is None:
        raise CertificateError(f"no current CRL of {_subject(issuer.subject)}, and revocation is strict")
    return current


def not_current(crl: x509.CertificateRevocationList, at: datetime) -> str | None:
    """Why a CRL is no proof at that time that a certificate is not revoked (RFC 5280 §6.3.3); None: it is."""
    begin, end, of = crl.last_update_utc, crl.next_update_utc, f"the CRL of {_subject(crl.issuer)}"
    if end is None:
        return f"{of} does not say when the next one comes"
    if begin > at:
        return f"{of} is from {begin}, which is still to come"
    return f"{of} is out of date since {end}" if end < at else None


def _is_from(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """True for a complete CRL that `issuer` signed and may sign; a critical extension makes it partial or indirect."""
    if canonical_name(crl.issuer.public_bytes()) != canonical_name(issuer.subject.public_bytes()):
        return False
    try:
        if any(extension.critical for extension in crl.extensions) or not _may_sign_crls(issuer):
            return False
        key = issuer.public_key()
        return (
            isinstance(key, PublicKey) and not isinstance(crl.signature_hash_algorithm, hashes.SHA1) and crl.is_signature_valid(key)
        )
    except UNREADABLE:
        return False


def _may_sign_crls(issuer: x509.Certificate) -> bool:
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True
