"""Prints tests/vectors/esp.txt: whole ESP packets of RFC 4303 tunnel mode.

Published: draft-mcgrew-gcm-test-01 section 4 (RFC 4106; its next header is 1) and RFC 7634 appendix A; each is computed here with
`cryptography` and compared with the published result. Then one for each suite, ESN and IP version, computed from patterns below.
"""

import hmac
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305


@dataclass(frozen=True)
class Suite:
    encr: str
    key_octets: int
    integ: str = "NONE"
    digest: str = ""
    integ_octets: int = 0
    icv_octets: int = 16

    @property
    def aead(self) -> bool:
        return self.integ == "NONE"


HMACS = (
    ("HMAC_SHA1_96", "sha1", 20, 12),
    ("HMAC_SHA2_256_128", "sha256", 32, 16),
    ("HMAC_SHA2_384_192", "sha384", 48, 24),
    ("HMAC_SHA2_512_256", "sha512", 64, 32),
)
SUITES = [Suite("AES_GCM_16", key) for key in (16, 24, 32)]
SUITES += [Suite("CHACHA20_POLY1305", 32)]
SUITES += [Suite("AES_CBC", key, *integ) for key in (16, 24, 32) for integ in HMACS]


@dataclass(frozen=True)
class Packet:
    source: str
    suite: Suite
    esn: bool
    spi: int
    sequence: int
    next_header: int
    keymat: bytes
    iv: bytes
    inner: bytes

    def seal(self) -> bytes:
        suite = self.suite
        align = 4 if suite.aead else 16
        pad = -(len(self.inner) + 2) % align
        plain = self.inner + bytes(range(1, pad + 1)) + bytes([pad, self.next_header])
        high, low = struct.pack(">I", self.sequence >> 32), struct.pack(">I", self.sequence & 0xFFFFFFFF)
        spi = struct.pack(">I", self.spi)
        key, rest = self.keymat[: suite.key_octets], self.keymat[suite.key_octets :]
        if suite.aead:
            aad = spi + high + low if self.esn else spi + low
            primitive = AESGCM if suite.encr == "AES_GCM_16" else ChaCha20Poly1305
            return spi + low + self.iv + primitive(key).encrypt(rest + self.iv, plain, aad)
        encryptor = Cipher(algorithms.AES(key), modes.CBC(self.iv)).encryptor()
        packet = spi + low + self.iv + encryptor.update(plain) + encryptor.finalize()
        icv = hmac.digest(rest, packet + (high if self.esn else b""), suite.digest)
        return packet + icv[: suite.icv_octets]


def gcm_draft(suite: Suite, esn: bool, aad: str, keymat: str, iv: str, inner: str) -> Packet:
    words = struct.unpack(f">{2 + esn}I", bytes.fromhex(aad))
    sequence = words[1] << 32 | words[2] if esn else words[1]
    octets = (bytes.fromhex(keymat), bytes.fromhex(iv), bytes.fromhex(inner))
    return Packet("draft-mcgrew-gcm-test-01 section 4", suite, esn, words[0], sequence, 1, *octets)


# Packet, and what its publication says the ESP packet ends with.
PUBLISHED = (
    (
        gcm_draft(
            SUITES[0],
            True,
            "000043218765432100000000",
            "4c80cdefbb5d10da906ac73c3613a6342e443b68",
            "4956ed7e3b244cfe",
            "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726369747902646b00"
            "00210001",
        ),
        (
            "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce"
            "61bc17d768fd9732459018148f6cbe722fd04796562dfdb4"
        ),
    ),
    (
        gcm_draft(
            SUITES[1],
            False,
            "0000a5f80000000a",
            "feffe9928665731c6d6a8f9467308308feffe9928665731ccafebabe",
            "facedbaddecaf888",
            "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d07568",
        ),
        "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc7795457b9652037f5318027b5b4cd7a636",
    ),
    (
        gcm_draft(
            SUITES[2],
            False,
            "4a2cbfe300000002",
            "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344",
            "0102030405060708",
            "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b401010402",
        ),
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f054565",
    ),
    (
        Packet(
            "RFC 7634 appendix A",
            SUITES[3],
            False,
            0x01020304,
            5,
            4,
            bytes(range(0x80, 0xA0)) + bytes.fromhex("a0a1a2a3"),
            bytes(range(0x10, 0x18)),
            bytes.fromhex(
                "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
                "202122232425262728292a2b2c2d2e2f3031323334353637"
            ),
        ),
        (
            "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
            "cbec163fac469b502773f6fb94e664da9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43"
        ),
    ),
)


def inner_packet(version: int, payload: int) -> bytes:
    """A UDP packet with checksum 0 inside IPv4 or IPv6, as a carrier of pattern; the inner checks are not this test's subject."""
    udp = struct.pack(">HHHH", 5000, 6000, 8 + payload, 0) + bytes((3 * i + 1) & 255 for i in range(payload))
    if version == 4:
        return (
            struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes([10, 1, 0, 1]), bytes([10, 2, 0, 1])) + udp
        )
    return struct.pack(">IHBB16s16s", 6 << 28, len(udp), 17, 64, bytes(15) + b"\1", bytes(15) + b"\2") + udp


def computed() -> list[Packet]:
    packets: list[Packet] = []
    for suite in SUITES:
        for esn in (False, True):
            for version in (4, 6):
                n = len(packets)
                salt = 4 if suite.aead else 0
                keymat = bytes((5 * i + n) & 255 for i in range(suite.key_octets + salt + suite.integ_octets))
                iv = bytes((13 * i + n) & 255 for i in range(8 if suite.aead else 16))
                sequence = (n + 2) << 32 | (0xFFFFFF00 + n) if esn else 0xFFFFFF00 + n
                inner = inner_packet(version, n)
                packets.append(Packet("computed", suite, esn, 0x1000 + n, sequence, 4 if version == 4 else 41, keymat, iv, inner))
    return packets


def row(packet: Packet) -> str:
    suite = packet.suite
    numbers = f"{suite.key_octets}, {int(packet.esn)}, 0x{packet.spi:08x}, 0x{packet.sequence:016x}, {packet.next_header}"
    octets = (packet.keymat, packet.iv, packet.inner, packet.seal())
    columns = ",\n    ".join(f'"{value.hex()}"' for value in octets)
    return f'ESP("{packet.source}", DP_ENCR_{suite.encr}, DP_INTEG_{suite.integ}, {numbers},\n    {columns})'


def main() -> None:
    print("// Made by tests/vectors/generate_esp.py, which names the sources.")
    print("// ESP(source, encr, integ, key octets, ESN, SPI, sequence, next header, keymat, IV, inner packet, ESP packet)")
    for packet, expected in PUBLISHED:
        assert packet.seal()[16:].hex().startswith(expected)
        print(row(packet))
    for packet in computed():
        print(row(packet))


if __name__ == "__main__":
    main()
