"""Keys as Wireshark's tables have them, for rigs: a gateway itself tells its keys in its key log alone (`keying.key_log`).

`esp_sa` is that of ESP SAs; `ikev2_decryption_table` has SPIs, SK_ei, SK_er, cipher, SK_ai, SK_ar and integrity of IKE SAs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipsec_dp.dataplane import Direction
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.keying.wireshark import ESP_TABLE, IKE_TABLE, IKEV1_TABLE, INTEGRITY, NO_INTEGRITY, ike_names

if TYPE_CHECKING:
    from ipsec_dp.dataplane import SaParams
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v2.sa import IkeSa

__all__ = ["ESP_TABLE", "IKEV1_TABLE", "IKE_TABLE", "INTEGRITY", "NO_INTEGRITY", "esp_line", "ike_line"]


def _names(suite: IkeSuite) -> tuple[str, str]:
    """Of cipher and integrity; those it has no name for (ChaCha20-Poly1305) by their keyword."""
    return ike_names(suite) or (suite.encryption.keyword, NO_INTEGRITY)


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
