"""What a certificate may hold before anything is computed with it: keys, extensions, sizes, as lists (RFC 5280, RFC 4945)."""

from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from ipsec_dp.ike.strangers import LIMITS

MIN_RSA_BITS: Final = 2048  # RFC 8247 §4.1.1
CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
UNDERSTOOD: Final = (x509.DNSName, x509.IPAddress)  # kinds of constraints that the library applies to what we compare

# RFC 4945 §5.1.3.12, and the two TLS usages that certificates for VPNs commonly carry instead.
IKE_USAGES: Final = frozenset(
    {
        ObjectIdentifier("1.3.6.1.5.5.7.3.17"),  # id-kp-ipsecIKE
        ObjectIdentifier("1.3.6.1.5.5.8.2.2"),  # iKEIntermediate, older than id-kp-ipsecIKE
        ObjectIdentifier("1.3.6.1.5.5.7.3.5"),  # ipsecEndSystem
        ObjectIdentifier("1.3.6.1.5.5.7.3.6"),  # ipsecTunnel
        ObjectIdentifier("1.3.6.1.5.5.7.3.7"),  # ipsecUser
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
)


# What `cryptography` raises over content it cannot hold: some at once, some when a part is first looked at.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class RuleError(ValueError):
    """What is not admitted; the text is a noun phrase."""


def _rsa(key: rsa.RSAPublicKey) -> str | None:
    if not MIN_RSA_BITS <= key.key_size <= LIMITS.rsa_bits:
        return f"an RSA key of {key.key_size} bits; {MIN_RSA_BITS} to {LIMITS.rsa_bits} are admitted"
    if (bits := key.public_numbers().e.bit_length()) > LIMITS.exponent_bits:
        return f"an RSA key whose exponent has {bits} bits; {LIMITS.exponent_bits} are the most"
    return None


def _ec(key: ec.EllipticCurvePublicKey) -> str | None:
    return None if key.curve.name in CURVES else f"a key on {key.curve.name}; {', '.join(sorted(CURVES))} are admitted"


def _admitted(_key: object) -> None:
    return None


# What makes each kind of key unfit; kinds that are not here are.
KEYS: Final[tuple[tuple[type, Callable[..., str | None]], ...]] = (
    (rsa.RSAPublicKey, _rsa),
    (ec.EllipticCurvePublicKey, _ec),
    (ed25519.Ed25519PublicKey, _admitted),
    (ed448.Ed448PublicKey, _admitted),
)
KINDS: Final = "RSA, ECDSA, Ed25519 and Ed448 keys"


def key_text(key: object) -> str:
    """The kind of a key that is not admitted, by its name: "an X448 key"."""
    name = type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey")
    return f"{'an' if name[:1] in 'AEIOUX' else 'a'} {name} key"


def check_rules(certificate: x509.Certificate) -> None:
    """RuleError for a key, a number of extensions or names or a constraint that is not admitted. ValueError for what cannot be
    read."""
    key = certificate.public_key()
    unfit = next((why(key) for kind, why in KEYS if isinstance(key, kind)), f"{key_text(key)}; {KINDS} are admitted")
    if unfit is not None:
        raise RuleError(f"a certificate with {unfit}")
    for name in (certificate.subject, certificate.issuer):
        if sum(1 for _ in name) > LIMITS.name_attributes:
            raise RuleError(f"a certificate with a name of more than {LIMITS.name_attributes} attributes")
    if len(certificate.extensions) > LIMITS.extensions:
        raise RuleError(f"a certificate with more than {LIMITS.extensions} extensions")
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName) and len(list(extension.value)) > LIMITS.names:
            raise RuleError(f"a certificate with more than {LIMITS.names} names")
    check_constraints(certificate)


def unfit_reason(certificate: x509.Certificate) -> str | None:
    """Why it is part of no chain, as a noun phrase; None: it may be."""
    try:
        check_rules(certificate)
    except RuleError as error:
        return str(error)
    except UNREADABLE:
        return "a certificate with a key, a name or an extension that cannot be read"
    return None


def check_constraints(certificate: x509.Certificate) -> None:
    """RuleError for name constraints that nobody here would apply, critical or not, and for too many."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return
    subtrees = [*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())]
    if len(subtrees) > LIMITS.constraints:
        raise RuleError(f"a CA certificate with more than {LIMITS.constraints} name constraints")
    other = next((one for one in subtrees if not isinstance(one, UNDERSTOOD)), None)
    if other is not None:
        raise RuleError(f"a CA certificate that constrains names of a kind which is not understood here ({type(other).__name__})")
