"""The files that one configuration names, while it is looked at: each is read once, however many tunnels name it, and where a
helper opens them, several at once.

What stays of a secret is its fingerprint, its length, the public half of a private key and what there is to say of it: its octets
are wiped at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

from ipsec_dp.config import files
from ipsec_dp.config.file_keys import PUBLIC, SECRETS
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.auth import PreSharedKey, SecretError, doubts
from ipsec_dp.ike.certificates import MAX_FILE, CertificateError, private_key_of, public_octets
from ipsec_dp.util.opening import Ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ipsec_dp.config.file_keys import FileKeys
    from ipsec_dp.config.files import WeighedKey

T = TypeVar("T")


class WeighedSecret(NamedTuple):
    """Of the file of a PSK or PPK what two of them have in common only when they hold the same, octets of the secret, and what of
    its notation may be meant otherwise. `unread`: why it cannot be read, and what to do then; `wrong`: why it is no secret."""

    fingerprint: bytes = b""
    octets: int = 0
    remarks: tuple[tuple[str, str], ...] = ()
    unread: tuple[str, str] | None = None
    wrong: str | None = None
    empty: bool = False


class WeighedPrivateKey(NamedTuple):
    """Of a private key's file what two of them have in common only when they hold the same, and the key's public half
    (SubjectPublicKeyInfo). `unread`, `wrong`: as of `PublicFiles`."""

    fingerprint: bytes = b""
    public: bytes = b""
    unread: tuple[tuple[str, str], ...] = ()
    wrong: tuple[str, ...] = ()


class PublicFiles(NamedTuple, Generic[T]):
    """Of the files of one key what was made of each, and what two such lists have in common only when they hold the same. `unread`:
    why one cannot be read, and what to do then; `wrong`: why one does not hold what it should."""

    fingerprint: bytes
    held: tuple[T, ...]
    unread: tuple[tuple[str, str], ...]
    wrong: tuple[str, ...]


class NamedFiles:
    """Of one configuration in the directory `base`, which names its files relative to that. A context manager."""

    def __init__(self, base: Path, document: Mapping[str, Any]) -> None:
        """`document`: all that it says."""
        self.base = base
        self._secrets_ahead = Ahead(_paths(document, base, SECRETS))
        self._public_ahead = Ahead(_paths(document, base, PUBLIC))
        self._keys: dict[tuple[Path, int], WeighedKey] = {}
        self._secrets: dict[Path, WeighedSecret] = {}
        self._private_keys: dict[Path, WeighedPrivateKey] = {}
        self._public: dict[tuple[str, tuple[Path, ...]], PublicFiles[Any]] = {}
        self._held: dict[tuple[str, Path], Any] = {}

    def key(self, path: Path, octets: int) -> WeighedKey:
        """Of a file with a key of so many octets."""
        found = self._keys.get((path, octets))
        if found is None:
            found = self._keys[path, octets] = files.weigh_key(path, octets, self._secrets_ahead)
        return found

    def secret(self, path: Path) -> WeighedSecret:
        """Of a file with a PSK or a PPK, read as `up` reads it."""
        found = self._secrets.get(path)
        if found is None:
            found = self._secrets[path] = self._weighed(path)
        return found

    def _weighed(self, path: Path) -> WeighedSecret:
        try:
            content = files.read_secret(path, self._secrets_ahead)
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

    def private_key(self, path: Path) -> WeighedPrivateKey:
        """Of a file with a private key."""
        found = self._private_keys.get(path)
        if found is None:
            found = self._private_keys[path] = self._weighed_private_key(path)
        return found

    def _weighed_private_key(self, path: Path) -> WeighedPrivateKey:
        try:
            content = files.read_secret(path, self._secrets_ahead)
        except BadValueError as error:
            return WeighedPrivateKey(unread=((error.wrong, error.right),))
        fingerprint = files.secret_fingerprint(content)
        try:
            return WeighedPrivateKey(fingerprint, public_octets(private_key_of(content, path).public_key()))
        except SecretError as error:
            return WeighedPrivateKey(fingerprint, wrong=(str(error),))
        finally:
            files.wipe(content)

    def public(self, kind: str, paths: tuple[Path, ...], make: Callable[[bytes, Path], T]) -> PublicFiles[T]:
        """Of files that need no secrecy. `make`, the same for all of one kind, takes what one holds; it may raise
        CertificateError."""
        found = self._public.get((kind, paths))
        if found is None:
            found = self._public[kind, paths] = self._read(kind, paths, make)
        return found

    def _read(self, kind: str, paths: tuple[Path, ...], make: Callable[[bytes, Path], T]) -> PublicFiles[T]:
        fingerprint = files.PublicFingerprint()
        held: list[T] = []
        unread: list[tuple[str, str]] = []
        wrong: list[str] = []
        for path in paths:
            try:
                content = files.read_public(path, MAX_FILE + 1, self._public_ahead)
                fingerprint.add(content)
                if (kind, path) not in self._held:  # in another list, too
                    self._held[kind, path] = make(content, path)
                held.append(self._held[kind, path])
            except BadValueError as error:
                unread.append((error.wrong, error.right))
            except CertificateError as error:
                wrong.append(str(error))
        return PublicFiles(fingerprint.octets(), tuple(held), tuple(unread), tuple(wrong))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._secrets_ahead.close()
        self._public_ahead.close()


def _paths(document: Mapping[str, Any], base: Path, keys: FileKeys) -> Iterator[str]:
    """Absolute paths, in the order in which they are read."""
    rows = document.get("tunnel")
    for row in rows if isinstance(rows, list) else ():
        for name in keys.within(row):
            yield os.path.abspath(os.path.join(base, name))
