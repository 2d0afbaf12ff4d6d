"""Keys as lines of Wireshark's tables: `esp_sa`, `ikev2_decryption_table` and `ikev1_decryption_table`.

A table with a name that it does not know is not read at all, so what it has no name for (ChaCha20-Poly1305) has no line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.dataplane import Direction
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.ipsec.suites import Encr, Integ

if TYPE_CHECKING:
    from ipsec_dp.dataplane import SaParams
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v1.sa import IsakmpSa
    from ipsec_dp.ike.v2.sa import IkeSa

ESP_TABLE: Final = "esp_sa"
IKE_TABLE: Final = "ikev2_decryption_table"
IKEV1_TABLE: Final = "ikev1_decryption_table"
INTEGRITY: Final = {
    "sha1": "HMAC_SHA1_96 [RFC2404]",
    "sha256": "HMAC_SHA2_256_128 [RFC4868]",
    "sha384": "HMAC_SHA2_384_192 [RFC4868]",
    "sha512": "HMAC_SHA2_512_256 [RFC4868]",
}
NO_INTEGRITY: Final = "NONE [RFC4306]"
ESP_CIPHERS: Final = {Encr.AES_CBC: "AES-CBC [RFC3602]", Encr.AES_GCM_16: "AES-GCM with 16 octet ICV [RFC4106]"}
ESP_INTEGRITY: Final = {
    Integ.NONE: "NULL",
    Integ.HMAC_SHA1_96: "HMAC-SHA-1-96 [RFC2404]",
    Integ.HMAC_SHA2_256_128: "HMAC-SHA-256-128 [RFC4868]",
    Integ.HMAC_SHA2_384_192: "HMAC-SHA-384-192 [RFC4868]",
    Integ.HMAC_SHA2_512_256: "HMAC-SHA-512-256 [RFC4868]",
}
# With extended sequence numbers the ICV covers 32 bits that no packet shows, so that Wireshark would call it wrong. With an AEAD
# there is no name that keeps it from looking, where it is told to.
UNCHECKED: Final = "ANY {bits} bit authentication [no checking]"


def ike_names(suite: IkeSuite) -> tuple[str, str] | None:
    """Of cipher and integrity; None: there is none."""
    cipher, integrity = suite.encryption, suite.integrity
    if integrity is not None:
        return f"AES-CBC-{cipher.key_length} [RFC3602]", INTEGRITY[integrity.keyword]
    if cipher.key_length is None:
        return None
    return f"AES-GCM-{cipher.key_length} with {cipher.icv} octet ICV [RFC5282]", NO_INTEGRITY


def ikev2_line(sa: IkeSa) -> str | None:
    """None: there is no name for its cipher, or it has no keys."""
    names = None if sa.suite is None else ike_names(sa.suite)
    if sa.keys is None or names is None:
        return None
    keys, (cipher, integrity) = sa.keys, names
    spis, ciphers, integrities = (sa.spi_i, sa.spi_r), (keys.sk_ei, keys.sk_er), (keys.sk_ai, keys.sk_ar)
    of_spis, of_ciphers, of_integrity = (",".join(each.hex() for each in pair) for pair in (spis, ciphers, integrities))
    return f'{of_spis},{of_ciphers},"{cipher}",{of_integrity},"{integrity}"'


def ikev1_line(sa: IsakmpSa) -> str | None:
    """Wireshark takes the cipher from the exchange itself. None: it has no keys."""
    return None if sa.keys is None else f"{sa.cookie_i.hex()},{sa.keys.cipher.hex()}"


def esp_sa_line(params: SaParams) -> str | None:
    """By the SPI alone: addresses may change while the SA lasts. None: there is no name for its cipher."""
    suite = params.suite
    if suite.encr not in ESP_CIPHERS:
        return None
    end = params.peer if params.direction is Direction.INBOUND or params.path is None else params.path.remote
    protocol = "IPv6" if end is not None and end.address.version == 6 else "IPv4"
    at = len(params.keymat) - suite.integ_key_octets
    key, integrity_key = bytes(params.keymat[:at]).hex(), bytes(params.keymat[at:]).hex()
    cipher, integrity = ESP_CIPHERS[suite.encr], ESP_INTEGRITY[suite.integ]
    if suite.esn and not suite.aead:
        integrity, integrity_key = UNCHECKED.format(bits=8 * suite.icv_octets), ""
    shown = f"0x{integrity_key}" if integrity_key else ""
    return f'"{protocol}","*","*","{spi_text(params.spi)}","{cipher}","0x{key}","{integrity}","{shown}"'
