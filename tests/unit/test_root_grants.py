"""Which configurations what stays root reads for a gateway that may be anybody's by now, and what it writes for it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ipsec_dp.config import load
from ipsec_dp.config.difference import ReadError
from ipsec_dp.gateway.root_grants import CONFIGURATIONS_MAX, TABLES, Named, named_by
from ipsec_dp.host.roots_files import why_not_roots, written_files
from ipsec_dp.keying.key_file import open_table
from ipsec_dp.keying.key_log import KeyLog
from ipsec_dp.util import opening
from ipsec_dp.util.conditions import Conditions
from ipsec_dp.util.opening import APPENDING
from ipsec_dp.util.service_user import ServiceUser
from tests.doubles.clock import FakeClock
from tests.doubles.served_root import CONFIG, content, place_below, refused, request, served, write

SECRET = "a secret of sufficient length for everybody"
SOMEBODY = 65534


@pytest.fixture
def place(tmp_path):
    return place_below(tmp_path)


@pytest.fixture
def elsewhere(tmp_path):
    """A configuration of the gateway's in another directory, with its secret."""
    directory = tmp_path / "elsewhere" / "deep"
    directory.mkdir(parents=True, mode=0o700)
    directory.parent.chmod(0o755)
    write(directory / "c.psk", SECRET)
    return write(directory / "c.toml", CONFIG.format("c.psk"))


def test_a_file_of_roots_from_anywhere_is_read_and_what_it_names_is_opened(place, elsewhere):
    secret = elsewhere.with_name("c.psk")
    with served(place) as helper:
        assert refused(helper, secret) == errno.EACCES
        got = helper.read(request(elsewhere))
        assert [tunnel.name for tunnel in got.tunnels] == ["t"]
        assert content(helper, secret) == SECRET.encode()
        assert refused(helper, elsewhere.with_name("d.psk")) == errno.EACCES, "and nothing else there"
        assert helper.read(request(elsewhere.parent / ".." / "deep" / "c.toml")).order == ("t",)


def linked(path):
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


def under_a_link(path):
    path.parent.rename(path.parent.with_name("real"))
    path.parent.symlink_to("real")


def of_others(path):
    os.chown(path, SOMEBODY, SOMEBODY)


def a_fifo(path):
    path.unlink()
    os.mkfifo(path, 0o600)


SPOILT = {
    "a link": linked,
    "under a link": under_a_link,
    "of others": of_others,
    "in a directory of others": lambda path: of_others(path.parent),
    "below a directory of others": lambda path: of_others(path.parent.parent),
    "writable by a group": lambda path: path.chmod(0o620),
    "writable by others": lambda path: path.chmod(0o602),
    "in a directory others write in": lambda path: path.parent.chmod(0o777),
    "below such a directory": lambda path: path.parent.parent.chmod(0o1777),
    "no regular file": a_fifo,
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_others_may_have_put_there_is_not_read(place, elsewhere, how):
    if "of others" in how and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    SPOILT[how](elsewhere)
    with served(place) as helper:
        with pytest.raises(ReadError, match="copy it to where root alone writes"):
            helper.read(request(elsewhere))
        assert refused(helper, elsewhere) == errno.EACCES
        assert refused(helper, elsewhere.with_name("c.psk")) == errno.EACCES


@pytest.mark.parametrize("how", ["a link", "writable by others", "in a directory others write in", "no regular file"])
def test_nor_is_it_beside_the_first(place, how):
    SPOILT[how](place / "b.toml")
    with served(place) as helper:
        with pytest.raises(ReadError, match="copy it to where root alone writes"):
            helper.read(request(place / "b.toml"))
        assert refused(helper, place / "other.psk") == errno.EACCES


def test_a_directory_by_another_way_is_that_of_the_first(place):
    (place.parent / "way").symlink_to(place)
    with served(place) as helper:
        assert helper.read(request(place.parent / "way" / "b.toml")).order == ("t",)
        assert content(helper, place / "other.psk")


def test_a_file_that_the_gateway_writes_in_is_no_configuration(place, elsewhere):
    """Its log, opened for it by whoever started it, is root's as well."""
    with elsewhere.open("ab") as log:
        held = written_files()
        found = os.fstat(log.fileno())
        assert (found.st_dev, found.st_ino) in held
    with elsewhere.open("rb") as read:
        found = os.fstat(read.fileno())
        assert (found.st_dev, found.st_ino) not in written_files()
    with served(place, written=held) as helper:
        with pytest.raises(ReadError, match="the gateway writes in it"):
            helper.read(request(elsewhere))
        assert refused(helper, elsewhere.with_name("c.psk")) == errno.EACCES
        assert helper.read(request(place / "b.toml")).order == ("t",)


@pytest.mark.parametrize("name", ["b", None])
def test_another_gateways_configuration_opens_nothing(place, elsewhere, name):
    head = '[gateway]\nname = "a"\n'
    write(elsewhere, elsewhere.read_text().replace(head, "" if name is None else head.replace('"a"', f'"{name}"')))
    with served(place) as helper:
        got = helper.read(request(elsewhere))
        assert got.config is None
        assert "is not taken for a configuration of gateway a" in str(got.findings[0])
        assert refused(helper, elsewhere.with_name("c.psk")) == errno.EACCES
        assert refused(helper, elsewhere) == errno.EACCES


@pytest.mark.parametrize("text", ["root:SHOWN-NOWHERE:1:2\n", "[SHOWN-NOWHERE]\nSHOWN-NOWHERE=1\n", "\0\xff", ""])
def test_of_what_is_no_configuration_nothing_is_shown(place, elsewhere, text):
    write(elsewhere, text)
    with served(place) as helper:
        got = helper.read(request(elsewhere))
        assert (got.config, len(got.findings), got.tunnels) == (None, 1, ())
        assert "is not taken for a configuration of gateway a; `ipsec-dp check" in str(got.findings[0])
        assert "SHOWN" not in str(got.findings[0])
        assert refused(helper, elsewhere) == errno.EACCES


def test_what_is_wrong_in_one_of_this_gateways_is_told(place, elsewhere):
    write(elsewhere, elsewhere.read_text().replace("192.0.2.2", "nowhere at all"))
    with served(place) as helper:
        got = helper.read(request(elsewhere))
        assert got.config is None
        assert "nowhere at all" in str(got.findings[0])
        assert refused(helper, elsewhere) == errno.EACCES


def test_it_remembers_so_many_configurations_and_the_first(place):
    with served(place) as helper:
        for number in range(CONFIGURATIONS_MAX + 1):
            helper.read(request(write(place / f"{number}.toml", '[gateway]\nname = "a"\n')))
        assert refused(helper, place / "0.toml") == errno.EACCES
        assert content(helper, place / f"{CONFIGURATIONS_MAX}.toml")
        assert content(helper, place / "t.psk")


# ---- what is in force no longer


def test_what_the_configuration_in_force_does_not_name_is_opened_no_more(place, elsewhere):
    with served(place) as helper:
        helper.read(request(elsewhere))
        helper.read(request(place / "b.toml"))
        helper.keep(named_by([load(elsewhere)]))
        assert content(helper, elsewhere.with_name("c.psk"))
        assert content(helper, elsewhere)
        for path in (place / "t.psk", place / "other.psk", place / "b.toml"):
            assert refused(helper, path) == errno.EACCES, path
        assert content(helper, place / "a.toml"), "it may always be read again"
        assert helper.read(request(place / "a.toml")).order == ("t",)
        assert content(helper, place / "t.psk"), "and what it names then"


def test_of_a_file_that_was_changed_what_it_named_before_is_opened_no_more(place):
    with served(place) as helper:
        write(place / "a.toml", CONFIG.format("other.psk"))
        helper.read(request(place / "a.toml"))
        assert content(helper, place / "t.psk"), "it may be in force"
        helper.keep(named_by([load(place / "a.toml")]))
        assert refused(helper, place / "t.psk") == errno.EACCES
        assert content(helper, place / "other.psk")


def test_to_keep_something_gives_nothing(place):
    with served(place) as helper:
        stay = Named(frozenset({str(place / "other.psk"), "/etc/passwd"}), frozenset({str(place / "keys" / TABLES[0])}))
        helper.keep(stay)
        for path in (place / "other.psk", Path("/etc/passwd"), place / "t.psk"):
            assert refused(helper, path) == errno.EACCES
        assert refused(helper, place / "keys" / TABLES[0], APPENDING) == errno.EACCES


def test_the_way_to_a_file_is_looked_at_from_the_root():
    assert why_not_roots("/proc/version", {0}) is None
    assert "is a link" in str(why_not_roots("/proc/self/exe", {0}))
    with pytest.raises(FileNotFoundError):
        why_not_roots("/proc/there is nothing", {0})


# ---- the key log


@pytest.fixture
def keys(place):
    """Where the configuration has its keys written."""
    write(place / "a.toml", CONFIG.format("t.psk").replace('name = "a"', 'name = "a"\nkeylog_file = "keys"'))
    return place / "keys"


def test_tables_of_the_key_log_are_opened_to_append_to_and_nothing_else_is(place, keys):
    with served(place) as helper:
        for table in TABLES:
            for line in (b"one\n", b"two\n"):
                descriptor = helper.open(str(keys / table), APPENDING)
                os.write(descriptor, line)
                os.close(descriptor)
            assert (keys / table).read_text() == "one\ntwo\n"
        for path in (keys / "other", keys, place / "t.psk", place / "a.toml", place / TABLES[0], f"{keys}/../keys/esp_sa"):
            assert refused(helper, path, APPENDING) == errno.EACCES, path
    assert (stat.S_IMODE(keys.stat().st_mode), stat.S_IMODE((keys / TABLES[0]).stat().st_mode)) == (0o700, 0o600)


def test_a_table_in_a_directory_of_somebody_elses_is_none(keys):
    keys.mkdir(mode=0o700)
    with pytest.raises(PermissionError, match="somebody else"):
        open_table(keys, TABLES[0], {os.geteuid() + 1})
    os.close(open_table(keys, TABLES[0], {os.geteuid()}))


def test_without_keylog_file_no_table_is_opened_and_a_reload_begins_it(place):
    with served(place) as helper:
        assert refused(helper, place / "keys" / TABLES[0], APPENDING) == errno.EACCES
        assert not (place / "keys").exists()
        write(place / "a.toml", CONFIG.format("t.psk").replace('name = "a"', 'name = "a"\nkeylog_file = "keys"'))
        helper.read(request(place / "a.toml"))
        os.close(helper.open(str(place / "keys" / TABLES[0]), APPENDING))


def test_a_table_that_others_may_read_stays_as_it_is(place, keys):
    keys.mkdir(mode=0o700)
    write(keys / TABLES[0], "", 0o644)
    (keys / TABLES[1]).symlink_to(place / "t.psk")
    os.link(place / "t.psk", keys / TABLES[2])
    with served(place) as helper:
        for table in TABLES:
            refused(helper, keys / table, APPENDING)
    assert (place / "t.psk").read_text() == SECRET


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_table_becomes_the_gateways_so_that_it_is_no_file_of_roots(place, keys):
    with served(place, user=ServiceUser(SOMEBODY, SOMEBODY)) as helper:
        for _ in range(2):
            os.close(helper.open(str(keys / TABLES[0]), APPENDING))
        assert ((keys / TABLES[0]).stat().st_uid, keys.stat().st_uid) == (SOMEBODY, 0)
        with pytest.raises(ReadError, match="belongs to others"):
            helper.read(request(keys / TABLES[0]))


def test_the_key_log_asks_the_helper_where_it_may_not_write_itself(place, keys, monkeypatch):
    """And says so where nobody helps it."""
    really = os.open

    def closed(path, flags, *rest, **more):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) if str(path) == str(keys) else FileNotFoundError(path)

    clock = FakeClock()
    conditions, asked = Conditions(clock), []
    log = KeyLog(conditions, clock)
    log.apply(keys)
    keys.mkdir(mode=0o700)

    def helper(path, flags):
        asked.append((path, flags))
        return really(path, flags | os.O_CREAT, 0o600)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", closed)
        log.isakmp(isakmp(1))
        assert "keys are not written to" in conditions.texts[-1]
        opening.help_by(helper)
        log.apply(keys)  # as a reload does
        try:
            for number in range(2, 50):
                log.isakmp(isakmp(number))
        finally:
            opening.help_by(None)
    assert asked == [(str(keys / TABLES[2]), APPENDING)], "once for all lines"
    assert (keys / TABLES[2]).read_text().startswith("02" * 8)
    assert len((keys / TABLES[2]).read_text().splitlines()) == 48
    assert len(conditions.texts) == 1, "the warning that they are written"


def isakmp(number):
    from types import SimpleNamespace

    return SimpleNamespace(cookie_i=bytes((number,)) * 8, keys=SimpleNamespace(cipher=bytes(16)))
