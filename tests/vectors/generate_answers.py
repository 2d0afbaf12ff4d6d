"""Prints the rows of native/aead_vectors.h, computed with `cryptography` and the standard library's `hmac`.

Published inputs: GCM: test cases 4, 10 and 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega), whose published result is
checked here. ChaCha20-Poly1305: RFC 8439 section 2.8.2. AES-CBC: NIST SP 800-38A sections F.2.1, F.2.3, F.2.5, whose ciphertext is
published; the ICV over ESP header, IV, ciphertext and the high half of the sequence number is computed here.

The chain: packet n = 1..40 holds 37 n octets (rounded up to the cipher's block) of value (i + n) mod 256; octet i of its IV is
n + i; what is authenticated besides is the ICV of packet n - 1 (zeros for the first). Octet i of the encryption key is 7 i + 1, of
the integrity key 11 i + 3. The row holds the last ICV.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

Seal = Callable[[bytes, bytes, bytes, bytes, bytes, bytes], tuple[bytes, bytes]]

HMACS = [("SHA1_96", "sha1", 20, 12), ("SHA2_256_128", "sha256", 32, 16), ("SHA2_384_192", "sha384", 48, 24)]
HMACS.append(("SHA2_512_256", "sha512", 64, 32))

GCM_KEY = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
GCM_KEYS = {16: GCM_KEY, 24: GCM_KEY + GCM_KEY[:8], 32: GCM_KEY + GCM_KEY}
GCM_ICVS = {16: "5bc94fbc3221a5db94fae95ae7121a47", 24: "2519498e80f1478f37ba55bd6d27618c", 32: "76fc6ece0f4e1768cddf8853bb2d551b"}
GCM_IV = bytes.fromhex("cafebabefacedbaddecaf888")
GCM_AAD = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
GCM_PLAIN = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
CHACHA_KEY = bytes(range(0x80, 0xA0))
CHACHA_IV = bytes.fromhex("070000004041424344454647")
CHACHA_AAD = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
CHACHA_PLAIN = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
CHACHA_ICV = "1ae10b594f09e26a7e902ecbd0600691"
CBC_KEYS = {
    16: "2b7e151628aed2a6abf7158809cf4f3c",
    24: "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
    32: "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
}
CBC_FIRST = {16: "7649abac8119b246cee98e9b12e9197d", 24: "4f021db243bc633d7178183a9fa071e8", 32: "f58c4c04d6e5f1ba779eabfb5f7bfbd6"}
CBC_IV = bytes(range(16))
CBC_PLAIN = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)


@dataclass
class Suite:
    encr: str
    integ: str
    key_octets: int
    integ_octets: int
    block: int
    iv_octets: int
    icv_octets: int
    seal: Seal


def aead(primitive: type[AESGCM] | type[ChaCha20Poly1305]) -> Seal:
    def seal(key: bytes, integ_key: bytes, iv: bytes, aad: bytes, tail: bytes, plain: bytes) -> tuple[bytes, bytes]:
        sealed = primitive(key).encrypt(iv, plain, aad)
        return sealed[:-16], sealed[-16:]

    return seal


def cbc_hmac(digest: str, icv_octets: int) -> Seal:
    def seal(key: bytes, integ_key: bytes, iv: bytes, aad: bytes, tail: bytes, plain: bytes) -> tuple[bytes, bytes]:
        encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        sealed = encryptor.update(plain) + encryptor.finalize()
        return sealed, hmac.digest(integ_key, aad + sealed + tail, digest)[:icv_octets]

    return seal


SUITES = [Suite("AES_GCM_16", "NONE", k, 0, 1, 12, 16, aead(AESGCM)) for k in (16, 24, 32)]
SUITES.append(Suite("CHACHA20_POLY1305", "NONE", 32, 0, 1, 12, 16, aead(ChaCha20Poly1305)))
SUITES += [
    Suite("AES_CBC", f"HMAC_{name}", k, integ, 16, 16, icv, cbc_hmac(digest, icv))
    for k in (16, 24, 32)
    for name, digest, integ, icv in HMACS
]


def chain(suite: Suite) -> bytes:
    key = bytes((7 * i + 1) & 255 for i in range(suite.key_octets))
    integ_key = bytes((11 * i + 3) & 255 for i in range(suite.integ_octets))
    icv = bytes(suite.icv_octets)
    for n in range(1, 41):
        octets = -(-37 * n // suite.block) * suite.block
        plain = bytes((i + n) & 255 for i in range(octets))
        iv = bytes(n + i for i in range(suite.iv_octets))
        icv = suite.seal(key, integ_key, iv, icv, b"", plain)[1]
    return icv


def published(suite: Suite) -> tuple[str, bytes, bytes, bytes, bytes, bytes, bytes]:
    """Source, key, integrity key, IV, AAD, tail, plaintext."""
    if suite.encr == "AES_GCM_16":
        case = {16: 4, 24: 10, 32: 16}[suite.key_octets]
        return f"GCM specification, test case {case}", GCM_KEYS[suite.key_octets], b"", GCM_IV, GCM_AAD, b"", GCM_PLAIN
    if suite.encr == "CHACHA20_POLY1305":
        return "RFC 8439 section 2.8.2", CHACHA_KEY, b"", CHACHA_IV, CHACHA_AAD, b"", CHACHA_PLAIN
    section = {16: 1, 24: 3, 32: 5}[suite.key_octets]
    header = bytes.fromhex("0000100100000005") + CBC_IV
    integ_key = bytes(range(0x40, 0x40 + suite.integ_octets))
    key = bytes.fromhex(CBC_KEYS[suite.key_octets])
    return f"NIST SP 800-38A F.2.{section} with HMAC", key, integ_key, CBC_IV, header, bytes.fromhex("00000001"), CBC_PLAIN


def check_published(suite: Suite, sealed: bytes, icv: bytes) -> None:
    if suite.encr == "AES_GCM_16":
        assert icv.hex() == GCM_ICVS[suite.key_octets]
    elif suite.encr == "CHACHA20_POLY1305":
        assert icv.hex() == CHACHA_ICV
    else:
        assert sealed.hex().startswith(CBC_FIRST[suite.key_octets])


def quoted(value: bytes) -> str:
    """C string literals of at most 48 octets a line."""
    lines = [f'"{value[i : i + 48].hex()}"' for i in range(0, len(value), 48)]
    return "\n     ".join(lines) or '""'


def main() -> None:
    print(
        "/* Made by tests/vectors/generate_answers.py, which names the sources, for aead_answers.c alone. One suite a row: source,"
    )
    print(" * encr, integ, key octets, key, integrity key, IV, AAD, tail, plaintext, ciphertext, ICV, last ICV of the chain. */")
    print("/* clang-format off */")
    for suite in SUITES:
        source, *values = published(suite)
        sealed, icv = suite.seal(*values)
        check_published(suite, sealed, icv)
        columns = [quoted(value) for value in (*values, sealed, icv, chain(suite))]
        print(f'ANSWER("{source}", DP_ENCR_{suite.encr}, DP_INTEG_{suite.integ}, {suite.key_octets},')
        print("     " + ",\n     ".join(columns) + ")")


if __name__ == "__main__":
    main()
