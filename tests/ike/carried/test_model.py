"""Every field of the model says whether it may leave the host, and no part of it shows what it holds."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import msgspec
import pytest
from rich.pretty import pretty_repr

import ipsec_dp.ike.carried
from ipsec_dp.ike.carried import model, whole
from ipsec_dp.ike.carried.part import CarriedPart, Value
from ipsec_dp.util.leaves import LEAVES, NEVER, SEALED

ROOM = Path(ipsec_dp.ike.carried.__file__).parent
PARTS = sorted(
    {one for module in (model, whole) for one in vars(module).values() if isinstance(one, type)}, key=lambda one: one.__name__
)
PARTS = [one for one in PARTS if issubclass(one, CarriedPart) and one is not CarriedPart]
SECRET = b"a key that nobody may see"


def marks(part):
    """Of each field: where it may go; None: it does not say."""
    found = {}
    for name, hint in get_type_hints(part, include_extras=True).items():
        extras = (
            [each.extra or {} for each in get_args(hint)[1:] if isinstance(each, msgspec.Meta)]
            if get_origin(hint) is Annotated
            else []
        )
        found[name] = next((extra[LEAVES] for extra in extras if LEAVES in extra), None)
    return found


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_field_says_whether_it_may_leave_the_host(part):
    found = marks(part)
    assert found.keys() == set(part.__struct_fields__)
    assert set(found.values()) <= {NEVER, SEALED}, "a field that does not say"


def test_nothing_may_leave_in_the_clear():
    assert {mark for part in PARTS for mark in marks(part).values()} == {NEVER, SEALED}


def test_a_field_without_a_mark_is_found():
    class Unmarked(CarriedPart, frozen=True, kw_only=True):
        field: int = 0

    assert marks(Unmarked) == {"field": None}


def holds_octets(hint):
    return hint is bytearray or any(holds_octets(each) for each in get_args(hint))


def test_every_key_can_be_wiped_and_stands_in_no_small_value():
    """`CarriedPart.wipe` reaches octets that can be overwritten; a `Value` has none."""
    values = [one for one in vars(model).values() if isinstance(one, type) and issubclass(one, Value)]
    assert not [one for one in values if any(map(holds_octets, get_type_hints(one).values()))]
    assert {"sk_d", "sk_ei", "sk_er"} <= {name for name, hint in get_type_hints(model.KeysPart).items() if holds_octets(hint)}


def keys():
    return model.KeysPart(**{name: bytearray(SECRET) for name in model.KeysPart.__struct_fields__})


@pytest.mark.parametrize("text", [repr, str, pretty_repr, "{!r}".format], ids=["repr", "str", "rich", "format"])
def test_no_part_shows_what_it_holds(text):
    half = model.HalfPart(group="x25519", private=bytearray(SECRET))
    for part in (keys(), half, model.ChildDeletePart(spi=1, child=2)):
        assert "key" not in text(part)
        assert text(part) == f"<{type(part).__name__}>" or text is pretty_repr


def test_wiping_overwrites_every_key_in_it():
    held = keys()
    half = model.HalfPart(group="x25519", private=bytearray(SECRET))
    series = model.OurSeriesPart(
        further=[],
        secrets=[bytearray(SECRET)],
        answer=model.ClearPart(header=b"", exchange=36, flags=0, message_id=1, first=0, octets=bytearray(SECRET)),
        link=b"",
        key=half,
    )
    for part in (held, series):
        part.wipe()
    assert not any(any(getattr(held, name)) for name in held.__struct_fields__)
    assert not any(map(any, (series.secrets[0], series.answer.octets, half.private)))


def test_the_clear_form_touches_no_file_and_no_log():
    """Nothing here opens anything, or says anything to anybody."""
    for path in sorted(ROOM.rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert names.isdisjoint({"open", "print"}), path.name
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert imported.isdisjoint({"pathlib", "io", "os", "logging", "tempfile", "pickle", "json", "sys"}), path.name
