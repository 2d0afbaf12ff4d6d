"""The secrets that one configuration names, while it is looked at: each is read once, however many tunnels name it, and where a
helper opens them, several at once.

What stays of one is its fingerprint, its length and what there is to say of it: its octets are wiped at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ipsec_dp.config import files
from ipsec_dp.config.file_keys import SECRETS
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.auth import PreSharedKey, SecretError, doubts
from ipsec_dp.util.opening import Ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ipsec_dp.config.file_keys import FileKeys
    from ipsec_dp.config.files import WeighedKey


class WeighedSecret(NamedTuple):
    """Of the file of a PSK or PPK what two of them have in common only when they hold the same, octets of the secret, and what of
    its notation may be meant otherwise. `unread`: why it cannot be read, and what to do then; `wrong`: why it is no secret."""

    fingerprint: bytes = b""
    octets: int = 0
    remarks: tuple[tuple[str, str], ...] = ()
    unread: tuple[str, str] | None = None
    wrong: str | None = None
    empty: bool = False


class NamedFiles:
    """Of one configuration in the directory `base`, which names its files relative to that. A context manager."""

    def __init__(self, base: Path, document: Mapping[str, Any]) -> None:
        """`document`: all that it says."""
        self.base = base
        self._ahead = Ahead(_paths(document, base, SECRETS))
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
            key.wipe()
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


def _paths(document: Mapping[str, Any], base: Path, keys: FileKeys) -> Iterator[str]:
    """Absolute paths, in the order in which they are read."""
    rows = document.get("tunnel")
    for row in rows if isinstance(rows, list) else ():
        for name in keys.within(row):
            yield os.path.abspath(os.path.join(base, name))
