"""What a certificate in `ca` is good for, and what in a chain keeps it from leading to one, in words (RFC 5280 §4.2.1, §6.1)."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519

from ipsec_dp.ike.certificate_rules import RuleError, check_rules, key_text
from ipsec_dp.ike.identity import Identity, IdType
from ipsec_dp.ike.strangers import LIMITS

EDWARDS: Final = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)


def subject_text(name: x509.Name) -> str:
    """A DN for people."""
    return str(Identity(IdType.DER_ASN1_DN, name.public_bytes()))


def time_fault(certificate: x509.Certificate, at: datetime) -> str | None:
    """Why a certificate is not valid at a time; None: it is."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    now = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    which = f"the certificate {subject_text(certificate.subject)}"
    if at < start:
        return (
            f"{which} is not yet valid: is this host's clock right? it says {now}; the certificate is valid from {start} to {end}"
        )
    if at > end:
        valid = f"it is valid from {start} to {end}, and this host's clock says {now}"
        return f"{which} has expired: {valid}: if that is right, it must be renewed"
    return None


def _self_signed(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


@lru_cache(maxsize=256)
def is_v1_root(certificate: x509.Certificate) -> bool:
    """A root older than basicConstraints: only by being named in `ca` is it known to be one."""
    return certificate.version is x509.Version.v1 and _self_signed(certificate)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it says that it is one, or is too old to say so."""
    return is_v1_root(certificate) if certificate.version is x509.Version.v1 else _ca(certificate) is True


def _ca(certificate: x509.Certificate) -> bool | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return None


def issuing_fault(certificate: x509.Certificate) -> str | None:
    """Why a certificate vouches for no other; None: it may. ValueError for what cannot be read."""
    if certificate.version is x509.Version.v1:
        return None if is_v1_root(certificate) else "is of X.509 version 1, and no root: it vouches for no other"
    ca = _ca(certificate)
    if ca is not True:
        return f"is no authority ({'no basicConstraints' if ca is None else 'CA:FALSE'}): it vouches for no other"
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    if usage is not None and not usage.key_cert_sign:
        return "is an authority whose key usage lacks keyCertSign: it vouches for no other"
    key = certificate.public_key()
    if isinstance(key, EDWARDS):
        return f"is an authority with {key_text(key)}: chains are verified with RSA and ECDSA authorities only"
    return None


def remarks(certificate: x509.Certificate, at: datetime) -> Iterable[tuple[str, str]]:
    """What `check` has to say about a certificate in `ca` (its name left out), and what would be right. ValueError for what cannot
    be read."""
    try:
        check_rules(certificate)
    except RuleError as error:
        yield f"is {error}: nobody is verified by it", "take an authority with another key"
        return
    fault = issuing_fault(certificate)
    if is_v1_root(certificate):
        yield (
            "is of X.509 version 1, which cannot say that it may issue; it is taken for a root",
            "renew it as version 3 with CA:TRUE",
        )
    elif fault is not None and is_authority(certificate):
        yield fault, "take an RSA or ECDSA authority, with CA:TRUE and keyCertSign; peers may have Ed25519 and Ed448 keys"
    elif fault is not None and not _self_signed(certificate):
        yield f"{fault}; it is taken for the peer's own", "if that is not meant, name the authority that issued it"
    out_of_time = time_fault(certificate, at)
    if out_of_time is not None:
        yield out_of_time, "no peer can be verified by it now"


# --- chains ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _stand_in(root: x509.Certificate) -> x509.Certificate:
    """The name and key of a root of version 1 in a certificate that a verifier takes, which looks at no root's signature (RFC 5280
    §6.1.1 (d): a trust anchor is a name and a key)."""
    builder = x509.CertificateBuilder(root.issuer, root.subject, root.public_key(), 1)
    builder = builder.not_valid_before(root.not_valid_before_utc).not_valid_after(root.not_valid_after_utc)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(ec.derive_private_key(1, ec.SECP256R1()), hashes.SHA256())


def anchors(authorities: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """What a chain may end at: the authorities, roots of version 1 by a stand-in."""
    return [_stand_in(one) if is_v1_root(one) else one for one in authorities]


def why_not(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], at: datetime
) -> str | None:
    """What keeps a chain from one of `authorities`, by the names of issuers; None: nothing that shows in them."""
    below = leaf
    for _ in range(LIMITS.chain + 1):
        issuers = [one for one in (*authorities, *others) if one.subject == below.issuer and one != below]
        if not issuers:
            return (
                f"its issuer {subject_text(below.issuer)} is not known: add that authority to `ca`"
                if below not in authorities
                else None
            )
        faults = [_fault(one, authorities, at) for one in issuers]
        if all(fault is not None for fault in faults):
            return faults[0]
        below = issuers[faults.index(None)]
        if below in authorities:
            return None
    return None


def _fault(issuer: x509.Certificate, authorities: Sequence[x509.Certificate], at: datetime) -> str | None:
    if issuer.version is x509.Version.v1 and issuer not in authorities:
        fault: str | None = "is of X.509 version 1, and only roots in `ca` may be"
    else:
        fault = issuing_fault(issuer)
    return time_fault(issuer, at) if fault is None else f"{subject_text(issuer.subject)} {fault}"
