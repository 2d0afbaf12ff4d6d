"""The messages of the hand-over as each version of their model has them: what they are made of, and an example of each.

`model-N.json` keeps both. `python -m tests.unit.upgrade_models` writes that of the model as it is now, as long as no version was
released with its number. After that a change makes another number, and another file beside.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import msgspec.inspect as inspection
from msgspec import Struct

from ipsec_dp.gateway.upgrade.messages import MESSAGES, MODEL, body_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent
EXAMPLES: Final = {int(path.stem.removeprefix("model-")): path for path in HERE.glob("model-*.json")}
PLAIN: Final[dict[type, Any]] = {
    inspection.IntType: 7,
    inspection.FloatType: 0.5,
    inspection.BoolType: True,
    inspection.StrType: "text",
    inspection.BytesType: b"octets",
    inspection.ByteArrayType: bytearray(b"octets"),
    inspection.NoneType: None,
}


def fields_in(of: Any) -> tuple[inspection.Field, ...]:
    return of.fields


def inside(of: Any) -> list[Any]:
    """The types that a type is made of, but for fields."""
    single = [getattr(of, name) for name in ("key_type", "value_type", "item_type", "type") if hasattr(of, name)]
    return [*single, *getattr(of, "item_types", ()), *getattr(of, "types", ())]


def text_of(of: Any) -> str:
    """A type in one line."""
    if isinstance(of, inspection.Metadata):
        return text_of(of.type)
    if isinstance(of, inspection.StructType | inspection.DataclassType):
        return of.cls.__name__
    if isinstance(of, inspection.LiteralType):
        return " | ".join(map(repr, of.values))
    name = type(of).__name__.removesuffix("Type").lower()
    return f"{name}[{', '.join(map(text_of, inside(of)))}]" if inside(of) else name


def shapes(of: Any, seen: set[type]) -> Iterator[str]:
    """A line for each field, in order, of every record in it."""
    if isinstance(of, inspection.StructType | inspection.DataclassType):
        if of.cls in seen:
            return
        seen.add(of.cls)
        ways = [way for way in ("array_like", "forbid_unknown_fields", "tag") if getattr(of, way, None)]
        yield " ".join([of.cls.__name__, *ways])
        for each in fields_in(of):
            yield f"    {each.encode_name}: {text_of(each.type)}{'' if each.required else ' or none'}"
        for each in fields_in(of):
            yield from shapes(each.type, seen)
    for each in inside(of):
        yield from shapes(each, seen)


def sample(of: Any) -> Any:
    """A value with everything in it."""
    if isinstance(of, inspection.Metadata):
        return sample(of.type)
    if isinstance(of, inspection.StructType | inspection.DataclassType):
        return of.cls(**{each.name: sample(each.type) for each in fields_in(of)})
    if isinstance(of, inspection.LiteralType):
        return of.values[0]
    if isinstance(of, inspection.UnionType):
        return next(sample(each) for each in of.types if not isinstance(each, inspection.NoneType))
    if isinstance(of, inspection.DictType):
        return {sample(of.key_type): sample(of.value_type)}
    if isinstance(of, inspection.ListType):
        return [sample(of.item_type)]
    if isinstance(of, inspection.VarTupleType):
        return (sample(of.item_type),)
    if isinstance(of, inspection.TupleType):
        return tuple(map(sample, of.item_types))
    return PLAIN[type(of)]


def samples() -> dict[str, Struct]:
    made = {kind.name: sample(inspection.type_info(of)) for kind, of in MESSAGES.items()}
    return made | {"OFFER": msgspec.structs.replace(made["OFFER"], model=MODEL)}


def shape() -> list[str]:
    seen: set[type] = set()
    return [line for of in MESSAGES.values() for line in shapes(inspection.type_info(of), seen)]


def now() -> str:
    """What `model-N.json` says of the model as it is."""
    messages = {name: body_of(message).hex() for name, message in samples().items()}
    return json.dumps({"shape": shape(), "messages": messages}, indent=1) + "\n"


def write() -> None:
    (HERE / f"model-{MODEL}.json").write_text(now())
