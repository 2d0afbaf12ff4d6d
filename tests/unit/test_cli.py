"""The command: verbs, exit statuses, JSON, and what a person sees when something is missing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from ipsec_dp import __version__
from ipsec_dp.bench import esp
from ipsec_dp.cli import asking, demo, doctor, main
from ipsec_dp.cli.commands import program
from ipsec_dp.errors import ControlError, NoDaemonError
from ipsec_dp.gateway import control, daemon

GOOD = """
[gateway]
name = "site-a"
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
[tunnel.auth]
psk_file = "to-b.psk"
"""
SECTIONS = {
    "Begin": ["demo", "doctor", "init", "import", "check"],
    "Run a gateway": ["up", "down", "reload", "upgrade", "confirm", "guard", "open"],
    "See what it does": ["status", "top", "policy", "capture", "log"],
    "One tunnel": ["initiate", "rekey", "terminate", "unpin", "test"],
    "Find out more": ["probe", "bugreport", "bench", "completion", "version"],
}
VERBS = [verb for verbs in SECTIONS.values() for verb in verbs]
FINDING = {
    "severity": "error",
    "file": "b.toml",
    "where": "gateway",
    "key": "name",
    "wrong": "cannot be changed",
    "right": "write the former",
}
STATUS = {"schema": 1, "gateway": "site-a", "tunnels": [], "drops": {}}


@pytest.fixture
def good(tmp_path):
    """A configuration without findings."""
    (tmp_path / "to-b.psk").write_text("correct horse battery staple")
    (tmp_path / "to-b.psk").chmod(0o600)
    path = tmp_path / "a.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def gateway(monkeypatch):
    """A gateway that answers every request with what is put into `answer`, and keeps the requests."""
    seen = SimpleNamespace(answer=STATUS, requests=[])

    def request(path: Path, message: dict[str, object]) -> object:
        seen.requests.append((path, message))
        if isinstance(seen.answer, BaseException):
            raise seen.answer
        return seen.answer

    monkeypatch.setattr(control, "request", request)
    return seen


# ---- help and usage --------------------------------------------------------------------------------------------------------------


def test_help_lists_each_verb_once_under_what_one_wants(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    _, begin, rest = text.partition("\nBegin:\n")
    blocks = [block.splitlines() for block in (begin.lstrip() + rest).split("\n\n")[: len(SECTIONS)]]
    assert {heading: [line.split()[0] for line in lines] for heading, *lines in blocks} == {
        f"{heading}:": verbs for heading, verbs in SECTIONS.items()
    }
    assert list(program.commands) == VERBS
    lines = [line for _, *lines in blocks for line in lines]
    assert {len(re.sub(r"^( *\S+ +).*", r"\1", line)) for line in lines} == {len("  completion  ")}, "one column"
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == [], "whole sentences"
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("verb", [*VERBS, "policy explain"])
def test_every_verb_has_help_with_an_example(capsys, verb):
    assert main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: ipsec-dp {verb} ")
    assert verb == "policy" or f"ipsec-dp {verb}" in text.partition("Examples:")[2]


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["up"], ["status", "--nonsense"], ["status", "--watch", "--json"], ["initiate"]]
)
def test_wrong_usage_is_exit_status_2(capsys, arguments):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: " in captured.err


@pytest.mark.parametrize(
    ("arguments", "asked", "said"),
    [
        (["initiate", "to-b"], {"verb": "initiate", "name": "to-b"}, "to-b: calling"),
        (["rekey", "to-b"], {"verb": "rekey", "name": "to-b", "ike": False}, "to-b: rekeying"),
        (["rekey", "to-b", "--ike"], {"verb": "rekey", "name": "to-b", "ike": True}, "to-b: rekeying"),
        (["terminate", "to-b"], {"verb": "terminate", "name": "to-b"}, "to-b: terminated"),
    ],
)
def test_verbs_of_a_negotiation_ask_the_gateway(monkeypatch, capsys, arguments, asked, said):
    requests = []

    def request(path, message):
        requests.append((str(path), message))
        return {"tunnel": "to-b", "verb": message["verb"]}

    monkeypatch.setattr(control, "request", request)
    assert main([*arguments, "--control", "/tmp/x.sock"]) == 0
    assert requests == [("/tmp/x.sock", asked)]
    assert capsys.readouterr().out == f"{said}\n"


def test_unpin_asks_the_gateway_and_says_for_how_long(monkeypatch, capsys):
    requests = []

    def request(_path, message):
        requests.append(message)
        return {"tunnel": "to-b", "verb": "unpin"}

    monkeypatch.setattr(control, "request", request)
    assert main(["unpin", "to-b", "--control", "/tmp/x.sock"]) == 0
    assert requests == [{"verb": "unpin", "name": "to-b"}]
    assert "until it has authenticated with IKEv2 again" in capsys.readouterr().out


def test_version(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"ipsec-dp {__version__} ")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"ipsec-dp {__version__} (Python ")
    assert main(["version", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == __version__
    libraries = {each["name"]: each for each in said["libraries"]}
    assert set(libraries) - {"libIPSec_MB"} == {"libcrypto", "libcrypto of cryptography"}
    assert all(re.search(r"\d+\.\d+\.\d+", each["version"]) and Path(each["file"]).exists() for each in libraries.values())
    assert not libraries["libcrypto"]["bundled"], "an extension that was built here takes it from the system"
    assert libraries["libcrypto of cryptography"]["bundled"]


DRY = {"schema": 1, "file": "b.toml", "added": ["new"], "removed": [], "kept": 3, "findings": [], "read_s": 0.1, "applied_s": 0}
CHANGES = [{"name": "to-b", "keys": ["esp.lifetime_s"], "effect": "new CHILD_SAs"}]


def test_a_dry_run_shows_what_would_change_and_asks_for_no_reload(monkeypatch, capsys):
    asked = []

    def request(path, message, **_):
        asked.append(message)
        return {**DRY, "applied": False, "dry_run": True, "changed": CHANGES}

    monkeypatch.setattr(control, "request", request)
    assert main(["reload", "/etc/b.toml", "--dry-run", "--control", "x"]) == 0
    assert asked == [{"verb": "preview", "file": "/etc/b.toml"}]
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["new", "added"] in lines
    assert ["to-b", "changed", "esp.lifetime_s", "new", "CHILD_SAs"] in lines
    assert "3 would be kept as they are; nothing was changed".split() in lines
    assert main(["reload", "--dry-run", "--confirm", "60s", "--control", "x"]) == 2


def test_a_dry_run_of_a_bad_file_is_exit_status_2(monkeypatch, capsys):
    refusal = {"schema": 1, "applied": False, "file": "b.toml", "findings": [FINDING]}
    monkeypatch.setattr(control, "request", lambda *_, **__: refusal)
    assert main(["reload", "b.toml", "--dry-run", "--control", "x"]) == 2
    assert capsys.readouterr().err == "b.toml: gateway: name: cannot be changed; write the former\n"


# ---- check and up ----------------------------------------------------------------------------------------------------------------


def test_check_says_that_a_good_file_is_good(capsys, good):
    assert main(["check", str(good)]) == 0
    captured = capsys.readouterr()
    first, *_ = captured.out.splitlines()
    assert first == f"{good}: good: 1 tunnel, 0 policies, 0 routes"
    assert captured.err == ""


def test_check_prints_one_line_for_each_finding_and_exits_2(capsys, good):
    good.write_text(GOOD.replace("remote", "remoet") + 'psk = "x"\n')
    assert main(["check", str(good)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f'{good}:6:1: tunnel "to-b": remoet: unknown key; did you mean "remote"?',
        f'{good}:9:1: tunnel "to-b": auth.psk: unknown key; did you mean "psk_file"?',
        f'{good}:4:1: tunnel "to-b": remote: is missing; write a string or an array, each a string, e.g. "192.0.2.2"',
    ]


def test_check_as_json(capsys, good):
    assert main(["check", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "file": str(good), "ok": True, "findings": []}
    good.write_text("[gateway]\nworkers = 0\n")
    assert main(["check", str(good), "--json"]) == 2
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["severity"], finding["where"], finding["key"]) == ("error", "gateway", "workers")


def test_up_runs_the_daemon_with_the_configuration_and_its_socket(good, monkeypatch):
    calls = []

    def run(config, control, _trial=None, **_log):
        calls.append((config.name, control))
        return 7

    monkeypatch.setattr(daemon, "run", run)
    assert main(["up", str(good)]) == 7
    assert main(["up", str(good), "--control", "/tmp/x.sock"]) == 7
    assert calls == [("site-a", Path("/run/ipsec-dp/site-a.sock")), ("site-a", Path("/tmp/x.sock"))]


def test_up_refuses_a_bad_file_before_anything_starts(capsys, good, monkeypatch):
    monkeypatch.setattr(daemon, "run", lambda *_: pytest.fail("started"))
    good.write_text(GOOD + "[tunnel.esp]\nreplay_window = 1000\n")
    assert main(["up", str(good)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---- a running gateway -----------------------------------------------------------------------------------------------------------


def test_status_asks_for_one_tunnel_or_those_in_a_state(gateway):
    assert main(["status", "to-b", "--state", "failed", "--control", "/tmp/x.sock"]) == 0
    assert gateway.requests == [(Path("/tmp/x.sock"), {"verb": "status", "name": "to-b", "state": "failed"})]
    assert main(["status", "--state", "nonsense"]) == 2


def test_status_and_down_ask_the_gateway(capsys, gateway):
    assert main(["status", "--json", "--control", "/tmp/x.sock"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS
    assert main(["down", "--control", "/tmp/x.sock"]) == 0
    assert gateway.requests == [(Path("/tmp/x.sock"), {"verb": "status"}), (Path("/tmp/x.sock"), {"verb": "down"})]


@pytest.mark.parametrize(
    ("error", "status"), [(NoDaemonError("nobody there"), 3), (ControlError("broke off"), 1), (KeyboardInterrupt(), 1)]
)
def test_what_goes_wrong_there_is_one_line_and_an_exit_status(capsys, gateway, error, status):
    gateway.answer = error
    assert main(["status", "--control", "/tmp/x.sock"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == str(error)


def listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    return server


def test_without_control_the_hosts_own_gateway_or_the_only_one_is_meant(tmp_path):
    with pytest.raises(NoDaemonError, match="no gateway runs here"):
        asking.find_control(tmp_path, "host")
    with listen(tmp_path / "b.sock"):
        assert asking.find_control(tmp_path, "host") == tmp_path / "b.sock"
        with listen(tmp_path / "c.sock"):
            with pytest.raises(click.UsageError, match=r"b\.sock, .*c\.sock"):
                asking.find_control(tmp_path, "host")
            with listen(tmp_path / "host.sock"):
                assert asking.find_control(tmp_path, "host") == tmp_path / "host.sock"


PARTS = {"doctor": doctor, "demo": demo, "bench": esp}


@pytest.mark.parametrize(("verb", "module"), PARTS.items(), ids=["doctor-doctor", "demo-demo", "bench-bench.esp"])
def test_a_part_that_cannot_be_loaded_is_named(capsys, monkeypatch, verb, module):
    package, _, name = module.__name__.rpartition(".")
    monkeypatch.setattr(module, "run", lambda **_: pytest.fail("the real one ran"))
    monkeypatch.delattr(sys.modules[package], name)
    monkeypatch.setitem(sys.modules, module.__name__, None)
    assert main([verb]) == 1
    assert f"{module.__name__} cannot be loaded" in capsys.readouterr().err


def test_doctor_demo_and_bench_return_their_own_status(monkeypatch):
    asked = []

    def run(**arguments):
        asked.append(arguments)
        return 1

    for verb, module in PARTS.items():
        monkeypatch.setattr(module, "run", run)
        assert main([verb, "--json"]) == 1
    assert asked == [{"json": True}, {"output": Path("build/demo"), "json": True}, {"json": True}]


@pytest.mark.parametrize(("verb", "module"), [("up", daemon), ("demo", demo)])
def test_what_runs_until_it_is_interrupted_can_be(good, monkeypatch, verb, module):
    """A shell that starts it in the background lets it inherit SIGINT as ignored."""
    dispositions = []

    def run(*_: object, **__: object) -> int:
        dispositions.append(signal.getsignal(signal.SIGINT))
        return 0

    monkeypatch.setattr(module, "run", run)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main([verb, *[str(good)] * (verb == "up")]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert dispositions in ([signal.default_int_handler], [signal.SIG_DFL])


# ---- as a process ----------------------------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_causes_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-m", "ipsec_dp", "--help"], stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
