"""Files opened for somebody who may have put a link in their way."""

from __future__ import annotations

import errno
import os

import pytest

from ipsec_dp.host.links import LINKS_MOST, OpenedDirectories, open_by_links_of

OURS, NOBODY = frozenset((0, os.geteuid())), frozenset({4_000_000_000})


@pytest.fixture
def place(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "secret").write_text("a secret")
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "secret")
    (tmp_path / "far").symlink_to("./way/../real/./secret")
    return tmp_path


def content(path, owners=OURS, flags=0):
    descriptor = open_by_links_of(owners, str(path), os.O_RDONLY | os.O_CLOEXEC | flags)
    with open(descriptor, encoding="ascii") as file:
        assert not os.get_inheritable(descriptor)
        return file.read()


def refused(path, owners=OURS, flags=0):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is what is looked at
        content(path, owners, flags)
    assert len(os.listdir("/proc/self/fd")) == len(before), "nothing stays open"
    return caught.value.errno


@pytest.mark.parametrize("name", ["real/secret", "way/secret", "link", "far"])
def test_a_file_is_opened_by_links_of_those_who_may_lead(place, name):
    assert content(place / name) == "a secret"


@pytest.mark.parametrize("name", ["way/secret", "link", "far"])
def test_no_link_of_anybody_else_is_followed_wherever_it_is(place, name):
    assert refused(place / name, NOBODY) == errno.EACCES
    assert content(place / "real" / "secret", NOBODY) == "a secret"


def test_o_nofollow_is_about_the_last_name(place):
    assert refused(place / "link", flags=os.O_NOFOLLOW) == errno.ELOOP
    assert content(place / "way" / "secret", flags=os.O_NOFOLLOW) == "a secret"


def test_links_in_circles_end(place):
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    assert refused(place / "a") == errno.ELOOP
    for number in range(LINKS_MOST):
        (place / f"{number}").symlink_to(f"{number + 1}" if number + 1 < LINKS_MOST else "real/secret")
    assert content(place / "0") == "a secret"
    (place / "one more").symlink_to("0")
    assert refused(place / "one more") == errno.ELOOP


@pytest.mark.parametrize(
    ("name", "error"),
    [("none", errno.ENOENT), ("real/none", errno.ENOENT), ("link/more", errno.ENOTDIR), ("link/..", errno.ENOTDIR)],
)
def test_what_is_not_there_is_told_as_ever(place, name, error):
    assert refused(f"{place}/{name}") == error


def test_no_file_has_no_name():
    assert refused("/") == errno.EISDIR


# ---- several files


def contents(owners, *paths):
    """What is in those that could be opened; the error's number of the others."""
    found = list[str | int | None]()
    before = os.listdir("/proc/self/fd")
    with OpenedDirectories(owners) as directories:
        for path in paths:
            try:
                descriptor = directories.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                found.append(error.errno)
                continue
            with open(descriptor, encoding="ascii") as file:
                assert not os.get_inheritable(descriptor)
                found.append(file.read())
    assert len(os.listdir("/proc/self/fd")) == len(before), "nothing stays open"
    return found


def test_several_files_are_opened_as_one_is(place):
    (place / "real" / "more").write_text("more")
    several = [place / name for name in ("real/secret", "way/secret", "real/more", "way/none", "none/secret")]
    assert contents(OURS, *several) == ["a secret", "a secret", "more", errno.ENOENT, errno.ENOENT]
    assert contents(OURS, "/", place / "real/secret/more") == [errno.EISDIR, errno.ENOTDIR]


def test_none_of_several_is_a_link_or_lies_behind_somebody_elses(place):
    (place / "real" / "other").symlink_to("secret")
    for owners, way in ((OURS, "a secret"), (NOBODY, errno.EACCES)):
        asked = ("link", "far", "real/other", "way/secret", "real/secret")
        assert contents(owners, *(place / name for name in asked)) == [errno.ELOOP, errno.ELOOP, errno.ELOOP, way, "a secret"]
