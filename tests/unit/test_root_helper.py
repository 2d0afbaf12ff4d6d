"""What stays root opens what the checked configuration names, and nothing else, whatever a gateway that was taken over asks."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipsec_dp.config import load
from ipsec_dp.config.difference import ReadError, ReadRequest, known
from ipsec_dp.errors import ControlError
from ipsec_dp.gateway import privileges, root_helper, root_requests
from ipsec_dp.gateway.control_place import ControlPlace
from ipsec_dp.gateway.daemon import run
from ipsec_dp.gateway.privileges import Privileges
from ipsec_dp.gateway.root_grants import grants_of
from ipsec_dp.gateway.root_helper import Helper
from ipsec_dp.gateway.root_messages import BEGIN, LISTEN, OPEN, OPEN_SEVERAL, READ, REQUEST_OCTETS_MAX
from ipsec_dp.gateway.root_requests import RootHelper
from ipsec_dp.host import HostError
from ipsec_dp.util import opening
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.served_root import CONFIG, content, place_below, refused, request, served


@pytest.fixture
def place(tmp_path):
    return place_below(tmp_path)


def test_it_opens_what_the_configuration_names(place):
    with served(place) as helper:
        assert content(helper, place / "t.psk") == (place / "t.psk").read_bytes()
        assert content(helper, place / "a.toml") == (place / "a.toml").read_bytes()


def test_it_refuses_everything_else(place):
    with served(place) as helper:
        for path in (place / "other.psk", place / "b.toml", Path("/etc/passwd"), f"{place}/../etc/t.psk", "", "t.psk", "/"):
            assert refused(helper, path) == errno.EACCES, path
        assert content(helper, place / "t.psk"), "and goes on"


def test_it_opens_the_tun_device_and_no_other(place):
    with served(place) as helper:
        opened = helper.open("/dev/net/tun", opening.USING)
        assert os.fstat(opened).st_rdev == os.makedev(10, 200)
        os.close(opened)
        for path in ("/dev/mem", "/dev/net/../mem", "/dev/net/tun/"):
            with pytest.raises(OSError, match="Permission denied"):
                helper.open(path, opening.USING)


def test_a_link_in_the_place_of_a_secret_is_not_followed(place):
    (place / "t.psk").rename(place / "moved")
    with served_after_link(place) as helper, pytest.raises(OSError) as caught:  # noqa: PT011
        helper.open(str(place / "t.psk"), os.O_NOFOLLOW)
    assert caught.value.errno == errno.ELOOP


@contextmanager
def served_after_link(place):
    (place / "moved").rename(place / "t.psk")
    with served(place) as helper:
        (place / "t.psk").rename(place / "moved")
        (place / "t.psk").symlink_to("/etc/passwd")
        yield helper


def test_before_it_has_begun_it_does_nothing_and_begins_once(place):
    with served(place, begun=False) as helper:
        assert refused(helper, place / "t.psk") == errno.EPERM
        with pytest.raises(ControlError):
            helper.listen()
        helper.begin(grants_of(load(place / "a.toml"), place / "a.sock"))
        with pytest.raises(OSError, match="Invalid argument"):
            helper.begin(grants_of(load(place / "b.toml"), place / "a.sock"))
        assert refused(helper, place / "other.psk") == errno.EACCES


@pytest.mark.parametrize(
    "message",
    [
        b"?",
        OPEN,
        OPEN + b"\0",
        b"\xff" * 10,
        OPEN + b"x" * 5000,
        READ + b"/etc/passwd",
        BEGIN,
        LISTEN + b"/etc/x",
        OPEN_SEVERAL + b"/etc/passwd\0/etc/shadow",
        OPEN_SEVERAL + b"\0" * 4096,
        bytes(range(7, 71)),
    ],
    ids=["short", "open", "open nothing", "no verb", "long", "read", "begin again", "listen", "several", "many", "any octets"],
)
def test_whatever_it_is_asked_it_answers_and_lives(place, message):
    helper = Helper(lambda: None)
    for descriptor in (None, os.open(os.devnull, os.O_RDONLY)):
        assert helper.answer(message, descriptor).error != 0
        if descriptor is not None:
            os.close(descriptor)
    with served(place) as asked:
        assert content(asked, place / "t.psk")


def test_a_path_that_is_too_long_costs_nothing(place):
    with served(place) as helper:
        assert refused(helper, "/" + "x" * REQUEST_OCTETS_MAX) == errno.ENAMETOOLONG
        assert content(helper, place / "t.psk")


def test_a_configuration_beside_the_first_is_read_and_what_it_names_is_opened(place):
    with served(place) as helper:
        assert refused(helper, place / "other.psk") == errno.EACCES
        got = helper.read(request(place / "b.toml"))
        assert [tunnel.name for tunnel in got.tunnels] == ["t"]
        assert content(helper, place / "other.psk")
        assert content(helper, place / "t.psk"), "the former configuration is in force until another is"


def test_what_is_known_is_not_sent_again(place):
    with served(place) as helper:
        got = helper.read(request(place / "a.toml"))
        again = ReadRequest(place / "a.toml", {"t": known(got.tunnels[0])}, b"k" * 32)
        assert (helper.read(again).order, helper.read(again).tunnels) == (("t",), ())
        assert content(helper, place / "t.psk")


def test_a_configuration_that_is_wrong_names_nothing(place):
    (place / "b.toml").write_text(CONFIG.format("other.psk").replace("192.0.2.2", "nowhere at all"))
    with served(place) as helper:
        got = helper.read(request(place / "b.toml"))
        assert got.config is None
        assert got.findings
        assert refused(helper, place / "other.psk") == errno.EACCES


def test_one_that_is_missing_is_a_finding_as_ever(place):
    with served(place) as helper:
        assert "cannot be read" in str(helper.read(request(place / "c.toml")).findings[0])


def test_the_control_socket_is_made_and_taken_away_where_it_was_said(place):
    path = place.parent / "a.sock"
    with served(place) as helper:
        with helper.listen() as listening, socket.socket(socket.AF_UNIX) as client:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            client.connect(str(path))
            listening.accept()[0].close()
            with pytest.raises(ControlError, match="a gateway is already running at"):
                helper.listen()
        helper.remove()
        assert not path.exists()
        helper.remove()


def test_a_helper_that_is_gone_is_said_by_everybody_who_needs_it(place):
    conditions = Conditions(FakeClock())
    with served(place) as helper:
        pass
    with pytest.raises(OSError, match="has ended"):
        helper.open(str(place / "t.psk"), 0)
    with pytest.raises(ReadError, match="has ended; start"):
        helper.read(request(place / "a.toml"))
    with pytest.raises(ControlError, match="has ended"):
        helper.listen()
    with pytest.raises(ControlError, match="has ended"):
        helper.remove()
    helper.ended(conditions)
    assert "read no more" in conditions.texts[0]


def test_the_helper_is_asked_for_what_this_process_may_not_open_alone(place, monkeypatch):
    asked, really = [], os.open

    def helper(path, flags):
        asked.append((path, flags))
        return really(os.devnull, os.O_RDONLY)

    def closed(path, flags=0, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    opening.help_by(helper)
    try:
        with opening.opened_to_read(place / "t.psk") as file:
            assert os.read(file.descriptor, 8) == b"a secret"
        with pytest.raises(FileNotFoundError):
            opening.open_to_read(place / "none")
        assert asked == []
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", closed)
            os.close(opening.open_to_read(place / "t.psk").descriptor)
        assert asked == [(str(place / "t.psk"), opening.READING)]
    finally:
        opening.help_by(None)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("t.psk", "/etc/ipsec-dp/t.psk"),
        ("ipsec-dp_t.psk", "/etc/ipsec-dp/t.psk"),
        ("ipsec-dp_keys_t.psk", "/etc/ipsec-dp/keys/t.psk"),
    ],
)
def test_a_credential_stands_for_a_file(tmp_path, name, path):
    (tmp_path / name).write_text("secret")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert opening.credential_of(Path(path), environment) == tmp_path / name
    assert opening.credential_of(Path("/etc/ipsec-dp/other.psk"), environment) is None
    assert opening.credential_of(Path(path), {}) is None


def test_without_a_helper_everything_is_as_it_was():
    privileges = Privileges()
    assert privileges.place(ControlPlace) is ControlPlace

    async def reread(*_):
        raise AssertionError

    assert privileges.reread(reread) is reread
    conditions = Conditions(FakeClock())
    privileges.tell(conditions)
    assert conditions.texts == []
    privileges.close()


def test_a_helper_that_refuses_to_take_files_away_is_told_of_and_one_that_has_ended_is_not(place):
    """Whoever has ended opens nothing any more, and is a condition already."""
    config = load(place / "a.toml")
    with served(place, begun=False) as helper:
        tell = Privileges(helper).in_force(None)
        assert tell is not None
        with pytest.raises(HostError, match="the helper that stays root refuses: Operation not permitted"):
            tell((config,))
    tell((config,))


def test_where_the_helper_does_not_answer_nothing_is_started_as_root(place, monkeypatch, capfd):
    """Root would stay, with all that strangers send."""
    monkeypatch.setattr(privileges, "raise_limits", lambda: None)
    monkeypatch.setenv("STATE_DIRECTORY", str(place.parent / "state"))
    with served(place, begun=False) as helper:
        pass
    held, config = Privileges(helper), load(place / "a.toml")
    with pytest.raises(HostError, match=r"^root cannot be given up, so nothing is started: .*has ended.*; start it once more;"):
        held.drop(config, place.parent / "a.sock")
    assert run(config, place.parent / "a.sock", privileges=held) == 1
    lines = capfd.readouterr().err.splitlines()
    assert [" ERROR " in line and "root cannot be given up" in line for line in lines] == [True]
    assert not (place.parent / "a.sock").exists()


def test_requests_of_many_threads_take_turns(place):
    with served(place) as helper:

        async def all_at_once():
            return await asyncio.gather(*(asyncio.to_thread(content, helper, place / "t.psk") for _ in range(20)))

        assert set(asyncio.run(all_at_once())) == {(place / "t.psk").read_bytes()}
    assert root_requests.GONE


PPKS = """  [[tunnel.auth.other_ppk]]
  ppk_id = "two"
  ppk_file = "two.ppk"
"""


def test_the_files_of_ppks_are_named_by_the_configuration_too(place):
    for name in ("one.ppk", "two.ppk"):
        (place / name).write_text("0x" + os.urandom(32).hex())
        (place / name).chmod(0o600)
    path = place / "a.toml"
    path.write_text(f'{CONFIG.format("t.psk")}  ppk_id = "one"\n  ppk_file = "one.ppk"\n{PPKS}')
    with served(place) as helper:
        for name in ("one.ppk", "two.ppk"):
            assert content(helper, place / name) == (place / name).read_bytes()
        assert refused(helper, place / "other.psk") == errno.EACCES


def test_a_link_that_leads_to_a_configuration_is_not_read_and_grants_nothing(place, tmp_path):
    """One that the gateway may change: it leads to what may be read, and then elsewhere."""
    path = tmp_path / "mine.toml"
    path.symlink_to(place / "b.toml")
    with served(place) as helper:
        assert helper.read(request(place / "b.toml")).order == ("t",)
        with pytest.raises(ReadError, match="is a link"):
            helper.read(request(path))
        assert refused(helper, path) == errno.EACCES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives links away")
def test_a_link_of_somebody_else_leads_to_nothing_of_root_s(place):
    """A file of the configuration that lies where the gateway may write: it puts a link in its place."""
    with served(place) as helper:
        (place / "t.psk").unlink()
        (place / "t.psk").symlink_to("other.psk")
        assert content(helper, place / "t.psk") == (place / "other.psk").read_bytes(), "root's own is followed"
        os.lchown(place / "t.psk", 65534, 65534)
        assert refused(helper, place / "t.psk") == errno.EACCES


# ---- with two processes


def test_a_successor_has_a_channel_of_its_own_and_either_may_go_first(place):
    with served(place) as ours:
        for first in ("the successor", "we"):
            theirs = RootHelper.inherited(ours.stay(), os.getpid())
            assert content(theirs, place / "t.psk") == (place / "t.psk").read_bytes()
            assert content(ours, place / "a.toml") == (place / "a.toml").read_bytes()
            if first == "the successor":
                theirs.leave()
                assert content(ours, place / "t.psk"), "as before"
            else:
                ours.leave()
                assert content(theirs, place / "t.psk"), "and goes on"
                theirs.leave()


def test_each_of_two_processes_gets_its_own_answers(place):
    with served(place) as ours:
        theirs = RootHelper.inherited(ours.stay(), os.getpid())
        asked = {ours: place / "t.psk", theirs: place / "a.toml"}
        with ThreadPoolExecutor(len(asked)) as pool:
            got = [(path, pool.submit(content, helper, path)) for _ in range(50) for helper, path in asked.items()]
        assert all(each.result() == path.read_bytes() for path, each in got)
        theirs.leave()


def test_nobody_gets_channels_without_end(place):
    with served(place) as helper:
        given = [helper.stay() for _ in range(root_helper.CHANNELS_MAX - 1)]
        with pytest.raises(OSError, match="Too many open files"):
            helper.stay()
        for each in given:
            os.close(each)
        assert content(helper, place / "t.psk"), "and goes on"
