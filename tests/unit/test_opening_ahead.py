"""Files that are read one after the other are opened several at a time by whoever helps, and each is what it would be alone."""

from __future__ import annotations

import errno
import os

import pytest

from ipsec_dp.util import opening
from ipsec_dp.util.opening import AHEAD_FILES, AHEAD_OCTETS, READING, Ahead, open_to_read


class Helper:
    """Opens what it has, and counts."""

    def __init__(self, really, has):
        self._really, self._has = really, has
        self.asked: list[str] = []  # one by one
        self.several: list[list[str]] = []

    def open(self, path, flags):
        assert flags == READING | os.O_NOFOLLOW
        self.asked.append(path)
        if path not in self._has:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return self._really(self._has[path], os.O_RDONLY)

    def open_ahead(self, paths):
        self.several.append(list(paths))
        return {path: self._really(self._has[path], os.O_RDONLY) for path in paths if path in self._has}


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Of a process that may open nothing itself. What it has holds its own name."""
    has = {}
    for number in range(2 * AHEAD_FILES):
        (tmp_path / f"{number}").write_text(f"/secrets/{number}")
        has[f"/secrets/{number}"] = tmp_path / f"{number}"
    made, really = Helper(os.open, has), os.open

    def closed(path, flags, *rest, **more):
        if str(path).startswith("/secrets/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", closed)
    opening.help_by(made.open, made.open_ahead)
    before = os.listdir("/proc/self/fd")
    yield made
    opening.help_by(None)
    assert len(os.listdir("/proc/self/fd")) == len(before), "nothing stays open"


def read(path, ahead, flags=os.O_NOFOLLOW):
    with open(open_to_read(path, flags, ahead).descriptor, encoding="ascii") as file:
        return file.read()


def names(count):
    return [f"/secrets/{number}" for number in range(count)]


def test_each_question_is_for_the_next_ones_and_each_file_is_its_own(helper):
    paths = names(AHEAD_FILES + 10)
    ahead = Ahead(iter(paths))
    assert [read(path, ahead) for path in paths] == paths
    assert [len(each) for each in helper.several] == [AHEAD_FILES, 10]
    assert helper.asked == []


def test_what_nobody_read_is_closed(helper):
    ahead = Ahead(names(5))
    assert read("/secrets/2", ahead) == "/secrets/2"
    assert helper.several == [names(5)[2:]]
    ahead.close()


def test_what_is_passed_over_is_closed_with_the_next_question(helper):
    """As where tables that name files cannot be read: a process has no descriptors without end."""
    paths = names(2 * AHEAD_FILES)
    ahead, before = Ahead(paths), os.listdir("/proc/self/fd")
    assert [read(paths[at], ahead) for at in (0, AHEAD_FILES)] == [paths[0], paths[AHEAD_FILES]]
    assert len(os.listdir("/proc/self/fd")) - len(before) == AHEAD_FILES - 1
    assert read(paths[1], ahead) == paths[1]
    assert helper.asked == [paths[1]]
    ahead.close()


def test_a_file_that_cannot_be_opened_says_why_as_ever(helper):
    ahead = Ahead(["/secrets/1", "/secrets/none", "/secrets/2"])
    assert read("/secrets/1", ahead) == "/secrets/1"
    for path in ("/secrets/none", "/secrets/other"):
        with pytest.raises(PermissionError):
            read(path, ahead)
    assert read("/secrets/2", ahead) == "/secrets/2"
    assert helper.asked == ["/secrets/none", "/secrets/other"]


def test_a_file_is_opened_anew_for_whoever_reads_it_again(helper):
    ahead = Ahead(names(2) * 2)
    assert [read("/secrets/0", ahead), read("/secrets/0", ahead)] == ["/secrets/0"] * 2
    assert helper.asked == ["/secrets/0"]
    ahead.close()


def test_by_whatever_flags_it_is_read_a_file_is_one_of_several(helper):
    """It was no link, so that it makes no difference whether one would be followed."""
    with Ahead(names(2)) as ahead:
        assert [read("/secrets/0", ahead), read("/secrets/1", ahead, flags=0)] == names(2)
    assert helper.several == [names(2)]


def test_a_question_is_no_longer_than_its_most_and_has_no_name_that_is_none(helper):
    """Zeros stand between names in it."""
    long = [f"/secrets/{number:01000}" for number in range(9)]
    ahead = Ahead(["/secrets/1\0/secrets/2", *long, "/secrets/" + "x" * AHEAD_OCTETS])
    for path in [*long, "/secrets/" + "x" * AHEAD_OCTETS]:
        with pytest.raises(PermissionError):
            read(path, ahead)
    assert [name for each in helper.several for name in each] == long
    assert max(len("\0".join(each)) for each in helper.several) <= AHEAD_OCTETS


def test_a_name_that_cannot_be_written_down_is_nobody_elses_concern(helper):
    ahead = Ahead(["/secrets/1", "/secrets/\ud800", "/secrets/2"])
    assert [read(f"/secrets/{number}", ahead) for number in (1, 2)] == ["/secrets/1", "/secrets/2"]
    assert helper.several == [["/secrets/1", "/secrets/2"]]


def test_a_helper_that_is_given_up_meanwhile_has_still_opened_them(helper):
    """By another thread, while names are looked at."""

    def leaving():
        yield "/secrets/1"
        opening.help_by(None)

    assert read("/secrets/1", Ahead(leaving())) == "/secrets/1"


def test_without_somebody_who_opens_several_each_is_asked_for(helper):
    opening.help_by(helper.open)
    ahead = Ahead(names(2))
    assert [read(path, ahead) for path in names(2)] == names(2)
    assert helper.asked == names(2)


def test_names_are_looked_at_only_where_somebody_is_asked(tmp_path):
    """A process that may read its files itself pays nothing."""
    (tmp_path / "own").write_text("own")
    ahead = Ahead(pytest.fail("nobody asks") for _ in range(1))
    assert read(tmp_path / "own", ahead) == "own"
    ahead.close()
