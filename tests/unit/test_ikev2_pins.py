"""Which peers have authenticated with IKEv2, on disk: whatever is wrong there, no tunnel falls to IKEv1 because of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.keying.ikev2_pins import PinFiles, pins_of
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock

NAME = "to-b"


class Pins:
    """Those of a gateway that may begin anew."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "state" / "a" / "ikev2"
        self.conditions = Conditions(FakeClock())
        self.files = PinFiles(self.directory, self.conditions)

    @property
    def file(self) -> Path:
        return self.directory / NAME

    def restart(self) -> PinFiles:
        self.files = PinFiles(self.directory, self.conditions)
        return self.files

    def kept(self) -> Pins:
        self.files.keep(NAME)
        self.restart()
        return self


@pytest.fixture
def pins(tmp_path):
    return Pins(tmp_path)


def test_what_is_kept_is_there_after_a_restart_until_it_is_cleared(pins):
    assert not pins.files.holds(NAME)
    pins.files.keep(NAME)
    assert pins.files.holds(NAME)
    assert pins.restart().holds(NAME)
    assert not pins.files.holds("to-c")
    pins.files.clear(NAME)
    assert not pins.files.holds(NAME)
    assert not pins.restart().holds(NAME)
    assert pins.conditions.texts == []


def test_nobody_else_reads_or_writes_it(pins):
    before = os.umask(0)
    try:
        pins.kept()
    finally:
        os.umask(before)
    assert stat.S_IMODE(pins.file.stat().st_mode) == 0o600
    for directory in (pins.directory, *list(pins.directory.parents)[:2]):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [path.name for path in pins.directory.iterdir()] == [NAME], "nothing half written is left"


def test_nothing_is_made_before_somebody_asks(pins):
    assert not pins.directory.parent.parent.exists()


def test_it_is_written_whole_or_not_at_all(pins, monkeypatch):
    """A crash before the new file has its name: what was said before still counts, and nothing else does."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    assert not pins.files.holds(NAME)
    monkeypatch.setattr(os, "rename", fails)
    pins.files.keep(NAME)
    assert not pins.file.exists()


def damaged(pins):
    pins.kept().file.write_bytes(b"")


def a_link(pins):
    pins.kept().file.unlink()
    pins.file.symlink_to("/nonexistent")


def a_directory(pins):
    pins.kept().file.unlink()
    pins.file.mkdir()


@pytest.mark.parametrize("spoil", [damaged, a_link, a_directory])
def test_a_file_that_is_damaged_counts_and_is_told_with_what_clears_it(pins, spoil):
    spoil(pins)
    assert pins.files.holds(NAME)
    (text,) = pins.conditions.texts
    assert str(pins.file) in text
    assert f"ipsec-dp unpin {NAME}" in text


def test_a_damaged_file_is_cleared_as_any_other(pins):
    damaged(pins)
    assert pins.files.holds(NAME)
    pins.files.clear(NAME)
    assert not pins.files.holds(NAME)
    assert pins.conditions.texts == []


def a_file_in_the_way(pins):
    pins.directory.parent.mkdir(parents=True)
    pins.directory.touch()


def a_link_in_the_way(pins):
    pins.directory.parent.mkdir(parents=True)
    pins.directory.symlink_to(pins.directory.parent.parent)


def writable_for_others(pins):
    pins.directory.mkdir(parents=True)
    pins.directory.chmod(0o777)


def below_what_others_write(pins):
    pins.directory.mkdir(parents=True)
    pins.directory.parent.chmod(0o777)


@pytest.mark.parametrize("spoil", [a_file_in_the_way, a_link_in_the_way, writable_for_others, below_what_others_write])
def test_where_it_cannot_be_trusted_every_tunnel_is_pinned_and_one_line_says_why(pins, spoil):
    spoil(pins)
    assert pins.files.holds(NAME)
    assert pins.files.holds("to-c")
    (text,) = pins.conditions.texts
    assert str(pins.directory) in text
    assert "2-preferred" in text


@pytest.mark.parametrize("refused", ["open", "mkdir", "write", "fsync", "rename"])
def test_where_it_cannot_be_read_or_written_so_too(pins, monkeypatch, refused):
    """At the first question, before anything is to be kept: else a pin that cannot be kept would be missing after a restart."""

    def fails(*_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as broken:
        broken.setattr(os, refused, fails)
        assert pins.files.holds(NAME)
        (text,) = pins.conditions.texts
        assert "Read-only file system" in text
    assert not pins.files.holds(NAME), "and no longer than that lasts"
    assert pins.conditions.texts == []


def test_a_pin_that_could_not_be_written_holds_and_is_written_as_soon_as_that_goes(pins, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    assert not pins.files.holds(NAME)
    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", fails)
        pins.files.keep(NAME)
        assert pins.files.holds(NAME)
        assert len(pins.conditions.texts) == 1
    pins.files.holds("to-c")
    assert pins.conditions.texts == []
    assert pins.restart().holds(NAME)


def test_what_cannot_be_cleared_is_said_and_stays(pins, monkeypatch):
    pins.kept()

    def fails(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", fails)
        with pytest.raises(IpsecDpError, match="Read-only"):
            pins.files.clear(NAME)
    assert pins.files.holds(NAME)


def test_where_it_lies():
    assert pins_of("a", {}) == Path("/var/lib/ipsec-dp/a/ikev2")
    assert pins_of("a", {"STATE_DIRECTORY": "/srv/state:/srv/other"}) == Path("/srv/state/a/ikev2")
