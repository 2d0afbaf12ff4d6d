"""[tunnel.auth] by certificates: whether its files hold what proves who we are, and what shows who the peer is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.config import model
from ipsec_dp.ike import certificates
from ipsec_dp.ike.certificates import CertificateError
from ipsec_dp.ike.identity import Identity, IdentityError, IdType
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from ipsec_dp.config import tables
    from ipsec_dp.config.findings import Place
    from ipsec_dp.config.named_files import NamedFiles
    from ipsec_dp.ipsec.addresses import Address

    Remarks = tuple[tuple[str, str], ...]

IDENTITIES_NAMED: Final = 8
# What would be right where a file holds something else, by its key.
RIGHT: Final = {
    "private_key": "name the unencrypted RSA, ECDSA, Ed25519 or Ed448 key of the certificate",
    "certificate": "name a valid certificate of private_key that holds local_id",
    "ca": "name a PEM file of CA certificates",
    "crl": "name a file with one CRL, PEM or DER",
}


class Material(NamedTuple):
    """Fingerprints of what files hold: of our certificate and its key, of the authorities, of the CRLs."""

    ours: bytes
    authorities: bytes
    crls: bytes


def resolve_certificate(
    auth: tables.Auth, local: Address | None, ids: tuple[str | None, str | None], below: Place, named_files: NamedFiles
) -> model.CertificateAuth | None:
    """None when a key is missing. `local`: our address; `ids`: `local_id` and `remote_id`."""
    missing = [key for key in ("certificate", "private_key", "ca") if not getattr(auth, key)]
    if auth.certificate is None or auth.private_key is None or not auth.ca:
        if len(missing) == 3:
            below.error("", "names no psk_file and no certificate", "write psk_file, or certificate, private_key and ca")
        else:
            for key in missing:
                below.error(key, "is missing", "certificate, private_key and ca belong together")
        return None
    if auth.revocation == "strict" and not auth.crl:
        below.error("crl", "is missing under strict revocation", 'name a CRL file, or write revocation = "if-present"')
    if auth.revocation == "off" and auth.crl:
        below.warn("crl", 'is not looked at: revocation is "off"', 'write revocation = "if-present" or "strict"')
    base = named_files.base
    made = model.CertificateAuth(
        local_id=ids[0],
        remote_id=ids[1],
        certificate=base / auth.certificate,
        private_key=base / auth.private_key,
        ca=tuple(base / name for name in auth.ca),
        crl=tuple(base / name for name in auth.crl),
        revocation=auth.revocation,
        unique=auth.unique,
    )
    found = check_certificates(made, local, below, datetime.now(UTC), named_files)
    if found is None:
        return made
    return replace(made, material=found.ours, ca_material=found.authorities, crl_material=found.crls)


def check_certificates(
    auth: model.CertificateAuth, local: Address | None, below: Place, at: datetime, named_files: NamedFiles
) -> Material | None:
    """Reports files that cannot be read or hold no certificate, key or CRL, a key that is not the certificate's, an identity that
    it does not hold (`local`, where none is configured), and what is not valid then. None: there was an error."""
    before = below.findings.errors
    key = named_files.private_key(auth.private_key)
    own = named_files.public("certificate", (auth.certificate,), _own)
    authorities = named_files.public("ca", auth.ca, partial(_authority_remarks, at=at))
    crls = named_files.public("crl", auth.crl, partial(_crl_remarks, at=at))
    for name, found in (("private_key", key), ("certificate", own), ("ca", authorities), ("crl", crls)):
        for wrong, right in found.unread:
            below.error(name, wrong, right)
        for wrong in found.wrong:
            below.error(name, wrong, RIGHT[name])
    for certificate in own.held:
        _check_own(certificate, key.public, auth, local, below, at)
    for name, remarks in (("ca", authorities.held), ("crl", crls.held)):
        for wrong, right in chain.from_iterable(remarks):
            below.warn(name, wrong, right)
    if below.findings.errors != before:
        return None
    return Material(own.fingerprint + key.fingerprint, authorities.fingerprint, crls.fingerprint)


def _own(content: bytes, path: Path) -> x509.Certificate:
    return certificates.certificates_of(content, path)[0]


def _authority_remarks(content: bytes, path: Path, *, at: datetime) -> Remarks:
    found = [certificates.remarks(authority, at) for authority in certificates.certificates_of(content, path)]
    return tuple((f"{path}: {wrong}", right) for wrong, right in chain.from_iterable(found))


def _crl_remarks(content: bytes, path: Path, *, at: datetime) -> Remarks:
    why = certificates.not_current(certificates.crl_of(content, path), at)
    return () if why is None else ((f"{path}: {why}", "fetch the one that its authority has issued since"),)


def _check_own(
    own: x509.Certificate, public: bytes, auth: model.CertificateAuth, local: Address | None, below: Place, at: datetime
) -> None:
    """`public`: of the private key; empty where there is none."""
    try:
        if public:
            certificates.check_key(own, public, auth.private_key, auth.certificate)
        certificates.check_time(own, at)
        if auth.local_id is not None:
            certificates.check_identity(own, Identity.from_text(auth.local_id))
        else:
            _check_address(own, local, below)
    except (CertificateError, IdentityError) as error:
        below.error("certificate", str(error), RIGHT["certificate"])


def _check_address(own: x509.Certificate, local: Address | None, below: Place) -> None:
    """Without `local_id` we are the address that we call from; while that is not known, the certificate must hold any at all."""
    held = certificates.identities_in(own)
    addresses = {one.data for one in held if one.type in (IdType.IPV4_ADDR, IdType.IPV6_ADDR)}
    if addresses if local is None else local.packed in addresses:
        return
    holds = named(held, IDENTITIES_NAMED)
    wrong = f"is missing, so it is {local or 'our address'}, which the certificate does not hold; it holds {holds}"
    below.error("local_id", wrong, "write one of these as local_id, or take a certificate of that address")
