"""Which program a gateway hands itself over to: root's alone, along the whole path, and one that understands it."""

from __future__ import annotations

import json
import os
import sys

import pytest

from ipsec_dp.gateway.upgrade import executable
from ipsec_dp.gateway.upgrade.executable import About, ask, command_for, environment, understood
from ipsec_dp.gateway.upgrade.messages import MODEL
from ipsec_dp.gateway.upgrade.stream import FORM, HandOverError

NOBODY = 65534


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory whose own path counts as root's: only what is below it is looked at."""
    lstat = os.lstat
    above = {str(each) for each in (tmp_path, *tmp_path.parents)}

    def looked(path, **named):
        found = lstat(path, **named)
        return os.stat_result((0o40755, *found[1:4], 0, 0, *found[6:])) if str(path) in above else found

    monkeypatch.setattr(os, "lstat", looked)
    return tmp_path


def why_not_installed(path):
    return executable.why_not_installed(path) or ""


def program(path, text="", mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_of_root_in_directories_of_root_is_installed(place):
    assert why_not_installed(str(program(place / "ipsec-dp"))) == ""


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o722])
def test_a_file_that_others_may_write_is_not(place, mode):
    assert "may write" in why_not_installed(str(program(place / "ipsec-dp", mode=mode)))


def test_nor_is_one_of_somebody_else(place):
    path = program(place / "ipsec-dp")
    os.chown(path, NOBODY, 0)
    assert "belongs to others" in why_not_installed(str(path))


def test_what_is_roots_stays_so_in_a_directory_like_tmp(place):
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    path = program(place / "tmp" / "ipsec-dp")
    assert why_not_installed(str(path)) == ""
    os.chown(path, NOBODY, 0)
    assert "belongs to others" in why_not_installed(str(path))


@pytest.mark.parametrize("change", [lambda path: path.chmod(0o777), lambda path: os.chown(path, NOBODY, 0)])
def test_nor_one_in_a_directory_that_others_may_write(place, change):
    (place / "bin").mkdir()
    path = program(place / "bin" / "ipsec-dp")
    change(place / "bin")
    assert why_not_installed(str(path)) != ""


def test_a_link_is_followed_and_what_it_leads_to_is_looked_at(place):
    (place / "there").mkdir()
    path = program(place / "there" / "ipsec-dp")
    for target in ("there/ipsec-dp", str(path), "./there/../there/ipsec-dp"):
        link = place / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert why_not_installed(str(link)) == ""
    (place / "there").chmod(0o777)
    assert "may write" in why_not_installed(str(place / "link"))


def test_links_without_an_end_are_refused(place):
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    assert "too many links" in why_not_installed(str(place / "a"))


def test_what_is_not_there_is_said(place):
    assert "No such file" in why_not_installed(str(place / "none"))


def test_the_interpreter_of_a_script_is_looked_at_too(place):
    other = program(place / "python", mode=0o777)
    path = program(place / "ipsec-dp", f"#!{other} -P\n")
    with pytest.raises(HandOverError, match="others than root may write"):
        command_for(path)
    other.chmod(0o755)
    assert command_for(path) == (str(path),)


@pytest.mark.parametrize("first", ["#!/usr/bin/env python3", "#! python3", "#!./python"])
def test_whoever_looks_for_an_interpreter_finds_what_others_name(place, first):
    with pytest.raises(HandOverError, match="does not name its interpreter by its whole path"):
        command_for(program(place / "ipsec-dp", f"{first}\n"))


def test_no_variable_says_where_modules_are():
    ours = {"PATH": "/bin", "PYTHONPATH": "/tmp", "PYTHONHOME": "/tmp", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "3"}
    assert environment(ours) == {"PATH": "/bin", "WATCHDOG_USEC": "3"}


@pytest.mark.parametrize("name", ["ipsec-dp", "."])
def test_a_path_is_whole_and_leads_to_a_program(place, name):
    with pytest.raises(HandOverError, match=r"give the whole path|is no program"):
        command_for(place / name if name == "." else type(place)(name))


# ---- what it says of itself


def test_the_program_that_is_asked_is_told_no_place_of_modules_either(place, monkeypatch):
    said = json.dumps({"version": "9", "upgrade": understood()})
    monkeypatch.setenv("PYTHONPATH", str(place))
    text = f"import os\nprint({said!r} if 'PYTHONPATH' not in os.environ else '')\n"
    assert ask((sys.executable, str(program(place / "says.py", text)))) == About("9", MODEL, FORM)


def saying(place, text):
    return (sys.executable, str(program(place / "says.py", f"print({text!r})\n")))


def test_a_program_says_what_it_understands(place):
    assert ask(saying(place, json.dumps({"version": "9", "upgrade": understood()}))) == About("9", MODEL, FORM)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "0.1.0"}', '{"version": "9", "upgrade": {"model": "?"}}'])
def test_one_that_does_not_is_refused(place, text):
    with pytest.raises(HandOverError, match="older than `upgrade`"):
        ask(saying(place, text))


@pytest.mark.parametrize("one", ["model", "form"])
def test_one_that_understands_another_is_refused(place, one):
    with pytest.raises(HandOverError, match="restart it instead"):
        ask(saying(place, json.dumps({"version": "9", "upgrade": understood() | {one: 99}})))


def test_one_that_cannot_be_started_is_refused(place):
    with pytest.raises(HandOverError, match="cannot be started"):
        ask((str(program(place / "ipsec-dp", mode=0o644)),))


def test_one_that_never_answers_is_not_waited_for(place, monkeypatch):
    monkeypatch.setattr(executable, "ANSWER_S", 0.1)
    with pytest.raises(HandOverError, match="did not say its version"):
        ask(("/bin/sh", "-c", "sleep 60"))
