"""HASH_I, HASH_R and signatures over them: who both sides of phase 1 are (RFC 2409 §5.1, §5.4, RFC 4754).

An RSA signature is over the hash itself, without the DigestInfo that PKCS #1 has around it, and is compared as a whole; so is
nothing decrypted that a peer chose. ECDSA takes the hash as the digest, and has a hash function of its own for it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    NoDigestInfo,
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ipsec_dp.ike import certificates
from ipsec_dp.ike.auth import AuthenticationError, PublicKey
from ipsec_dp.ike.certificate_rules import MIN_RSA_BITS
from ipsec_dp.ike.certificates import CertificateError
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1.keymat import side_hash
from ipsec_dp.ike.v1.payloads import CertPayload, CertRequestPayload, HashPayload, SignaturePayload
from ipsec_dp.ike.v1.wire import X509_SIGNATURE, Method
from ipsec_dp.ipsec.transforms import PRFS

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from ipsec_dp.ike.auth import PrivateKey
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage
    from ipsec_dp.ike.v1.payloads import IsakmpPayload

# RFC 4754 §3: curve, hash and method belong together; r and s as numbers of fixed length side by side.
CURVES: Final[dict[int, tuple[str, hashes.HashAlgorithm, int]]] = {
    Method.ECDSA_P256: ("secp256r1", hashes.SHA256(), 32),
    Method.ECDSA_P384: ("secp384r1", hashes.SHA384(), 48),
    Method.ECDSA_P521: ("secp521r1", hashes.SHA512(), 66),
}
_METHOD_OF_CURVE: Final = {curve: method for method, (curve, _, _) in CURVES.items()}
_CR_HEADER: Final = 5  # octets: generic header, encoding
_PRF_OF_HASH: Final = {prf.hash: prf for prf in PRFS}


def method_of_key(key: PrivateKey | PublicKey) -> int | None:
    """How a key signs in IKEv1, of which this is either half; None: it cannot."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return Method.RSA
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return _METHOD_OF_CURVE.get(key.curve.name)
    return None


def method_of_octets(public: bytes) -> int | None:
    """`method_of_key`, of a SubjectPublicKeyInfo."""
    key = load_der_public_key(public)
    return method_of_key(key) if isinstance(key, PublicKey) else None


def method_of(peer: Peer) -> int:
    """How both sides of a tunnel prove who they are; 0, which nobody offers, for a key that cannot."""
    if isinstance(peer.auth, SharedKeyAuth):
        return Method.SHARED_KEY
    return method_of_key(peer.auth.credential.key) or 0


def hash_of(context: IsakmpContext, id_body: bytes, *, initiators: bool) -> bytes:
    """HASH_I or HASH_R over the body of that side's ID payload."""
    suite, keys = context.keyed
    said, sa = context.negotiation, context.sa
    publics, cookies = said.publics, (sa.cookie_i, sa.cookie_r)
    if not initiators:
        publics, cookies = (publics[1], publics[0]), (cookies[1], cookies[0])
    curve = CURVES.get(sa.method)
    algorithm = suite.prf if curve is None else _PRF_OF_HASH[curve[1].name]
    return side_hash(algorithm, keys.skeyid, publics, cookies, said.sa_body, id_body)


# ---- ours ----------------------------------------------------------------------------------------------------------------------


def prove(context: IsakmpContext, id_body: bytes) -> list[IsakmpPayload]:
    """Our certificates and signature, or our hash."""
    digest, auth = hash_of(context, id_body, initiators=context.sa.initiator), context.peer.auth
    if isinstance(auth, SharedKeyAuth):
        return [HashPayload(digest)]
    sent = [CertPayload(X509_SIGNATURE, octets) for octets in auth.credential.encoded()]
    return [*sent, SignaturePayload(_sign(auth.credential.key, context.sa.method, digest))]


def _sign(key: PrivateKey, method: int, digest: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey) and method == Method.RSA:
        return key.sign(digest, padding.PKCS1v15(), NoDigestInfo())
    if not isinstance(key, ec.EllipticCurvePrivateKey) or method not in CURVES:
        raise AuthenticationError("our key cannot sign in IKEv1: RSA, or ECDSA with P-256, P-384 or P-521")
    _, algorithm, size = CURVES[method]
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(algorithm))))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def certificate_requests(authorities: tuple[x509.Certificate, ...], room: float = inf) -> list[IsakmpPayload]:
    """CR for each authority by name; for too many, and for more than `room` octets, one without, which asks for a certificate of
    whomever."""
    if not authorities:
        return []
    names = dict.fromkeys(one.subject.public_bytes() for one in authorities)
    if len(authorities) > LIMITS.authorities_named or sum(len(name) + _CR_HEADER for name in names) > room:
        return [CertRequestPayload(X509_SIGNATURE, b"")]
    return [CertRequestPayload(X509_SIGNATURE, name) for name in names]


# ---- the peer's ----------------------------------------------------------------------------------------------------------------


def check(context: IsakmpContext, peer: Peer, theirs: Identity, id_body: bytes, message: IsakmpMessage, at: datetime) -> None:
    """Raises AuthenticationError unless the message proves, to this tunnel, that the peer is who it says."""
    digest = hash_of(context, id_body, initiators=not context.sa.initiator)
    if isinstance(peer.auth, SharedKeyAuth):
        sent = message.get(HashPayload)
        if sent is None or not bytes_eq(digest, sent.data):
            raise AuthenticationError("its hash does not fit: the shared keys differ, or it is not who it says")
        return
    signature = message.get(SignaturePayload)
    if signature is None:
        raise AuthenticationError("it sent no signature")
    received = certificates.from_der(_encoded(message))
    verify(certificates.key_of(received), context.sa.method, digest, signature.data)
    verified = certificates.judge(received, theirs, peer.auth.trust, at)
    context.proven.certificates, context.proven.until = received, verified.until


def _encoded(message: IsakmpMessage) -> list[bytes]:
    """X.509 alone: CRLs that it sends along are passed over, nothing is fetched."""
    sent = message.all(CertPayload)
    if len(sent) > LIMITS.certificates:
        raise CertificateError(f"the peer sent {len(sent)} certificates, {LIMITS.certificates} are the most")
    return [one.data for one in sent if one.encoding == X509_SIGNATURE]


def verify(key: PublicKey, method: int, digest: bytes, signature: bytes) -> None:
    """Raises AuthenticationError unless `signature` is one over `digest` by `key`'s private half."""
    if method == Method.RSA and isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise AuthenticationError(f"the peer's RSA key has {key.key_size} bits, {MIN_RSA_BITS} are the least (RFC 8247)")
        _verify_rsa(key, digest, signature)
    elif method in CURVES and isinstance(key, ec.EllipticCurvePublicKey):
        _verify_ecdsa(key, method, digest, signature)
    else:
        raise AuthenticationError("the peer's certificate holds a key of another kind than the one it authenticates by")


def _verify_rsa(key: rsa.RSAPublicKey, digest: bytes, signature: bytes) -> None:
    try:
        signed = key.recover_data_from_signature(signature, padding.PKCS1v15(), None)
    except InvalidSignature:
        signed = b""
    if not bytes_eq(signed, digest):
        raise AuthenticationError("the peer's signature does not fit its certificate")


def _verify_ecdsa(key: ec.EllipticCurvePublicKey, method: int, digest: bytes, signature: bytes) -> None:
    curve, algorithm, size = CURVES[method]
    if key.curve.name != curve or len(signature) != 2 * size:
        raise AuthenticationError("the peer's ECDSA method does not fit its key")
    r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
    try:
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(algorithm)))
    except InvalidSignature:
        raise AuthenticationError("the peer's signature does not fit its certificate") from None


def judge_again(context: IsakmpContext, at: datetime) -> None:
    """The certificates by which the peer has proven itself, by what its tunnel says now. Raises AuthenticationError."""
    auth, proven = context.peer.auth, context.proven
    if isinstance(auth, SignatureAuth) and proven.certificates and proven.identities is not None:
        proven.until = certificates.judge(proven.certificates, proven.identities[1], auth.trust, at).until
