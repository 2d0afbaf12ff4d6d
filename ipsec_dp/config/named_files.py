"""The secrets that one configuration names, while it is looked at: each is read once, however many tunnels name it, and where a
helper opens them, several at once.

What stays of one is its fingerprint, its length and what there is to say of it: its octets are wiped at once, but for those of keys
that somebody is about to use, and says so (`KeptKeys`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from ipsec_dp.config import files
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.auth import PreSharedKey, SecretError, doubts
from ipsec_dp.util.opening import Ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ipsec_dp.config.files import WeighedKey

# Keys that name a secret, by the table below [[tunnel]], in the order in which they are read.
SECRETS: Final = {"manual_unsafe": ("key_in_file", "key_out_file"), "auth": ("psk_file", "private_key", "ppk_file")}


class WeighedSecret(NamedTuple):
    """Of the file of a PSK or PPK what two of them have in common only when they hold the same, octets of the secret, and what of
    its notation may be meant otherwise. `unread`: why it cannot be read, and what to do then; `wrong`: why it is no secret."""

    fingerprint: bytes = b""
    octets: int = 0
    remarks: tuple[tuple[str, str], ...] = ()
    unread: tuple[str, str] | None = None
    wrong: str | None = None
    empty: bool = False


class KeptKeys:
    """PSKs and PPKs as they were examined, until whoever makes peers of them takes them: of ten thousand files each is read once.
    Whoever has it wipes it."""

    def __init__(self) -> None:
        self._keys: dict[Path, PreSharedKey] = {}

    def keep(self, path: Path, key: PreSharedKey) -> None:
        """What a file holds now."""
        if (former := self._keys.pop(path, None)) is not None:
            former.wipe()
        self._keys[path] = key

    def take(self, path: Path) -> PreSharedKey | None:
        """Once, and it is the caller's. None: it is to be read."""
        return self._keys.pop(path, None)

    def wipe(self) -> None:
        """Those that nobody took."""
        while self._keys:
            self._keys.popitem()[1].wipe()


class NamedFiles:
    """Of one configuration in the directory `base`, which names its files relative to that. A context manager."""

    def __init__(self, base: Path, document: Mapping[str, Any], kept: KeptKeys | None = None) -> None:
        """`document`: all that it says."""
        self.base, self._kept = base, kept
        self._ahead = Ahead(_secrets_in(document, base), files.SECRET)
        self._keys: dict[tuple[Path, int], WeighedKey] = {}
        self._secrets: dict[Path, WeighedSecret] = {}
        self._private_keys: dict[Path, bytes] = {}

    def key(self, path: Path, octets: int) -> WeighedKey:
        """Of a file with a key of so many octets."""
        found = self._keys.get((path, octets))
        if found is None:
            found = self._keys[path, octets] = files.weigh_key(path, octets, self._ahead)
        return found

    def secret(self, path: Path) -> WeighedSecret:
        """Of a file with a PSK or a PPK, read as `up` reads it."""
        found = self._secrets.get(path)
        if found is None:
            found = self._secrets[path] = self._weighed(path)
        return found

    def _weighed(self, path: Path) -> WeighedSecret:
        try:
            content = files.read_secret(path, self._ahead)
        except BadValueError as error:
            return WeighedSecret(unread=(error.wrong, error.right))
        fingerprint = files.secret_fingerprint(content)
        try:
            key = PreSharedKey.from_octets(content)
            octets, remarks = len(key), tuple(doubts(content))
            if self._kept is None:
                key.wipe()
            else:
                self._kept.keep(path, key)
        except SecretError as error:
            return WeighedSecret(fingerprint, wrong=str(error), empty=not content or bytes(content).isspace())
        finally:
            files.wipe(content)
        return WeighedSecret(fingerprint, octets, remarks)

    def private_key(self, path: Path) -> bytes:
        """The fingerprint of its file. Raises BadValueError as `read_secret` does."""
        found = self._private_keys.get(path)
        if found is None:
            found = self._private_keys[path] = files.weigh_secret(path, self._ahead)[1]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.close()


def _secrets_in(document: Mapping[str, Any], base: Path) -> Iterator[str]:
    """Absolute paths, in the order in which they are read; of what is written as it should be."""
    rows = document.get("tunnel")
    for row in rows if isinstance(rows, list) else ():
        for table, keys in SECRETS.items():
            given = row.get(table) if isinstance(row, dict) else None
            names = [given.get(key) for key in keys] if isinstance(given, dict) else []
            for name in names:
                if isinstance(name, str):
                    yield os.path.abspath(os.path.join(base, name))
