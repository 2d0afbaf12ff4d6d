"""`ipsec-dp init`: each usual case becomes a file that passes `check`, and what the other side has to be set to is said."""

from __future__ import annotations

import json
import os
import pty
import shlex
import stat
import subprocess
import sys
from ipaddress import ip_address

import pytest

from ipsec_dp.cli import main
from ipsec_dp.cli.lone_trial import source_towards
from ipsec_dp.config import examine, load
from ipsec_dp.migrate.usual_cases import CASES, QUESTIONS, fresh_key, mirrored, other_side
from tests.unit.migration_cases import put_certificates

SITES = [
    "--remote",
    "192.0.2.2",
    "--local",
    "192.0.2.1",
    "--local-net",
    "10.1.0.0/24,2001:db8:1::/48",
    "--remote-net",
    "10.2.0.0/24",
]
CERTIFICATES = ["--certificate", "gw-a.pem", "--private-key", "gw-a.key", "--ca", "ca.pem", "--local-id", "gw-a.example"]
PSK = ["--psk-file", "to-b.psk", "--new-psk"]
GIVEN = {
    "site-to-site": [*SITES, *PSK],
    "certificates": [*SITES, *CERTIFICATES, "--remote-id", "gw-b.example"],
    "hub": ["--local-net", "10.0.0.0/16", "--remote-net", "10.99.0.1/32", "--remote-id", "alice@example", *PSK],
    "on-demand": [*SITES, *PSK],
    "ikev1": [*SITES, *PSK],
}


def init(directory, *arguments):
    return main(["init", str(directory / "a.toml"), "--name", "site-a", "--no-input", *arguments])


@pytest.mark.parametrize("case", CASES)
def test_a_case_passes_check(case, tmp_path, capsys):
    if case == "certificates":
        put_certificates(tmp_path, "panos")
    assert init(tmp_path, "--case", case, *GIVEN[case]) == 0
    config, findings = examine(tmp_path / "a.toml")
    assert config is not None
    assert [str(finding) for finding in findings if finding.severity == "error"] == []
    (tunnel,) = config.tunnels
    assert tunnel.ike.version == (1 if case == "ikev1" else 2)
    assert tunnel.start == CASES[case].start
    assert bool(tunnel.remotes) == (case != "hub")
    said = capsys.readouterr().out
    assert "The other side has to be set to:" in said
    assert max(len(line) for line in said.splitlines() if "ipsec-dp init" not in line and str(tmp_path) not in line) <= 80


def test_the_key_is_random_and_its_owners_alone(tmp_path, capsys):
    keys = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert init(tmp_path / name, *GIVEN["site-to-site"]) == 0
        path = tmp_path / name / "to-b.psk"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        keys.append(path.read_text().strip())
    assert keys[0] != keys[1]
    assert all(len(key) == 44 for key in keys)
    assert not any(key in capsys.readouterr().out for key in keys)


def test_a_key_that_would_be_read_as_another_is_drawn_again():
    draws = iter([bytes.fromhex("d2c0") + bytes(30), bytes.fromhex("d31f") + bytes(30), bytes(32)])  # "0s…", "0x…"
    assert fresh_key(lambda _: next(draws)) == b"A" * 43 + b"=\n"


def test_the_mirrored_command_makes_the_other_side(tmp_path, capsys):
    (tmp_path / "b").mkdir()
    assert init(tmp_path, *GIVEN["site-to-site"], "--local-id", "gw-a.example") == 0
    (tmp_path / "b" / "to-b.psk").write_bytes((tmp_path / "to-b.psk").read_bytes())
    (tmp_path / "b" / "to-b.psk").chmod(0o600)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  ipsec-dp init --case"))
    assert main([*shlex.split(line)[1:], "--no-input", "--name", "site-b", str(tmp_path / "b" / "b.toml")]) == 0
    (ours,), (theirs,) = load(tmp_path / "a.toml").tunnels, load(tmp_path / "b" / "b.toml").tunnels
    assert (ours.local, ours.remotes) == (*theirs.remotes, (theirs.local,))
    assert ours.auth is not None
    assert theirs.auth is not None
    assert ours.auth.local_id == theirs.auth.remote_id == "gw-a.example"
    assert {(one.local.prefix_text, one.remote.prefix_text) for one in theirs.proxy_ids} == {("10.2.0.0/24", "10.1.0.0/24")}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "needs --remote"),
        ([*SITES, "--psk-file", "to-b.psk"], 2, "no such file"),
        ([*SITES[:-1], "10.2.0.1/24", *PSK], 2, "--remote-net"),
        ([*SITES, *PSK, "--tunnel", "a b"], 2, "--tunnel"),
        (["--case", "hub", "--local-net", "10.0.0.0/16", "--remote-net", "10.9.0.0/16", *PSK], 2, "needs --remote-id"),
        (["--case", "certificates", *SITES, *CERTIFICATES, "--remote-id", "b.example", "--new-psk"], 2, "no meaning"),
    ],
)
def test_what_lacks_or_is_wrong_is_said_and_nothing_written(arguments, status, words, tmp_path, capsys):
    assert init(tmp_path, *arguments) == status
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "to-b.psk").write_text("mine")
    assert init(tmp_path, *GIVEN["site-to-site"]) == 1
    (tmp_path / "a.toml").write_text("mine too")
    assert init(tmp_path, *GIVEN["site-to-site"]) == 1
    assert capsys.readouterr().err.count("nothing is overwritten") == 2
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"to-b.psk": "mine", "a.toml": "mine too"}


def test_json(tmp_path, capsys):
    assert init(tmp_path, *GIVEN["site-to-site"], "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["other_side"]["its peer (remote gateway)"] == "192.0.2.1"
    assert said["secrets"] == [str(tmp_path / "to-b.psk")]


def test_on_a_terminal_it_asks(tmp_path):
    answers = ["1", "to-b", "nobody here", "127.0.0.2", "10.1.0.0/24", "10.2.0.0/24", "", "", "", "y"]
    status, said = on_a_terminal(tmp_path, ["init", "--name", "site-a"], answers)
    assert status == 0, said
    assert said.count("The peer's address") == 2  # "nobody here" is none
    (tunnel,) = load(tmp_path / "ipsec-dp.toml").tunnels
    assert (tunnel.name, tunnel.local) == ("to-b", None)
    assert (tmp_path / "to-b.psk").is_file()


def test_where_everything_is_given_it_asks_nothing_and_our_address_is_that_of_the_route(tmp_path):
    """The file says so, and the other side is told it."""
    source = source_towards(ip_address("127.0.0.2"))
    given = ["--remote", "127.0.0.2", "--local-net", "10.1.0.0/24", "--remote-net", "10.2.0.0/24", *PSK]
    status, said = on_a_terminal(tmp_path, ["init", "--case", "site-to-site", "--name", "site-a", *given], [])
    assert status == 0, said
    assert "e.g." not in said
    text = (tmp_path / "ipsec-dp.toml").read_text()
    assert f'remote = "127.0.0.2" # from where the route to it begins, now {source}; local fixes another' in " ".join(text.split())
    assert load(tmp_path / "ipsec-dp.toml").tunnels[0].local is None
    assert f"its peer (remote gateway)  {source}" in said
    assert f"--remote {source} --local 127.0.0.2" in said


def on_a_terminal(directory, arguments, answers):
    """Exit status of a command, and what it wrote."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "ipsec_dp", *arguments]
    with subprocess.Popen(command, cwd=directory, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        os.write(master, "".join(f"{answer}\n" for answer in answers).encode())
        said = b""
        try:
            while piece := os.read(master, 65536):
                said += piece
        except OSError:
            pass  # the other end is closed: it has ended
        status = process.wait(60)
    os.close(master)
    return status, said.decode().replace("\r\n", "\n")


def test_without_a_terminal_it_never_asks(tmp_path):
    command = [sys.executable, "-m", "ipsec_dp", "init"]
    run = subprocess.run(command, cwd=tmp_path, input="1\n" * 20, capture_output=True, text=True, check=False, timeout=30)
    assert (run.returncode, run.stdout) == (2, "")
    assert "needs --remote" in run.stderr


def test_every_question_has_an_option_and_an_example_that_holds():
    for question in QUESTIONS:
        question.parse(question.example)
    assert {key for case in CASES.values() for key in case.needs} <= {question.key for question in QUESTIONS}


def test_nothing_is_said_that_was_not_answered():
    answers = {"remote": "192.0.2.2", "local_net": "10.1.0.0/24", "remote_net": "10.2.0.0/24", "psk_file": "to-b.psk"}
    assert mirrored(CASES["site-to-site"], answers) is None
    assert dict(other_side(CASES["ikev1"], answers))["IKE version"] == "IKEv1, main mode"
