"""Every key of a tunnel that names a file is in the one list of them, so that nobody who goes by it forgets one."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from ipsec_dp.config import load, model, tables
from ipsec_dp.config.file_keys import FILE_KEYS, FILES, PUBLIC, SECRETS, FileKey, FileKeys
from ipsec_dp.config.value_types import FileName, KeyFile
from ipsec_dp.gateway.root_grants import files_of
from tests.doubles.served_root import write

FILE_TYPES = (FileName, KeyFile)


def paths_in(kind, before=""):
    """Where an object of a class of the model has paths, also in others that it holds."""
    for field in fields(kind):
        words = re.findall(r"\w+", str(field.type))
        held = [getattr(model, word) for word in words if is_dataclass(getattr(model, word, None))]
        if "Path" in words:
            yield before + field.name
        for each in held:
            yield from paths_in(each, f"{before}{field.name}.")


def file_names_in(table, before=""):
    """Keys of a table whose values are the names of files, also in tables below it."""
    for key, kind in get_type_hints(table, include_extras=True).items():
        yield from (f"{before}{key}{below}" for below in file_names_of(kind))


def file_names_of(kind):
    if kind in FILE_TYPES:
        yield ""
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from file_names_in(kind, ".")
    else:
        for each in get_args(kind):
            yield from file_names_of(each)


def test_each_path_that_the_model_of_a_tunnel_holds_is_in_the_list():
    assert {key.held for key in FILE_KEYS} == set(paths_in(model.Tunnel))


def test_each_file_that_a_table_of_a_tunnel_names_is_in_the_list():
    assert {key.written for key in FILE_KEYS} == set(file_names_in(tables.Tunnel))


def test_a_key_that_is_not_in_it_would_be_noticed():
    """Both look behind what may be missing, and into arrays."""
    assert {"auth.ca", "auth.ppks.file", "manual.key_in_file"} <= set(paths_in(model.Tunnel))
    assert {"auth.ca", "auth.other_ppk.ppk_file", "manual_unsafe.key_in_file"} <= set(file_names_in(tables.Tunnel))


CONFIG = """
[gateway]
name = "a"
[[tunnel]]
name = "psk"
local = "192.0.2.1"
remote = "192.0.2.2"
  [tunnel.auth]
  psk_file = "1"
  ppk_id = "a"
  ppk_file = "2"
  [[tunnel.auth.other_ppk]]
  ppk_id = "b"
  ppk_file = "3"
  [[tunnel.auth.other_ppk]]
  ppk_id = "c"
  ppk_file = "4"
[[tunnel]]
name = "hand"
local = "192.0.2.1"
remote = "192.0.2.3"
interface = "ipsec1"
encapsulation = "udp"
  [tunnel.manual_unsafe]
  suite = "aes128gcm16"
  spi_in = 0x1000
  spi_out = 0x1000
  key_in_file = "5"
  key_out_file = "6"
"""


def test_what_a_configuration_names_is_the_same_as_written_and_as_resolved(tmp_path):
    for number in range(1, 7):
        write(tmp_path / f"{number}", f"{number:040}" if number > 4 else f"0x{number:064}")
    path = write(tmp_path / "a.toml", CONFIG)
    rows = msgspec.toml.decode(path.read_bytes())["tunnel"]
    config = load(path)
    assert [[*FILES.within(row)] for row in rows] == [["1", "2", "3", "4"], ["5", "6"]]
    assert [[path.name for path in FILES.of(tunnel)] for tunnel in config.tunnels] == [["1", "2", "3", "4"], ["5", "6"]]
    assert files_of(config.tunnels) == {str(tmp_path / f"{number}") for number in range(1, 7)}


def test_what_is_secret_is_told_from_what_is_not():
    row = {"auth": {"private_key": "key", "certificate": "crt", "ca": ["1", "2"], "crl": ["3"]}}
    assert [[*some.within(row)] for some in (SECRETS, PUBLIC)] == [["key"], ["crt", "1", "2", "3"]]
    assert {key.written for key in FILE_KEYS if not key.secret} == {"auth.certificate", "auth.ca", "auth.crl"}


@pytest.mark.parametrize(
    "row",
    [
        None,
        "a",
        [],
        {},
        {"auth": "a"},
        {"auth": {"ca": 7, "psk_file": 1.5}},
        {"auth": {"other_ppk": {"ppk_file": False}, "ppk_file": {}}},
        {"auth": [[{}]], "manual_unsafe": None},
    ],
)
def test_what_is_written_otherwise_is_passed_over(row):
    assert [*FILES.within(row)] == []


def test_a_key_in_an_array_of_tables_comes_as_often_as_it_is_written():
    keys = FileKeys((FileKey("a.b.c", "x"),))
    assert [*keys.within({"a": {"b": [{"c": "1"}, {}, {"c": "2"}]}})] == ["1", "2"]
    assert [*keys.of(Path())] == []  # type: ignore[arg-type]
