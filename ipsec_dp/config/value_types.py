"""What a value of the TOML file looks like as a person writes it: the type that is read, and what an editor shows of it.

`tables` has the keys that take them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

Name = Annotated[
    str,
    Meta(
        description="letters, digits, _ . - (64 at the most)",
        examples=["to-b"],
        extra_json_schema={"pattern": f"^{NAME_PATTERN}$"},
    ),
]
Duration = Annotated[
    str,
    Meta(
        description="a time: number and s, m, h or d",
        examples=["90s", "1h"],
        extra_json_schema={"pattern": "^[0-9]+(s|m|h|d)$"},
    ),
]
RekeyAfter = Annotated[
    Duration, Meta(description="new keys are negotiated after this time; 0s: shortly before the lifetime ends, by chance and role")
]
Size = Annotated[
    str | int,
    Meta(
        description="octets: number and B, kB, MB, GB, TB (powers of ten) or KiB, MiB, GiB, TiB (powers of two); 0: no limit",
        examples=["500GB", "64KiB", 0],
    ),
]
Address = Annotated[str, Meta(description="an IPv4 or IPv6 address", examples=["192.0.2.1"])]
Remote = Annotated[
    str | tuple[str, ...],
    Meta(description='address, DNS name, a list of them (fail-over), or "any"', examples=["192.0.2.2", "any"]),
]
Prefix = Annotated[str, Meta(description="an IPv4 or IPv6 prefix", examples=["10.1.0.0/24"])]
Addresses = Annotated[
    str, Meta(description="an IPv4 or IPv6 prefix, or a range of addresses", examples=["10.1.0.0/24", "10.1.0.10-10.1.0.20"])
]
IcmpType = Annotated[str | int, Meta(description='"any" or an ICMP type, 0-255; "opaque": later fragments', examples=["any", 8])]
IcmpCode = Annotated[
    str | int, Meta(description='"any", an ICMP code, or a range of them; needs icmp_type', examples=["any", 4, "0-3"])
]
Ports = Annotated[
    str | int,
    Meta(
        description='"any", a port, or a range; "opaque": later fragments, which show none',
        examples=["any", 443, "5000-5010", "opaque"],
    ),
]
Protocol = Annotated[
    str | int, Meta(description="any, tcp, udp, icmp, icmpv6, or an IP protocol number 1-255", examples=["any", "tcp", 47])
]
FileName = Annotated[str, Meta(description="a file, relative to this one", examples=["to-b.psk"])]
Spi = Annotated[
    int,
    Meta(
        description="an SPI, 0x100 to 0xffffffff (RFC 4303 §2.1)",
        examples=[0x1001],
        extra_json_schema={"minimum": 256, "maximum": 0xFFFFFFFF},
    ),
]
# The names that `status` shows.
OffloadName = Literal["tun_csum", "tun_tso4", "tun_tso6", "tun_uso4", "tun_uso6", "udp_segment", "udp_gro", "tun_udp_tunnel"]
Offloads = Annotated[
    Literal["all", "none"] | tuple[OffloadName, ...],
    Meta(description="what the kernel may do in bulk, where it can: all, none, or names", examples=["all"]),
]
SOCKET_BUFFER = 4 << 20
SOCKET_BUFFER_MIN, SOCKET_BUFFER_MAX = 64 << 10, 64 << 20
SocketBuffer = Annotated[
    int,
    Meta(
        description="octets of each outer socket's receive buffer, and of its send buffer",
        examples=[1 << 20],
        extra_json_schema={"minimum": SOCKET_BUFFER_MIN, "maximum": SOCKET_BUFFER_MAX},
    ),
]
Cpu = Annotated[int, Meta(description="a CPU, by its number", extra_json_schema={"minimum": 0, "maximum": 1023})]
EspKeywords = Annotated[str, Meta(description="strongSwan's keywords", examples=["aes256gcm16-esn", "aes128-sha256-x25519"])]
Suite = Annotated[str, Meta(description="strongSwan's keywords", examples=["aes128gcm16", "aes128gcm16-esn"])]
KeyFile = Annotated[
    str,
    Meta(description="a file in hex: encryption key, salt (AEAD, RFC 4106 §8.1), integrity key", examples=["in.key"]),
]
IkeKeywords = Annotated[str, Meta(description="strongSwan's keywords", examples=["aes256gcm16-prfsha384-ecp384"])]
Count = Annotated[int, Meta(description="a number; 0: no limit", examples=[0], extra_json_schema={"minimum": 0})]
PpkId = Annotated[str, Meta(description="the name of a PPK, the same on both sides; 0x and hex: octets", examples=["ppk-2026"])]
