"""Whoever reads the secrets of many tunnels asks for several at once where a helper opens them, in the order in which it reads."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from ipsec_dp.config import load, load_manual_keys
from ipsec_dp.databases.pad import KeyFiles, peer_of
from ipsec_dp.errors import ConfigError
from ipsec_dp.keying import manual
from ipsec_dp.keying.manual import ManualSas
from tests.doubles.asked_helper import asking
from tests.doubles.served_root import write

HEAD = '[[tunnel]]\nname = "{0}"\nlocal = "192.0.2.1"\nremote = "192.0.2.1{0}"\ninterface = "ipsec{0}"\nencapsulation = "udp"\n'
SHARED = (
    '[tunnel.auth]\npsk_file = "{0}.psk"\nppk_id = "{0}"\nppk_file = "{0}.ppk"\n'
    '[[tunnel.auth.other_ppk]]\nppk_id = "{0} too"\nppk_file = "{0}.too"\n'
)
BY_HAND = (
    '[tunnel.manual_unsafe]\nsuite = "aes128gcm16"\nspi_in = 0x100{0}\nspi_out = 0x100{0}\n'
    'key_in_file = "{0}.in"\nkey_out_file = "{0}.out"\n'
)
SECRETS = ["1.psk", "1.ppk", "1.too", "2.in", "2.out", "3.psk", "3.ppk", "3.too", "4.in", "4.out"]


@pytest.fixture
def path(tmp_path):
    """A configuration with two tunnels of each kind, by turns."""
    for name in SECRETS:
        write(tmp_path / name, os.urandom(20).hex() if name.endswith(("in", "out")) else f"0x{os.urandom(32).hex()}")
    tunnels = "".join((HEAD + (SHARED if number % 2 else BY_HAND)).format(number) for number in range(1, 5))
    return write(tmp_path / "a.toml", f'[gateway]\nname = "a"\n{tunnels}')


@pytest.fixture
def asked(path):
    """The names in each question to a helper, of a process that may open no secret itself."""
    with asking(SECRETS) as questions:
        yield questions


def test_of_a_configuration(path, asked):
    assert len(load(path).tunnels) == 4
    assert asked == [SECRETS]


def test_of_peers(path, asked):
    tunnels = [tunnel for tunnel in load(path).tunnels if tunnel.auth is not None]
    asked.clear()
    with KeyFiles(tunnels) as read:
        assert len([peer_of(tunnel, files_read=read) for tunnel in tunnels]) == 2
    assert asked == [["1.psk", "1.ppk", "1.too", "3.psk", "3.ppk", "3.too"]]


def test_of_keys_that_are_set_by_hand(path, asked, monkeypatch):
    def install(_sad, _tunnel, manual, *, ahead, **_):
        load_manual_keys(manual, ahead).wipe()

    class Numbers:
        tunnel_numbers = interface_numbers = dict.fromkeys(("2", "4", "ipsec2", "ipsec4"), 0)

    config = load(path)
    asked.clear()
    monkeypatch.setattr(manual, "install", install)
    ManualSas(cast("Any", None), cast("Any", Numbers), os.urandom).install(config.tunnels, cast("Any", {"2": None, "4": None}))
    assert asked == [["2.in", "2.out", "4.in", "4.out"]]


def test_of_a_configuration_that_is_refused_nothing_stays_open(path, asked):
    path.write_text(path.read_text().replace('psk_file = "1.psk"', 'psk_file = "none.psk"') + "[[tunnel]]\n")
    with pytest.raises(ConfigError, match=r"none\.psk"):
        load(path)
    assert asked
