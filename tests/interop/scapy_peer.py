"""An ESP peer made of scapy's own implementation, under the same keys as a data plane of ours."""

from __future__ import annotations

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation

from ipsec_dp.dataplane import Encapsulation
from ipsec_dp.ipsec.suites import Encr, Integ, Suite
from ipsec_dp.rig import packets

NAT_T_PORT = 4500
ENCRYPTION = {Encr.AES_GCM_16: "AES-GCM", Encr.CHACHA20_POLY1305: "CHACHA20-POLY1305", Encr.AES_CBC: "AES-CBC"}
INTEGRITY = {
    Integ.NONE: None,
    Integ.HMAC_SHA1_96: "HMAC-SHA1-96",
    Integ.HMAC_SHA2_256_128: "SHA2-256-128",
    Integ.HMAC_SHA2_384_192: "SHA2-384-192",
    Integ.HMAC_SHA2_512_256: "SHA2-512-256",
}
ALL_SUITES = (
    *("aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305"),
    *(f"aes{bits}-{name}" for bits in (128, 192, 256) for name in ("sha1", "sha256", "sha384", "sha512")),
)


def outer(source: str, destination: str) -> IP | IPv6:
    """The outer header that scapy puts before ESP."""
    return IPv6(src=source, dst=destination) if ":" in source else IP(src=source, dst=destination)


def association(
    suite: Suite, spi: int, keymat: bytes, source: str, destination: str, encapsulation: Encapsulation
) -> SecurityAssociation:
    """scapy's SA in tunnel mode from `source` to `destination`. `keymat` as in RFC 7296 §2.17 and RFC 4106 §8.1."""
    encryption_octets = suite.key_octets + suite.salt_octets
    return SecurityAssociation(
        ESP,
        spi=spi,
        crypt_algo=ENCRYPTION[suite.encr],
        crypt_key=keymat[:encryption_octets],
        auth_algo=INTEGRITY[suite.integ],
        auth_key=keymat[encryption_octets:] or None,
        tunnel_header=outer(source, destination),
        nat_t_header=UDP(sport=NAT_T_PORT, dport=NAT_T_PORT) if encapsulation is Encapsulation.UDP else None,
        esn_en=suite.esn,
    )


def open_datagram(sa: SecurityAssociation, data: bytes, encapsulation: Encapsulation, sequence: int) -> bytes:
    """The inner packet that scapy finds in a datagram of ours. `sequence` in full: scapy keeps no window to infer it from.

    Raises scapy.layers.ipsec.IPSecIntegrityError.
    """
    source, destination = sa.tunnel_header.src, sa.tunnel_header.dst
    if encapsulation is Encapsulation.UDP:
        packet = packets.udp(source, destination, data, ports=(NAT_T_PORT, NAT_T_PORT))
    elif ":" in source:
        packet = packets.ipv6(source, destination, data, protocol=50)
    else:
        packet = packets.ipv4(source, destination, data, protocol=50)
    whole = (IPv6 if ":" in source else IP)(packet)
    return bytes(sa.decrypt(whole, esn=sequence >> 32))


def seal_packet(sa: SecurityAssociation, inner: bytes, sequence: int) -> bytes:
    """The ESP packet, without outer headers, that scapy makes of an inner packet."""
    packet = (IP if inner[0] >> 4 == 4 else IPv6)(inner)
    sa.seq_num = sequence & 0xFFFFFFFF  # as an argument, scapy takes 0 for "none given"
    return bytes(sa.encrypt(packet, esn=sequence >> 32)[ESP])
