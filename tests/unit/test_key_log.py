"""The key log: lines of Wireshark's tables in files that are their owner's alone, and what cannot be written."""

from __future__ import annotations

import asyncio
import os
import stat
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from ipsec_dp.dataplane import Direction, Encapsulation, Endpoint, OuterPath, SaParams
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.ipsec.transforms import Encryption, Integrity, by_keyword
from ipsec_dp.keying import key_file, key_log, wireshark
from ipsec_dp.keying.key_log import AGAIN_S, KeyLog
from ipsec_dp.util.conditions import Conditions
from ipsec_dp.util.service_user import SERVICE_ID
from tests.doubles.clock import FakeClock

KEY = bytes(range(1, 21))  # AES-128-GCM: key and salt
FILES = ("esp_sa", "ikev1_decryption_table", "ikev2_decryption_table")


class Written:
    """A key log, and what it says."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.conditions = Conditions(self.clock)
        self.log = KeyLog(self.conditions, self.clock)
        self.log.apply(directory)

    def lines(self, table):
        return (self.directory / table).read_text().splitlines()

    @property
    def troubles(self):
        return [text for text in self.conditions.texts if "keys are not written" in text]


def esp(suite="aes128gcm16", spi=0x1001, direction=Direction.INBOUND, keymat=None, version=4):
    there = Endpoint(ip_address("192.0.2.2" if version == 4 else "2001:db8::2"), 4500)
    parsed = parse_suite(suite)
    key = bytearray((KEY * 8)[: parsed.keymat_octets] if keymat is None else keymat)
    path = None if direction is Direction.INBOUND else OuterPath(there, there, Encapsulation.UDP, 0)
    peer, inside = (there, 0) if direction is Direction.INBOUND else (None, None)
    return SaParams(direction=direction, spi=spi, suite=parsed, keymat=key, tunnel=0, interface=inside, peer=peer, path=path)


def ike(proposal="aes128gcm16-prfsha256-x25519", spi=1):
    """An IKE SA, as far as a line says it."""
    named = {type(each): each for word in proposal.split("-") if (each := by_keyword(word)) is not None}
    suite = SimpleNamespace(encryption=named[Encryption], integrity=named.get(Integrity))
    keys = SimpleNamespace(sk_ei=KEY, sk_er=KEY[::-1], sk_ai=b"" if suite.integrity is None else b"\1\2", sk_ar=b"")
    return SimpleNamespace(suite=suite, keys=keys, spi_i=bytes(7) + bytes((spi,)), spi_r=b"\2" * 8)


def isakmp():
    return SimpleNamespace(cookie_i=b"\1" * 8, keys=SimpleNamespace(cipher=KEY[:16]))


@pytest.fixture
def written(tmp_path):
    return Written(tmp_path / "keys")


def test_each_kind_of_sa_has_its_table_and_nobody_else_reads_it(written):
    assert not written.directory.exists()
    written.log.esp(esp())
    written.log.ike(ike())
    written.log.isakmp(isakmp())
    assert written.lines("esp_sa") == [
        f'"IPv4","*","*","0x00001001","AES-GCM with 16 octet ICV [RFC4106]","0x{KEY.hex()}","NULL",""'
    ]
    assert written.lines("ikev2_decryption_table") == [
        f'0000000000000001,{"02" * 8},{KEY.hex()},{KEY[::-1].hex()},"AES-GCM-128 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"'
    ]
    assert written.lines("ikev1_decryption_table") == [f"{'01' * 8},{KEY[:16].hex()}"]
    assert stat.S_IMODE(written.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE((written.directory / name).stat().st_mode) for name in FILES} == {0o600}


def test_new_keys_are_added_and_the_same_ones_are_not_written_twice(written):
    for spi in (1, 1, 2, 1):
        written.log.ike(ike(spi=spi))
    assert [line[15] for line in written.lines("ikev2_decryption_table")] == ["1", "2"]
    Written(written.directory).log.ike(ike(spi=3))  # another run
    assert [line[15] for line in written.lines("ikev2_decryption_table")] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("suite", "cipher", "integrity", "shown"),
    [
        ("aes256-sha256", "AES-CBC [RFC3602]", "HMAC-SHA-256-128 [RFC4868]", 32),
        ("aes128-sha1", "AES-CBC [RFC3602]", "HMAC-SHA-1-96 [RFC2404]", 20),
        ("aes256-sha512-esn", "AES-CBC [RFC3602]", "ANY 256 bit authentication [no checking]", 0),
        ("aes256gcm16-esn", "AES-GCM with 16 octet ICV [RFC4106]", "NULL", 0),
    ],
)
def test_a_suite_by_wiresharks_names(suite, cipher, integrity, shown):
    line = wireshark.esp_sa_line(esp(suite, direction=Direction.OUTBOUND, version=6))
    assert line is not None
    protocol, _, _, _, *names, key = [field.strip('"') for field in line.split('","')]
    assert (protocol, names[0], names[2]) == ("IPv6", cipher, integrity)
    assert len(key) == (2 + 2 * shown if shown else 0)


def test_what_wireshark_has_no_name_for_is_told_once_and_spoils_no_table(written, caplog):
    for spi in (1, 2):
        written.log.esp(esp("chacha20poly1305", spi))
        written.log.ike(ike("chacha20poly1305-prfsha256-x25519", spi))
    assert [record.getMessage() for record in caplog.records if "no name" in record.getMessage()] == [
        "keys of ESP with chacha20poly1305 are not in the key log: Wireshark has no name for it",
        "keys of IKE with chacha20poly1305 are not in the key log: Wireshark has no name for it",
    ]
    assert not written.directory.exists()


def test_it_is_warned_of_while_it_lasts_and_writes_nothing_else(written):
    assert [str(written.directory) in text for text in written.conditions.texts] == [True]
    written.log.apply(None)
    written.log.esp(esp())
    assert written.conditions.texts == []
    assert not written.directory.exists()


def link(directory):
    directory.mkdir(mode=0o700)
    (directory / "esp_sa").symlink_to(directory.parent / "elsewhere")


def hard_link(directory):
    directory.mkdir(mode=0o700)
    (directory.parent / "elsewhere").touch(mode=0o600)
    os.link(directory.parent / "elsewhere", directory / "esp_sa")


def directory_link(directory):
    (directory.parent / "real").mkdir(mode=0o700)
    directory.symlink_to(directory.parent / "real")


def writable(directory):
    directory.mkdir()
    directory.chmod(0o777)


def readable(directory):
    directory.mkdir(mode=0o700)
    (directory / "esp_sa").touch()
    (directory / "esp_sa").chmod(0o644)


def fifo(directory):
    directory.mkdir(mode=0o700)
    os.mkfifo(directory / "esp_sa", 0o600)


def file(directory):
    directory.touch()


@pytest.mark.parametrize("prepare", [link, hard_link, directory_link, writable, readable, fifo, file])
def test_where_somebody_else_could_read_them_no_key_is_written(tmp_path, prepare, caplog):
    prepare(tmp_path / "keys")
    written = Written(tmp_path / "keys")
    for spi in (1, 2, 3):
        written.log.esp(esp(spi=spi))
    assert len(written.troubles) == 1
    assert len([record for record in caplog.records if "keys are not written" in record.getMessage()]) == 1
    assert KEY.hex() not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.hex() not in caplog.text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_disk_is_one_line_and_over_when_there_is_room(tmp_path, monkeypatch, caplog):
    written = Written(tmp_path / "keys")
    full = os.open("/dev/full", os.O_WRONLY)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda _descriptor, data: real(full, data))
        for spi in (1, 2, 3):
            written.log.esp(esp(spi=spi))
    os.close(full)
    assert len(written.troubles) == 1
    assert "No space left" in written.troubles[0]
    assert len([record for record in caplog.records if "keys are not written" in record.getMessage()]) == 1
    written.log.esp(esp(spi=4))
    assert written.troubles == []
    assert ["0x00000004" in line for line in written.lines("esp_sa")] == [True]


def test_half_a_line_is_taken_back(tmp_path, monkeypatch):
    written = Written(tmp_path / "keys")
    written.log.esp(esp(spi=1))
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
        written.log.esp(esp(spi=2))
    assert written.troubles
    written.log.esp(esp(spi=3))
    assert [line.split('","')[3] for line in written.lines("esp_sa")] == ["0x00000001", "0x00000003"]


# ---- opened once


@pytest.fixture
def opened(monkeypatch):
    """The tables that were opened, in order."""
    found, really = [], key_file.open_table

    def open_table(path, table, owners):
        found.append(table)
        return really(path, table, owners)

    monkeypatch.setattr(key_log, "open_table", open_table)
    return found


def test_a_table_is_opened_once_for_all_lines(written, opened):
    for spi in range(1, 50):
        written.log.esp(esp(spi=spi))
    written.log.ike(ike())
    assert opened == ["esp_sa", "ikev2_decryption_table"]
    assert len(written.lines("esp_sa")) == 49


def test_one_that_was_moved_away_is_followed_until_a_reload_and_one_that_is_gone_is_made_anew(written):
    written.log.esp(esp(spi=1))
    (written.directory / "esp_sa").rename(written.directory / "old")
    written.log.esp(esp(spi=2))
    assert len(written.lines("old")) == 2
    written.log.apply(written.directory)
    written.log.esp(esp(spi=3))
    assert len(written.lines("esp_sa")) == 1
    (written.directory / "esp_sa").unlink()
    written.log.esp(esp(spi=4))
    assert ["0x00000004" in line for line in written.lines("esp_sa")] == [True]


def test_one_that_somebody_opens_up_gets_no_line_more(written):
    written.log.esp(esp(spi=1))
    (written.directory / "esp_sa").chmod(0o644)
    written.log.esp(esp(spi=2))
    assert len(written.lines("esp_sa")) == 1
    assert "chmod 600" in written.troubles[0]


def test_one_that_cannot_be_opened_is_tried_again_once_in_a_while(tmp_path, opened):
    (tmp_path / "keys").touch()
    written = Written(tmp_path / "keys")
    for spi in range(1, 50):
        written.log.esp(esp(spi=spi))
    assert opened == ["esp_sa"]
    (tmp_path / "keys").unlink()
    asyncio.run(written.clock.advance(AGAIN_S))
    written.log.esp(esp(spi=50))
    assert len(written.lines("esp_sa")) == 1
    assert written.troubles == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("user", "lines"), [(SERVICE_ID, 2), (SERVICE_ID - 1, 1)])
def test_root_goes_on_with_what_a_gateway_that_was_not_root_has_written(tmp_path, user, lines):
    Written(tmp_path / "keys").log.esp(esp(spi=1))
    for path in (tmp_path / "keys", tmp_path / "keys" / "esp_sa"):
        os.chown(path, user, user)
    written = Written(tmp_path / "keys")
    written.log.esp(esp(spi=2))
    assert len(written.lines("esp_sa")) == lines
    assert [f"user {user}: move it away" in text for text in written.troubles] == [True] * (2 - lines)
