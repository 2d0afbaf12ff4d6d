"""prf: a keyed hash, by which keys are derived and shared keys proven in every version of IKE (RFC 7296 §2.13, RFC 2409 §4)."""

from typing import Final

from cryptography.hazmat.primitives import hashes, hmac

from ipsec_dp.ike.octets import Buffer
from ipsec_dp.ipsec.transforms import Prf

HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - HMAC-SHA1 is negotiated only where configured
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def prf(algorithm: Prf, key: Buffer, *data: Buffer) -> bytes:
    """prf(key, data[0] | data[1] | …), `algorithm.octets` long."""
    mac = hmac.HMAC(key, HASHES[algorithm.hash])
    for part in data:
        mac.update(part)
    return mac.finalize()
