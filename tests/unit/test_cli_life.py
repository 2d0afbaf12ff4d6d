"""The command before a gateway runs, after it is dead, and while nobody knows whether he is still let in."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.cli import asking, main
from ipsec_dp.errors import NoDaemonError
from ipsec_dp.gateway import control, daemon, stopped
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network.remains import Remains

GOOD = """
[gateway]
name = "site-a"
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
[tunnel.auth]
psk_file = "to-b.psk"
"""


@pytest.fixture
def good(tmp_path):
    """A configuration without findings."""
    (tmp_path / "to-b.psk").touch(mode=0o600)
    (tmp_path / "to-b.psk").write_text("correct horse battery staple")
    path = tmp_path / "a.toml"
    path.write_text(GOOD)
    return path


# ---- a gateway that does not run -------------------------------------------------------------------------------------------------


@pytest.fixture
def dead(monkeypatch):
    """What gateway site-a left; `opened` who was."""
    seen = SimpleNamespace(found=Remains("site-a", guard=True, guarded=(AddressRange.of("10.2.0.0/24"),)), opened=[], asked=[])

    async def left(_name: str) -> Remains:
        return seen.found

    async def open_up(name: str) -> None:
        seen.opened.append(name)

    def advice(candidates: list[str]) -> str:
        seen.asked = candidates
        return "gateway site-a does not run"

    for name, double in (("left", left), ("open_up", open_up), ("advice", advice)):
        monkeypatch.setattr(stopped, name, double)
    return seen


def test_open_lists_what_will_leave_in_clear_and_takes_yes_for_an_answer(dead, capsys):
    assert main(["open", "site-a", "--yes-in-clear"]) == 0
    assert "  10.2.0.0/24\n" in capsys.readouterr().err
    assert dead.opened == ["site-a"]


def test_open_of_many_prefixes_says_how_many_more(dead, capsys):
    dead.found = Remains("site-a", guarded=tuple(AddressRange.of(f"10.{n}.0.0/24") for n in range(30)), guard=True)
    assert main(["open", "site-a", "--yes-in-clear"]) == 0
    assert "  and 10 more\n" in capsys.readouterr().err


def test_open_without_a_terminal_opens_nothing(dead, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("site-a\n"))
    assert main(["open", "site-a"]) == 2
    assert "--yes-in-clear" in capsys.readouterr().err
    assert dead.opened == []


def test_open_changes_nothing_where_it_cannot_see_what_is_left(dead, capsys):
    dead.found = Remains("site-a", unseen="Operation not permitted")
    assert main(["open", "site-a", "--yes-in-clear"]) == 1
    assert "cannot be seen, and nothing was changed: Operation not permitted" in capsys.readouterr().err
    assert dead.opened == []


def test_open_says_what_it_cannot_list_and_opens_it_all_the_same(dead, capsys):
    """Nobody should have to install nft by a network that is closed."""
    (prefix,) = AddressRange.of("10.2.0.0/24").prefixes
    dead.found = Remains("site-a", guard=True, unreachable=(prefix,), unlisted="nft is not installed")
    assert main(["open", "site-a", "--yes-in-clear"]) == 0
    said = capsys.readouterr().err
    assert "cannot be listed: nft is not installed" in said
    assert "  10.2.0.0/24\n" in said
    assert dead.opened == ["site-a"]


def test_down_without_a_gateway_says_what_a_dead_one_left(dead, monkeypatch, capsys):
    def request(*_: object) -> None:
        raise NoDaemonError("nobody there")

    monkeypatch.setattr(control, "request", request)
    assert main(["down", "--control", "/run/ipsec-dp/site-a.sock"]) == 3
    assert capsys.readouterr().err == "nobody there; gateway site-a does not run\n"
    assert dead.asked == ["site-a"]


@pytest.mark.parametrize(("arguments", "status"), [(["status"], 3), (["status", "--json"], 3), (["status", "--check"], 3)])
def test_so_does_status_by_the_names_of_this_hosts_configurations_too(dead, monkeypatch, capsys, tmp_path, arguments, status):
    """A start that failed for want of nft has left routes alone, whose name no table of nft's has."""

    def request(*_: object) -> None:
        raise NoDaemonError("nobody there")

    (tmp_path / "b.toml").write_text('[gateway]\nname = "site-b"\n')
    monkeypatch.setattr(asking, "CONFIGURATIONS", tmp_path)
    monkeypatch.setattr(control, "request", request)
    assert main([*arguments, "--control", "/run/ipsec-dp/site-a.sock"]) == status
    said = capsys.readouterr()
    assert "nobody there; gateway site-a does not run" in said.out + said.err
    assert dead.asked == ["site-a", "site-b"]


def test_guard_says_what_holds_and_takes_a_file_without_its_secret(good, monkeypatch, capsys):
    closed = []

    async def close(config: Any) -> Remains:
        closed.append(config.name)
        return Remains(config.name, guard=True)

    monkeypatch.setattr(stopped, "close", close)
    (good.parent / "to-b.psk").unlink()
    assert main(["up", str(good)]) == 2
    assert main(["guard", str(good)]) == 0
    assert capsys.readouterr().out.startswith("gateway site-a: the guard alone keeps")
    assert closed == ["site-a"]
    good.write_text(GOOD.replace("192.0.2.2", "nobody at all"))
    assert main(["guard", str(good)]) == 2


# ---- not locked out --------------------------------------------------------------------------------------------------------------

FOR_EVERYTHING = GOOD.replace("[tunnel.auth]", 'routes = ["0.0.0.0/0"]\n[tunnel.auth]')


@pytest.fixture
def lockout(good, monkeypatch):
    """A configuration that takes the SSH session that it is checked from."""
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.7 51234 192.0.2.1 22")
    good.write_text(FOR_EVERYTHING)
    return good


def test_check_warns_of_what_cuts_the_session_off_and_prints_the_policy_that_keeps_it(lockout, capsys):
    assert main(["check", str(lockout)]) == 0
    said = capsys.readouterr().err
    assert "warning: packets from 192.0.2.1 port 22 to 198.51.100.7 are protected" in said
    printed = said[said.index("[[policy]]") :]
    lockout.write_text(FOR_EVERYTHING.replace("[[tunnel]]", printed + "[[tunnel]]"))
    assert main(["check", str(lockout)]) == 0
    assert capsys.readouterr().err == ""


def test_check_as_json_has_it_among_the_findings(lockout, capsys):
    assert main(["check", str(lockout), "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["severity"], finding["where"]) == ("warning", "policy")


def test_up_on_trial_goes_back_to_closed_with_the_way_of_the_session_open(lockout, monkeypatch, capsys):
    trials = []

    def run(_config: object, _control: Path, trial: Any, **_: object) -> int:
        trials.append(trial)
        return 0

    monkeypatch.setattr(daemon, "run", run)
    assert main(["up", str(lockout), "--confirm", "90s"]) == 0
    (trial,) = trials
    assert trial.seconds == 90
    assert trial.otherwise.endswith("of what it protects nothing but TCP port 22 of 192.0.2.1 to 198.51.100.7 passes")
    assert [policy.action for policy in trial.retreat.policies] == ["bypass"]
    assert "is cut off" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("", {}),
        ("--log-format json", {"log_format": "json"}),
        ("-v", {"verbose": True}),
        ("--verbose --trace-ike --confirm 90s", {"verbose": True, "trace_ike": True}),
    ],
)
def test_up_says_how_much_is_logged(lockout, monkeypatch, words, asked):
    usual = {"verbose": False, "trace_ike": False, "log_format": None}

    def run(*_, privileges, **options):
        return 0 if privileges and options == usual | asked else 5

    monkeypatch.setattr(daemon, "run", run)
    assert main(["up", str(lockout), *words.split()]) == 0


@pytest.mark.parametrize("time", ["soon", "0s", "2d", "60"])
def test_a_time_that_is_none_is_wrong_usage(lockout, monkeypatch, time, capsys):
    monkeypatch.setattr(daemon, "run", lambda *_: pytest.fail("started"))
    assert main(["up", str(lockout), "--confirm", time]) == 2
    assert "--confirm" in capsys.readouterr().err


RELOADED = {"schema": 1, "applied": True, "file": "a.toml", "added": [], "removed": [], "changed": [], "kept": 1, "findings": []}
RELOADED |= {"read_s": 0.1, "applied_s": 0.1}


def test_reload_on_trial_says_how_it_is_kept(monkeypatch, capsys):
    asked = []

    def request(_path, message, timeout=None):
        asked.append(message)
        return RELOADED | ({"confirm_within_s": 60} if known else {})

    monkeypatch.setattr(control, "request", request)
    known = True
    assert main(["reload", "--confirm", "1m", "--control", "/tmp/x.sock"]) == 0
    assert "`ipsec-dp confirm` within 60 s keeps it" in capsys.readouterr().out
    assert asked == [{"verb": "reload", "confirm_s": 60}]
    known = False
    assert main(["reload", "--confirm", "1m", "--control", "/tmp/x.sock"]) == 1
    assert "this gateway knows no --confirm" in capsys.readouterr().err


def test_confirm_asks_the_gateway_of_that_name(monkeypatch, capsys):
    requests = []

    def request(path: Path, message: dict[str, object]) -> dict[str, str]:
        requests.append((path, message))
        return {"gateway": "site-a", "confirmed": "this start"}

    monkeypatch.setattr(control, "request", request)
    assert main(["confirm", "site-a"]) == 0
    assert main(["confirm", "--control", "/tmp/x.sock"]) == 0
    assert requests == [
        (Path("/run/ipsec-dp/site-a.sock"), {"verb": "confirm", "name": "site-a"}),
        (Path("/tmp/x.sock"), {"verb": "confirm"}),
    ]
    assert capsys.readouterr().out == "this start is kept\n" * 2
