"""Writes keymat.json: IKEv2 key material computed from RFC 7296 §2.13 to §2.18 with hashlib and hmac alone.

It shares no line with the package, so that an error in one does not hide in the other. Inputs are counters, no secrets.
"""

import hashlib
import hmac
import json
from pathlib import Path

ENCR = {"aes128gcm16": 20, "aes256gcm16": 36, "chacha20poly1305": 36, "aes128": 16, "aes256": 32}
INTEG = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64, None: 0}
CASES = [  # encryption, integrity, prf hash, key exchange, octets of its secret
    ("aes128gcm16", None, "sha256", "x25519", 32),
    ("aes256gcm16", None, "sha384", "ecp384", 48),
    ("chacha20poly1305", None, "sha512", "ecp521", 66),
    ("aes128", "sha256", "sha256", "modp2048", 256),
    ("aes256", "sha384", "sha384", "ecp256", 32),
    ("aes256", "sha512", "sha512", "modp3072", 384),
    ("aes128", "sha1", "sha1", "modp2048", 256),
]


def prf(name, key, data):
    return hmac.new(key, data, getattr(hashlib, name)).digest()


def prf_plus(name, key, seed, octets):
    """T1 = prf(K, S | 0x01), T2 = prf(K, T1 | S | 0x02), …"""
    last = prf(name, key, seed + b"\x01")
    output = last
    count = 2
    while len(output) < octets:
        last = prf(name, key, last + seed + bytes([count]))
        output += last
        count += 1
    return output[:octets]


def pattern(start, octets):
    return bytes((start + index) % 256 for index in range(octets))


def case(encryption, integrity, name, group, secret_octets):
    size = hashlib.new(name).digest_size
    ni, nr = pattern(0x10, 32), pattern(0x60, 24)
    spi_i, spi_r = pattern(0xA0, 8), pattern(0xB0, 8)
    first, second, third = pattern(0x01, secret_octets), pattern(0x33, 32), pattern(0x77, 48)
    seed = prf(name, ni + nr, first)
    lengths = [size, INTEG[integrity], INTEG[integrity], ENCR[encryption], ENCR[encryption], size, size]
    stream = prf_plus(name, seed, ni + nr + spi_i + spi_r, sum(lengths))
    keys, at = {}, 0
    for key, octets in zip(["sk_d", "sk_ai", "sk_ar", "sk_ei", "sk_er", "sk_pi", "sk_pr"], lengths, strict=True):
        keys[key] = stream[at : at + octets].hex()
        at += octets
    sk_d = stream[:size]
    child = 2 * (ENCR[encryption] + INTEG[integrity])
    return {
        "encryption": encryption,
        "integrity": integrity,
        "prf": name,
        "group": group,
        "nonce_i": ni.hex(),
        "nonce_r": nr.hex(),
        "spi_i": spi_i.hex(),
        "spi_r": spi_r.hex(),
        "shared_secrets": [first.hex(), second.hex(), third.hex()],
        "skeyseed": seed.hex(),
        "keys": keys,
        "skeyseed_rekey": prf(name, sk_d, second + ni + nr).hex(),
        "skeyseed_rekey_two_exchanges": prf(name, sk_d, second + ni + nr + third).hex(),
        "keymat": prf_plus(name, sk_d, ni + nr, child).hex(),
        "keymat_pfs": prf_plus(name, sk_d, second + ni + nr, child).hex(),
        "keymat_two_exchanges": prf_plus(name, sk_d, second + ni + nr + third, child).hex(),
    }


if __name__ == "__main__":
    path = Path(__file__).with_name("keymat.json")
    path.write_text(json.dumps({"source": "make_keymat.py", "cases": [case(*row) for row in CASES]}, indent=1) + "\n")
