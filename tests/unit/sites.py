"""What the tests of the data plane share: packets of the rig's two sites, ESP made by hand, and a picture of an SA to compare."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ipsec_dp.dataplane import NO_LIMITS, Limits, MemoryDatagram
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import Pair, PlaneRig, keymat, selectors_of

if TYPE_CHECKING:
    from ipsec_dp.dataplane import SaHandle, SaInfo

HOST = {(4, "a"): "10.1.0.1", (4, "b"): "10.2.0.1", (6, "a"): "2001:db8:1::1", (6, "b"): "2001:db8:2::1"}


def to_b(data: bytes = b"", version: int = 4, **fields) -> bytes:
    """An inner packet from a host of site a to one of site b."""
    return udp(HOST[version, "a"], HOST[version, "b"], data, **fields)


def to_a(data: bytes = b"", version: int = 4, **fields) -> bytes:
    return udp(HOST[version, "b"], HOST[version, "a"], data, **fields)


def spi_of(datagram: MemoryDatagram) -> int:
    return int.from_bytes(datagram.data[:4])


def sequence_of(datagram: MemoryDatagram) -> int:
    """The sequence number's low half."""
    return int.from_bytes(datagram.data[4:8])


def padded(plain: bytes, next_header: int, padding: bytes | None = None) -> bytes:
    """Plaintext with padding (by default the right one) and trailer (RFC 4303 §2.4)."""
    if padding is None:
        padding = bytes(range(1, 1 + -(len(plain) + 2) % 4))
    return plain + padding + bytes([len(padding), next_header])


def seal(site: Pair, plaintext: bytes, sequence: int, *, spi: int | None = None) -> bytes:
    """ESP for site b under the key that a sends by, around any plaintext with its trailer, made without the data plane.

    AES-GCM with 32-bit sequence numbers, RFC 4106.
    """
    spi = site.spis["b"] if spi is None else spi
    keys = bytes(keymat(site.suite, "to b 1"))
    header = struct.pack("!II", spi, sequence & 0xFFFFFFFF)
    iv = struct.pack("!Q", 0xC0FFEE0000000000 | sequence)
    key, salt = keys[: site.suite.key_octets], keys[site.suite.key_octets :]
    return header + iv + AESGCM(key).encrypt(salt + iv, plaintext, header)


def install_inbound_anew(site: Pair, *, interface: int = 0, limits: Limits = NO_LIMITS) -> SaHandle:
    """Site b's inbound SA in place of the one it has, with the same SPI and key; where its peer is, it does not know."""
    site.b.sad.remove(site.inbound("b"))
    return site.b.sad.install_inbound(
        spi=site.spis["b"],
        suite=site.suite,
        keymat=keymat(site.suite, "to b 1"),
        selectors=selectors_of("b"),
        tunnel=0,
        interface=interface,
        replay_window=64,
        limits=limits,
    )


def from_a(site: Pair, data: bytes, tos: int = 0) -> MemoryDatagram:
    """A datagram from gateway a as it arrives at b."""
    return MemoryDatagram(data, site.b.endpoint, site.a.endpoint, tos)


def inbound(site: Pair) -> SaInfo:
    """The SA by which b receives."""
    return site.b.sad.read(site.inbound("b"))


def outbound(site: Pair) -> SaInfo:
    """The SA by which a sends."""
    return site.a.sad.read(site.outbound("a"))


def arrive(gateway: PlaneRig, *datagrams: MemoryDatagram) -> list[bytes]:
    """Lets datagrams arrive; what comes out of the TUN."""
    gateway.arrive(*datagrams)
    gateway.step()
    return gateway.pulled()
