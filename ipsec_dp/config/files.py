"""Files that the configuration names, and the keys in them.

A secret is read only from a regular file that nobody but its owner can read, and that we or root own; it is opened without
following a symbolic link, checked on the open descriptor, and bounded in size.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from ipsec_dp.errors import BadValueError
from ipsec_dp.util.opening import open_to_read
from ipsec_dp.util.service_user import service_ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipsec_dp.config.model import ManualSa
    from ipsec_dp.util.opening import Ahead, OpenedFile

SECRET_OCTETS_MAX = 64 * 1024
SECRET = os.O_NOFOLLOW  # how one is opened
_HEX = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}
_SPACE = frozenset(b" \t\r\n")

# Fingerprints compare keys of one run without keeping them; under a random key they say nothing to anybody else.
_fingerprint_key = secrets.token_bytes(32)


def fingerprint_key() -> bytes:
    """The key of this run's fingerprints, for a process that is to make the same ones."""
    return _fingerprint_key


def share_fingerprints(key: bytes) -> None:
    """Makes the fingerprints of the process that has this key (32 octets)."""
    global _fingerprint_key  # noqa: PLW0603 - one for each process
    _fingerprint_key = key


def wipe(buffer: bytearray) -> None:
    """Overwrites a buffer in place. Best effort: Python may have made copies elsewhere."""
    buffer[:] = bytes(len(buffer))


@contextlib.contextmanager
def _opened(path: Path, flags: int, ahead: Ahead | None = None) -> Iterator[OpenedFile]:
    """A descriptor of the file, or BadValueError saying why there is none."""
    try:
        file = open_to_read(path, flags, ahead)
    except FileNotFoundError:
        raise BadValueError(f"no such file: {path}", "create it, or name one that exists (relative to this file)") from None
    except ValueError:
        raise BadValueError(f"{str(path)!r} is no file name", "name a file, relative to this one") from None
    except OSError as error:
        if flags & os.O_NOFOLLOW and error.errno == errno.ELOOP and os.path.islink(path):
            raise BadValueError(f"{path} is a symbolic link", "name the file itself") from None
        right = "run as root, or name a readable file" if isinstance(error, PermissionError) else "name a readable file"
        raise BadValueError(f"cannot read {path}: {error.strerror}", right) from None
    try:
        if not stat.S_ISREG(os.fstat(file.descriptor).st_mode):
            raise BadValueError(f"{path} is not a regular file", "name a file")
        yield file
    finally:
        os.close(file.descriptor)


def read_public(path: Path, most: int, ahead: Ahead | None = None) -> bytes:
    """The first `most` octets of a file that needs no secrecy. `ahead` as of `open_to_read`. Raises BadValueError."""
    with _opened(path, 0, ahead) as opened, open(opened.descriptor, "rb", closefd=False) as file:
        return file.read(most)


def _ours(uid: int) -> bool:
    """Whether a file of this user is one of a gateway's. Only for another's is the host's list of users read."""
    return uid in (0, os.geteuid()) or uid in service_ids()


def read_secret(path: Path, ahead: Ahead | None = None) -> bytearray:
    """The octets of a secret file, which the caller wipes. Raises BadValueError when missing, open to others, or too large.
    `ahead`: one of others that are read now, by SECRET."""
    with _opened(path, SECRET, ahead) as file:
        status = os.fstat(file.descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if not file.guarded and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadValueError(f"{path} has mode {mode:04o}: not only its owner can use it", f"chmod 600 {path}")
        if not file.guarded and not _ours(status.st_uid):
            raise BadValueError(f"{path} belongs to user {status.st_uid}", f"chown {os.geteuid()} {path}")
        if status.st_size > SECRET_OCTETS_MAX:
            raise BadValueError(f"{path} holds {status.st_size} octets", f"a secret has {SECRET_OCTETS_MAX} at the most")
        buffer = bytearray(status.st_size)
        octets = os.readv(file.descriptor, [buffer])
        try:
            return buffer[:octets]
        finally:
            wipe(buffer)


def read_key(path: Path, octets: int, ahead: Ahead | None = None) -> bytearray:
    """A key of exactly `octets` octets from hex text (white space ignored), which the caller wipes. `ahead` and BadValueError as of
    `read_secret`."""
    text = read_secret(path, ahead)
    try:
        return _key_of(text, path, octets)
    finally:
        wipe(text)


def _key_of(text: bytearray, path: Path, octets: int) -> bytearray:
    key = bytearray(octets)
    digits = 0
    try:
        for character in text:
            if character in _SPACE:
                continue
            if character not in _HEX:
                raise BadValueError(f"{path} is not hex", f"write {2 * octets} hex digits")
            if digits < 2 * octets:
                key[digits // 2] |= _HEX[character] << (4 if digits % 2 == 0 else 0)
            digits += 1
        if digits != 2 * octets:
            raise BadValueError(
                f"{path} holds {digits} hex digits, the suite takes {2 * octets}",
                f"{octets} octets: encryption key, salt (AEAD, 4 octets), integrity key, in this order",
            )
    except BadValueError:
        wipe(key)
        raise
    return key


class WeighedKey(NamedTuple):
    """Of a key file what two of them have in common only when they are the same (`file`, empty when it cannot be read), or when
    their keys are (`key`); and what is wrong with it, and would be right."""

    file: bytes = b""
    key: bytes = b""
    wrong: tuple[str, str] | None = None


def weigh_key(path: Path, octets: int, ahead: Ahead | None = None) -> WeighedKey:
    """What a file of a key of so many octets holds, of one reading, as `read_key` takes it. `ahead` as of `read_secret`."""
    file = b""
    try:
        text = read_secret(path, ahead)
        try:
            file = secret_fingerprint(text)
            key = _key_of(text, path, octets)
        finally:
            wipe(text)
    except BadValueError as error:
        return WeighedKey(file, wrong=(error.wrong, error.right))
    try:
        return WeighedKey(file, secret_fingerprint(key))
    finally:
        wipe(key)


class PublicFingerprint:
    """What two lists of files that need no secrecy have in common only when they hold the same."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(key=_fingerprint_key, digest_size=32)

    def add(self, content: bytes) -> None:
        """What the next file of the list holds."""
        self._digest.update(len(content).to_bytes(8, "big"))
        self._digest.update(content)

    def octets(self) -> bytes:
        return self._digest.digest()


def secret_fingerprint(secret: bytearray) -> bytes:
    """What the contents of two secret files have in common only when they are the same."""
    return hashlib.blake2b(secret, key=_fingerprint_key, digest_size=32).digest()


@dataclass(slots=True)
class ManualKeys:
    """KEYMAT of both directions (encryption key, salt, integrity key). A context manager: wiped when left."""

    inbound: bytearray = field(repr=False)
    outbound: bytearray = field(repr=False)

    def wipe(self) -> None:
        wipe(self.inbound)
        wipe(self.outbound)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()


def load_manual_keys(manual: ManualSa, ahead: Ahead | None = None) -> ManualKeys:
    """Both keys of a manual tunnel, checked anew. `ahead` as of `read_secret`. Raises BadValueError."""
    inbound = read_key(manual.key_in_file, manual.suite.keymat_octets, ahead)
    try:
        return ManualKeys(inbound, read_key(manual.key_out_file, manual.suite.keymat_octets, ahead))
    except BadValueError:
        wipe(inbound)
        raise
