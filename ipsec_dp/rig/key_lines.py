"""The keys of SAs as Wireshark's table of ESP SAs (`esp_sa`) has them. For rigs alone: a gateway tells nobody its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipsec_dp.dataplane import Direction

if TYPE_CHECKING:
    from ipsec_dp.dataplane import SaParams


def _wireshark(suite: Any) -> tuple[str, str]:
    """Names of encryption and integrity as Wireshark has them."""
    gcm = "gcm" in suite.keyword
    return ("AES-GCM [RFC4106]" if gcm else suite.keyword), ("NULL" if gcm else "ANY 96 bit authentication [no checking]")


def key_line(params: SaParams) -> str:
    """Of an inbound SA the source is the peer."""
    inbound = params.direction is Direction.INBOUND
    ends = (params.peer, None) if inbound or params.path is None else (params.path.local, params.path.remote)
    source, destination = ("*" if end is None else str(end.address) for end in ends)
    encryption, integrity = _wireshark(params.suite)
    key = bytes(params.keymat)
    protocol = "IPv6" if any(end is not None and end.address.version == 6 for end in ends) else "IPv4"
    return f'"{protocol}","{source}","{destination}","0x{params.spi:08x}","{encryption}","0x{key.hex()}","{integrity}",""'
