"""The keys of [[tunnel]] that name files. Whoever reads these files, has them opened ahead or may open them goes by this list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ipsec_dp.config.model import Tunnel

    Tree = dict[str, "Tree"]


class FileKey(NamedTuple):
    """`written`: the key below [[tunnel]]. `held`: where `model.Tunnel` has what it says. Arrays on the way are gone through."""

    written: str
    held: str
    secret: bool = True


# In the order in which the files of one tunnel are read: in another they would not be opened ahead.
FILE_KEYS: Final = (
    FileKey("manual_unsafe.key_in_file", "manual.key_in_file"),
    FileKey("manual_unsafe.key_out_file", "manual.key_out_file"),
    FileKey("auth.psk_file", "auth.psk_file"),
    FileKey("auth.private_key", "auth.private_key"),
    FileKey("auth.certificate", "auth.certificate", secret=False),
    FileKey("auth.ca", "auth.ca", secret=False),
    FileKey("auth.crl", "auth.crl", secret=False),
    FileKey("auth.ppk_file", "auth.ppks.file"),
    FileKey("auth.other_ppk.ppk_file", "auth.ppks.file"),
)


class FileKeys:
    """Some of them, and what a tunnel has there."""

    def __init__(self, keys: Iterable[FileKey]) -> None:
        keys = tuple(keys)
        self._held = _tree(key.held for key in keys)
        self._written = _tree(key.written for key in keys)

    def of(self, tunnel: Tunnel) -> Iterator[Path]:
        return _leaves(tunnel, self._held, _attribute)

    def within(self, row: object) -> Iterator[str]:
        """Of one [[tunnel]] as it is written; what is written otherwise than it should be is passed over."""
        return (name for name in _leaves(row, self._written, _entry) if isinstance(name, str))


def _tree(ways: Iterable[str]) -> Tree:
    tree: Tree = {}
    for way in ways:
        below = tree
        for key in way.split("."):
            below = below.setdefault(key, {})
    return tree


def _leaves(owner: Any, tree: Tree, get: Callable[[Any, str], Any]) -> Iterator[Any]:
    """What stands where the tree ends."""
    if owner is None:
        return
    if isinstance(owner, list | tuple):
        for each in owner:
            yield from _leaves(each, tree, get)
    elif not tree:
        yield owner
    else:
        for key, below in tree.items():
            yield from _leaves(get(owner, key), below, get)


def _attribute(owner: object, key: str) -> object:
    return getattr(owner, key, None)


def _entry(owner: object, key: str) -> object:
    return owner.get(key) if isinstance(owner, dict) else None


FILES: Final = FileKeys(FILE_KEYS)
SECRETS: Final = FileKeys(key for key in FILE_KEYS if key.secret)
PUBLIC: Final = FileKeys(key for key in FILE_KEYS if not key.secret)
