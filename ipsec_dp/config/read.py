"""From TOML text to tables, reporting every unknown key and every value of the wrong type at once.

msgspec stops at the first thing it cannot convert. So a whole table is tried first, and only one that fails is taken apart, key by
key, down through its sub-tables.
"""

from __future__ import annotations

import tomllib
import types
import typing
from typing import Any, TypeVar

import msgspec

from ipsec_dp.config import tables
from ipsec_dp.config.findings import Findings, Place, suggest

TableType = TypeVar("TableType", bound=tables.Table)

_TOML_WORDS = {str: "a string", bool: "a boolean", int: "an integer", float: "a float", dict: "a table", list: "an array"}


def toml_word(value: object) -> str:
    return _TOML_WORDS.get(type(value), "a date or time")


def parse_toml(text: str, findings: Findings) -> dict[str, Any] | None:
    """The file's tables, None when it is not TOML (the finding names the line)."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        message = "Arrays or tables are nested too deeply"
    except ValueError as error:  # TOMLDecodeError, and a number of thousands of digits
        message = str(error)
    findings.at("").error("", f"not TOML: {message[:1].lower()}{message[1:]}", "see https://toml.io for the syntax")
    return None


def _members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, bare of what `Annotated` adds."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(annotation.__origin__)
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return tuple(member for part in typing.get_args(annotation) for member in _members(part))
    return (annotation,)


def _sub_table(annotation: Any) -> type[tables.Table] | None:
    return next((m for m in _members(annotation) if isinstance(m, type) and issubclass(m, tables.Table)), None)


def _array_of_tables(annotation: Any) -> type[tables.Table] | None:
    for member in _members(annotation):
        if typing.get_origin(member) is tuple:
            return _sub_table(typing.get_args(member)[0])
    return None


def _examples(annotation: Any) -> list[Any]:
    """Those that `Annotated` gives a type or an alternative of it."""
    metas = [meta for meta in getattr(annotation, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    found = [example for meta in metas for example in meta.examples or ()]
    if not found and typing.get_origin(annotation) is not typing.Annotated:
        found = [example for part in typing.get_args(annotation) for example in _examples(part)]
    return found


def _expected(annotation: Any) -> str:
    """What a key takes, said from its type: the words of a choice, else the type's name and an example."""
    phrases = []
    choices: list[Any] = []
    for member in _members(annotation):
        if typing.get_origin(member) is typing.Literal:
            choices.extend(typing.get_args(member))
        elif typing.get_origin(member) is tuple:
            inner = typing.get_args(member)[0]
            phrases.append(f"an array, each {_expected(inner)}")
        elif member is not types.NoneType:
            phrases.append(_TOML_WORDS[member])
    if choices:
        phrases.insert(0, " or ".join(f'"{choice}"' for choice in choices))
    examples = _examples(annotation)
    text = " or ".join(phrases)
    if examples:
        return f"{text}, e.g. {examples[0]!r}".replace("'", '"')
    return text


def read_table(cls: type[TableType], table: object, place: Place) -> TableType | None:
    """One table, None when it is none. What cannot be read in it is reported, and becomes its default, or None without one."""
    try:
        return msgspec.convert(table, cls)
    except msgspec.ValidationError:
        pass
    if not isinstance(table, dict):
        place.error("", f"is {toml_word(table)}, not a table", "see docs/configuration.md")
        return None
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            place.error(key, "unknown key", suggest(key, fields))
            continue
        made = _read_value(fields[key].type, value, key, place)
        if made is not msgspec.UNSET:
            values[fields[key].name] = made
    for key, field in fields.items():
        if field.required and key not in table:
            place.error(key, "is missing", f"write {_expected(field.type)}")
        if field.required:
            values.setdefault(field.name, None)
    return cls(**values)


def _read_value(annotation: Any, value: object, key: str, place: Place) -> object:
    """One key's value, UNSET when it cannot be read."""
    sub = _sub_table(annotation)
    if sub is not None:
        made = read_table(sub, value, place.below(key))
        return msgspec.UNSET if made is None else made
    element = _array_of_tables(annotation)
    if element is not None:
        return _read_array(element, value, key, place)
    try:
        return msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        shown = f'"{value}"' if isinstance(value, str) else toml_word(value)
        place.error(key, f"{shown} is not taken here", f"write {_expected(annotation)}")
        return msgspec.UNSET


def _read_array(element: type[tables.Table], value: object, key: str, place: Place) -> object:
    if not isinstance(value, list):
        place.error(key, f"is {toml_word(value)}, not an array of tables", f"write [[…{key}]]")
        return msgspec.UNSET
    made = (read_table(element, row, place.below(f"{key} #{number}")) for number, row in enumerate(value, 1))
    return tuple(row for row in made if row is not None)


def array_of(document: dict[str, Any], key: str, findings: Findings) -> list[object]:
    """The rows of [[key]] in the file, none when it is absent or no array."""
    rows = document.get(key, [])
    if isinstance(rows, list):
        return rows
    findings.at("").error(key, f"is {toml_word(rows)}, not an array of tables", f"write [[{key}]] with two brackets")
    return []
