"""Both cryptographic providers make the same packets, and each opens what the other sealed.

The preferred provider is compared with OpenSSL; where the build or the CPU has OpenSSL alone, that is OpenSSL with itself, and the
data plane names the reason.
"""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.dataplane import Batch, DataPlane, Encapsulation, Endpoint, OuterPath, Provider
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import SelectorPair
from ipsec_dp.ipsec.suites import parse_suite

ANYWHERE = AddressRange.of(ipaddress.ip_network("0.0.0.0/0"))
PATH = OuterPath(
    Endpoint(ipaddress.ip_address("192.0.2.1")), Endpoint(ipaddress.ip_address("192.0.2.2")), Encapsulation.ESP, link=0
)
BOTH_HAVE = ["aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305"]


def ipv4(payload: bytes) -> bytes:
    """A packet of protocol 253 (RFC 3692: experiments) with a right header checksum."""
    header = bytearray(b"\x45\0\0\0\0\0\0\0\x40\xfd\0\0\x0a\1\0\1\x0a\2\0\1")
    header[2:4] = (20 + len(payload)).to_bytes(2, "big")
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    header[10:12] = ((total & 0xFFFF) + (total >> 16) ^ 0xFFFF).to_bytes(2, "big")
    return bytes(header) + payload


class Peer:
    """A data plane with one SA in each direction, of the same key and SPI."""

    def __init__(self, plane: DataPlane, keyword: str, keymat: bytes, iv: int, sequence: int) -> None:
        self.plane, suite = plane, parse_suite(keyword)
        self.spi = 0x55000100
        pair = SelectorPair(ANYWHERE, ANYWHERE)
        self.inbound = plane.install_inbound(spi=self.spi, suite=suite, keymat=keymat, selectors=[pair], tunnel=0, interface=0)
        self.outbound = plane.install_outbound(
            spi=self.spi, suite=suite, keymat=keymat, path=PATH, tunnel=0, iv=iv, sequence=sequence
        )

    def seal(self, packets: list[bytes]) -> list[bytes]:
        plain = Batch.of(packets)
        sealed = Batch(plain.rows, plain.stride)
        assert self.plane.seal(self.outbound, plain, sealed) == plain.rows
        return sealed.packets()

    def open(self, packets: list[bytes]) -> list[bytes]:
        sealed = Batch.of(packets)
        plain = Batch(sealed.rows, sealed.stride)
        assert self.plane.open(sealed, plain) == sealed.rows
        return plain.packets()


@given(
    keyword=st.sampled_from([f"{suite}{esn}" for suite in BOTH_HAVE for esn in ("", "-esn")]),
    keymat=st.binary(min_size=36, max_size=36),
    iv=st.integers(0, 2**64 - 1),
    sequence=st.one_of(st.integers(0, 100), st.integers(2**32 - 200, 2**32 - 100)),
    payloads=st.lists(st.binary(max_size=1500), min_size=1, max_size=8),
)
def test_both_seal_alike_and_open_each_others_packets(keyword, keymat, iv, sequence, payloads):
    keymat = keymat[: parse_suite(keyword).keymat_octets]
    packets = [ipv4(payload) for payload in payloads]
    with (
        DataPlane(sa_slots=256, tunnels=1, interfaces=1, provider=Provider.OPENSSL) as openssl,
        DataPlane(sa_slots=256, tunnels=1, interfaces=1, provider=Provider.AUTO) as preferred,
    ):
        first, second = (Peer(plane, keyword, keymat, iv, sequence) for plane in (openssl, preferred))
        sealed = first.seal(packets)
        assert sealed == second.seal(packets)
        assert first.open(sealed) == packets
        assert second.open(sealed) == packets


def test_a_provider_can_be_forced_and_is_named():
    with DataPlane(sa_slots=256, tunnels=1, interfaces=1, provider=Provider.OPENSSL) as plane:
        assert plane.provider == "openssl"
        assert plane.provider_reason


def test_ipsec_mb_is_preferred_or_the_reason_is_named():
    with DataPlane(sa_slots=256, tunnels=1, interfaces=1) as plane:
        assert plane.provider == ("openssl" if plane.provider_reason else "intel-ipsec-mb")
