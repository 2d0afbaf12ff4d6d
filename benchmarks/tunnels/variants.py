"""What a tunnel is set up as for a measure. Each contender starts one of these at a time."""

from __future__ import annotations

from dataclasses import dataclass

IPV4, IPV6 = 4, 6


@dataclass(frozen=True, slots=True)
class Variant:
    """`encapsulation` is what our configuration says (None: it says nothing); `cipher` is strongSwan's keyword.

    `version`: of the inner packets that are measured; the outer ones are IPv4.
    """

    name: str
    offloads: bool = True
    encapsulation: str | None = "udp"
    cipher: str = "aes128gcm16"
    version: int = IPV4


BASE = Variant("base")
DEFAULT = Variant("default", encapsulation=None)
ESP = Variant("esp", encapsulation="esp")
V6 = Variant("v6", version=IPV6)
AES256 = Variant("aes256", cipher="aes256gcm16")
CHACHA = Variant("chacha", cipher="chacha20poly1305")
NO_OFFLOAD = Variant("nooffload", offloads=False)
MATCHED = Variant("matched")  # as BASE, once a round has everybody's `tcp_1`
VARIANTS = (BASE, DEFAULT, ESP, V6, AES256, CHACHA, NO_OFFLOAD, MATCHED)  # in the order of a round
