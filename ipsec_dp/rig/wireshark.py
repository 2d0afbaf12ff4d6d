"""Keys as Wireshark's tables have them, for rigs alone: a gateway tells nobody its keys.

`esp_sa` is that of ESP SAs; `ikev2_decryption_table` has SPIs, SK_ei, SK_er, cipher, SK_ai, SK_ar and integrity of IKE SAs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.dataplane import Direction
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from ipsec_dp.dataplane import SaParams
    from ipsec_dp.ike.proposal import IkeSuite
    from ipsec_dp.ike.v2.sa import IkeSa

ESP_TABLE: Final = "esp_sa"
IKE_TABLE: Final = "ikev2_decryption_table"
INTEGRITY: Final = {
    "sha1": "HMAC_SHA1_96 [RFC2404]",
    "sha256": "HMAC_SHA2_256_128 [RFC4868]",
    "sha384": "HMAC_SHA2_384_192 [RFC4868]",
    "sha512": "HMAC_SHA2_512_256 [RFC4868]",
}
NO_INTEGRITY: Final = "NONE [RFC4306]"


def _names(suite: IkeSuite) -> tuple[str, str]:
    """Of cipher and integrity; those it has no name for (ChaCha20-Poly1305) by their keyword."""
    cipher, integrity = suite.encryption, suite.integrity
    if integrity is not None:
        return f"AES-CBC-{cipher.key_length} [RFC3602]", INTEGRITY[integrity.keyword]
    if cipher.key_length is None:
        return cipher.keyword, NO_INTEGRITY
    return f"AES-GCM-{cipher.key_length} with {cipher.icv} octet ICV [RFC5282]", NO_INTEGRITY


def ike_line(sa: IkeSa) -> str | None:
    """A line of the table; None: it has no keys."""
    if sa.suite is None or sa.keys is None:
        return None
    keys, (cipher, integrity) = sa.keys, _names(sa.suite)
    spis, ciphers, integrities = (sa.spi_i, sa.spi_r), (keys.sk_ei, keys.sk_er), (keys.sk_ai, keys.sk_ar)
    of_ciphers, of_integrity = (",".join(key.hex() for key in pair) for pair in (ciphers, integrities))
    return f'{",".join(spi.hex() for spi in spis)},{of_ciphers},"{cipher}",{of_integrity},"{integrity}"'


def _esp_names(suite: Any) -> tuple[str, str]:
    """Names of encryption and integrity as Wireshark has them."""
    gcm = "gcm" in suite.keyword
    return ("AES-GCM [RFC4106]" if gcm else suite.keyword), ("NULL" if gcm else "ANY 96 bit authentication [no checking]")


def esp_line(params: SaParams) -> str:
    """Of an inbound SA the source is the peer."""
    inbound = params.direction is Direction.INBOUND
    ends = (params.peer, None) if inbound or params.path is None else (params.path.local, params.path.remote)
    source, destination = ("*" if end is None else str(end.address) for end in ends)
    encryption, integrity = _esp_names(params.suite)
    key = bytes(params.keymat)
    protocol = "IPv6" if any(end is not None and end.address.version == 6 for end in ends) else "IPv4"
    return f'"{protocol}","{source}","{destination}","{spi_text(params.spi)}","{encryption}","0x{key.hex()}","{integrity}",""'
