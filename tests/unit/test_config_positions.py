"""Each finding has line and column: of the key that it is about, or of the table in which one is missing."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.config import examine, located
from ipsec_dp.config.positions import positioned
from ipsec_dp.errors import Finding

TEXT = (
    """# a comment with [brackets] and "quotes
[gateway]
  name = "x#y"   # "not a key = 1"
[[tunnel]]
name = "to-b"
remote = [ "192.0.2.2",  # the first
  'gw.example', ]
  [tunnel.ike]
  liveness = { interval = "10s", retries = 5 }
  [[tunnel.proxy_id]]
  local = "10.1.0.0/24"
  [[tunnel.proxy_id]]
  remote = "10.2.0.0/24"
[[tunnel]]
"name" = '''to-c'''
ike.lifetime = """
    '"""'
    """
[tunnel.esp]
replay_window = 7 \\" """
    '"""'
    """
[[policy]]
since = 1979-05-27 07:32:00
[[policy]]
action = "discard"
"""
)


def at(where: str, key: str = "", text: str = TEXT) -> tuple[int | None, int | None]:
    (found,) = positioned([Finding("error", "x.toml", where, key, "wrong", "right")], text, tomllib.loads(text))
    return found.line, found.column


@pytest.mark.parametrize(
    ("where", "key", "place"),
    [
        ("gateway", "", (2, 1)),
        ("gateway", "name", (3, 3)),
        ("gateway", "workers", (2, 1)),
        ('tunnel "to-b"', "", (4, 1)),
        ('tunnel "to-b"', "remote", (6, 1)),
        ('tunnel "to-b"', "ike", (8, 3)),
        ('tunnel "to-b"', "ike.liveness", (9, 3)),
        ('tunnel "to-b"', "ike.liveness.retries", (9, 34)),
        ('tunnel "to-b"', "proxy_id #1.local", (11, 3)),
        ('tunnel "to-b"', "proxy_id #2.remote", (13, 3)),
        ('tunnel "to-b"', "proxy_id #2.local", (12, 3)),
        ('tunnel "to-b"', "auth", (4, 1)),
        ('tunnel "to-c"', "name", (15, 1)),
        ('tunnel "to-c"', "ike.lifetime", (16, 1)),
        ('tunnel "to-c"', "esp.replay_window", (14, 1)),
        ("tunnel #2", "remote", (14, 1)),
        ("policy #1", "since", (20, 1)),
        ("policy #2", "action", (22, 1)),
        ("", "policy", (19, 1)),
        ("", "", (1, 1)),
        ("nobody", "knows", (1, 1)),
    ],
)
def test_where_tables_and_keys_begin(where, key, place):
    assert at(where, key) == place


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"[gateway]\nname = \n", (2, 8)),
        (b"[gateway\n", (1, 9)),
        (b'name = "x', (1, 10)),
        (b'[gateway]\nname = "\xff"', (2, 9)),
        (b"\xef\xbb\xbf[gateway]\nworkers = 0\n", (2, 1)),
    ],
    ids=["a value is missing", "a bracket", "the end", "no UTF-8", "a byte order mark"],
)
def test_what_cannot_be_read_has_its_place_too(tmp_path, content, place):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    config, findings = examine(path)
    assert config is None
    assert (findings[0].line, findings[0].column) == place
    assert str(findings[0]).startswith(f"{path}:{place[0]}:{place[1]}: ")


def test_what_others_find_is_placed_as_well(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(TEXT)
    (found,) = located([Finding("warning", str(path), 'tunnel "to-b"', "interface", "wrong", "right")], path)
    assert (found.line, found.column) == (4, 1)
    (absent,) = located([Finding("error", "gone.toml", "", "", "wrong", "right")], tmp_path / "gone.toml")
    assert (absent.line, str(absent)) == (None, "gone.toml: wrong; right")


KEYS = st.text("abcXYZ_-09", min_size=1, max_size=5)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text(max_size=6).filter(lambda text: text.isprintable()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case list():
            return "[ " + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f'"{key}" = {toml(each)}' for key, each in value.items()) + "}"
    return str(value)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=4))
def test_every_key_of_any_file_is_found_where_it_was_written(document):
    lines, places = [], {}
    for table, pairs in document.items():
        lines.append(f"[{table}]")
        for key, value in pairs.items():
            lines.append(f"{key} = {toml(value)}")
            places[table, key] = len(lines)
    text = "\n".join(lines)
    assert tomllib.loads(text) == document
    for (table, key), line in places.items():
        assert at(table, key, text) == (line, 1)
