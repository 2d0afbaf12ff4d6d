"""A report has no secret in it: what a configuration says without them, and each that it names struck out of the rest.

The first is the wall: of a configuration only keys that there are go along, with values that they may have. The second is for what
nobody foresaw: a text that quotes what stands in a file.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ipsec_dp.cli.options import loading
from ipsec_dp.config import file_keys, tables
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

REMOVED: Final = "(removed)"
STRUCK: Final = b"(secret)"
FILE_KEYS: Final = frozenset(key.written.rpartition(".")[2] for key in file_keys.FILE_KEYS)
SECRET_KEYS: Final = frozenset(key.written.rpartition(".")[2] for key in file_keys.FILE_KEYS if key.secret)
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,23}")  # of a key that means nothing here, and may be shown all the same
SHORTEST: Final = 4  # octets of a form that is looked for: anything shorter is everywhere
SHORTEST_TAKEN: Final = 6  # characters of a text that was taken out of a configuration, to be looked for elsewhere too
LONG_TAKEN: Final = 12  # of one that looks like a word
SECRET_FILE_MOST: Final = 64 << 10
NAME_MOST: Final = 255


class Document:
    """A configuration as TOML has it, without its secrets. `secrets`: what was taken out of it, and what lies in the files that it
    names."""

    def __init__(self, document: dict[str, Any], directory: Path) -> None:
        self._directory = directory
        self.secrets: set[bytes] = set()
        self.told = self._table(tables.File, document)

    def _table(self, kind: type[msgspec.Struct] | None, table: dict[str, Any]) -> dict[str, Any]:
        fields = {} if kind is None else {field.encode_name: field for field in msgspec.structs.fields(kind)}
        made: dict[str, Any] = {}
        for key, value in table.items():
            if key in fields:
                made[key] = self._value(key, fields[key].type, value)
            else:
                self._take(key)
                made[key if NAME.fullmatch(key) else f"{REMOVED} {len(made)}"] = self._taken(value)
        return made

    def _value(self, key: str, annotation: Any, value: Any) -> Any:
        below = _table_of(annotation)
        if below is not None and isinstance(value, dict):
            return self._table(below, value)
        if below is not None and isinstance(value, list):
            return [self._table(below, row) if isinstance(row, dict) else self._taken(row) for row in value]
        if key in FILE_KEYS:
            return [self._file(key, each) for each in value] if isinstance(value, list) else self._file(key, value)
        try:
            msgspec.convert(value, annotation)
        except msgspec.ValidationError:
            return self._taken(value)
        return value

    def _file(self, key: str, value: Any) -> Any:
        """The name of a file that there is. What names none may be a secret that stands in the place of its file."""
        if not isinstance(value, str) or len(value) > NAME_MOST or "\0" in value or "\n" in value:
            return self._taken(value)
        path = self._directory / value
        try:
            if not path.is_file():
                return self._taken(value)
            if key in SECRET_KEYS:
                with path.open("rb") as file:
                    self.secrets.add(file.read(SECRET_FILE_MOST))
        except OSError:
            return f"{value} (cannot be read)" if path.parent.is_dir() and path.is_symlink() else self._taken(value)
        return value

    def _taken(self, value: Any) -> str:
        for text in _texts(value):
            self._take(text)
        return REMOVED

    def _take(self, text: str) -> None:
        """What is too short, or a word, stands in many places where it is none."""
        if (len(text) >= SHORTEST_TAKEN and not NAME.fullmatch(text.replace("-", "_"))) or len(text) >= LONG_TAKEN:
            self.secrets.add(text.encode(errors="surrogatepass"))


def _table_of(annotation: Any) -> type[msgspec.Struct] | None:
    """The table that a key holds, or of which it holds several."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _table_of(part)) is not None), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


# ---- every form in which a secret may stand somewhere ----------------------------------------------------------------------------


def _contents(secret: bytes) -> Iterator[bytes]:
    """A secret as it lies in its file, and what that means: lines of PEM, hex and base64 as the octets that they write."""
    text = secret.strip()
    yield text
    for line in text.splitlines():
        if not line.startswith(b"-----"):
            yield line.strip()
    digits = b"".join(text.removeprefix(b"0x").split())
    if re.fullmatch(rb"(?:[0-9A-Fa-f]{2})+", digits):
        yield bytes.fromhex(digits.decode())
    body = b"".join(line for line in text.removeprefix(b"0s").splitlines() if not line.startswith(b"-----"))
    if re.fullmatch(rb"[A-Za-z0-9+/]{8,}={0,2}", body):
        yield base64.b64decode(body + b"=" * (-len(body) % 4))


def forms_of(secret: bytes) -> set[bytes]:
    """In clear, as JSON and our own texts escape it, in hex, and in base64 wherever in a group it begins."""
    found: set[bytes] = set()
    for content in _contents(secret):
        text = content.decode(errors="backslashreplace")
        found |= {content, shown(text, LINE).encode(errors="backslashreplace"), repr(content)[2:-1].encode()}
        found |= {json.dumps(text)[1:-1].encode(), json.dumps(shown(text, LINE))[1:-1].encode()}
        found |= {content.hex().encode(), content.hex().upper().encode(), content.hex(":").encode(), content.hex(" ").encode()}
        for before in range(3):
            for alphabet in (b"+/", b"-_"):
                whole = base64.b64encode(bytes(before) + content, alphabet).rstrip(b"=")
                found.add(whole[(0, 2, 3)[before] : len(whole) - (0 if (before + len(content)) % 3 == 0 else 1)])
    return {form for form in found if len(form) >= SHORTEST}


def struck(data: bytes, forms: Iterable[bytes]) -> bytes:
    """The same octets with STRUCK in the place of each of these; of several that begin at one place the longest."""
    by_begin: dict[int, list[bytes]] = {}
    for form in sorted(set(forms), key=len, reverse=True):
        by_begin.setdefault(int.from_bytes(form[:SHORTEST], "little"), []).append(form)
    if not by_begin or len(data) < SHORTEST:
        return data
    with loading():
        import numpy as np
    octets = np.frombuffer(data, np.uint8)
    begins = np.zeros(len(octets) - SHORTEST + 1, np.uint32)
    for at in range(SHORTEST):
        begins |= octets[at : at + len(begins)].astype(np.uint32) << np.uint32(8 * at)
    places = np.flatnonzero(np.isin(begins, np.array(list(by_begin), np.uint32)))
    pieces: list[bytes] = []
    done = 0
    for place in places.tolist():
        found = [] if place < done else [each for each in by_begin[int(begins[place])] if data.startswith(each, place)]
        if found:
            pieces += [data[done:place], STRUCK]
            done = place + len(found[0])
    return b"".join((*pieces, data[done:]))
