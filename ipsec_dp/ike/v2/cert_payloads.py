"""CERT and CERTREQ payloads: certificates and authorities as IKEv2 carries them (RFC 7296 §3.6, §3.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import certificates
from ipsec_dp.ike.certificate_rules import unfit_reason
from ipsec_dp.ike.certificates import CertificateError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.payloads import CERT_X509_SIGNATURE, Certificate, CertificateRequest
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from ipsec_dp.ike.certificates import Credential, Trust


def certificate_payloads(credential: Credential) -> tuple[Certificate, ...]:
    """CERT payloads, ours first."""
    return tuple(Certificate(CERT_X509_SIGNATURE, octets) for octets in credential.encoded())


def certificate_request(trust: Trust) -> CertificateRequest:
    """CERTREQ naming our authorities by the SHA-1 of their keys."""
    return CertificateRequest(CERT_X509_SIGNATURE, trust.authority_hashes())


def unusable(payload: Certificate) -> str | None:
    """Why nothing is made of it where it stands beside others, as a noun phrase; None: it may be part of a chain."""
    if payload.encoding != CERT_X509_SIGNATURE:
        return f"certificate of encoding {payload.encoding}"
    certificate = certificates.readable(payload.data)
    return "a certificate that is no X.509" if certificate is None else unfit_reason(certificate)


def from_payloads(payloads: Sequence[Certificate]) -> tuple[x509.Certificate, ...]:
    """What the peer sent, its own certificate first. Encodings other than X.509 Signature are passed over, URLs among them; where
    there is nothing else, that is refused."""
    usable = [payload.data for payload in payloads if payload.encoding == CERT_X509_SIGNATURE]
    if payloads and not usable:
        encodings = named(sorted({payload.encoding for payload in payloads}), LIMITS.certificates)
        raise CertificateError(f"certificate encoding {encodings} is not admitted (never fetched from a URL)")
    return certificates.from_der(usable)
