"""Prints tests/vectors/gcm.txt: NIST's GCM test vectors (CAVP, gcmEncryptExtIV) as the package `cryptography_vectors` brings them.

Taken are those that ESP can meet: 96-bit IV, 128-bit ICV, something to encrypt and something to authenticate. Two of each group.
"""

from collections import Counter
from pathlib import Path

import cryptography_vectors

SOURCE = Path(cryptography_vectors.__file__).parent / "ciphers" / "AES" / "GCM"
PER_GROUP = 2


def main() -> None:
    print("// Made by tests/vectors/generate_gcm.py: NIST CAVP, gcmEncryptExtIV.")
    print("// GCM(key, IV, AAD, plaintext, ciphertext, ICV)")
    for bits in (128, 192, 256):
        lengths: dict[str, int] = {}
        case: dict[str, str] = {}
        taken: Counter[tuple[int, ...]] = Counter()
        for line in (SOURCE / f"gcmEncryptExtIV{bits}.rsp").read_text().splitlines():
            name, equals, value = line.strip("[]").partition(" = ")
            if not equals:
                continue
            if line.startswith("["):
                lengths[name] = int(value)
                continue
            case[name] = value
            group = tuple(lengths.values())
            usable = lengths["IVlen"] == 96 and lengths["Taglen"] == 128 and lengths["PTlen"] > 0 and lengths["AADlen"] > 0
            if name == "Tag" and usable and taken[group] < PER_GROUP:
                taken[group] += 1
                columns = (f'"{case[column]}"' for column in ("Key", "IV", "AAD", "PT", "CT", "Tag"))
                print("GCM(" + ", ".join(columns) + ")")


if __name__ == "__main__":
    main()
