"""The conformance kit's command and its reports: formats, exit statuses, what is told of bad options, and that no key is in it."""

from __future__ import annotations

import json
import select
import socket
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ipsec_dp.rig.conformance import report
from ipsec_dp.rig.conformance.__main__ import main
from ipsec_dp.rig.conformance.run import CaseOutcome, Verdict, all_passed
from ipsec_dp.rig.conformance.table import CASES
from tests.ike.under_test import LadderWire

SECRET = "a secret both of them know"
HOST = "gw.example"
PASSED, FAILED, NOT_APPLICABLE = CaseOutcome
VERDICTS = [
    Verdict(CASES[0], PASSED, seconds=0.25),
    Verdict(CASES[1], FAILED, "it says \x1b[2J and goes on about it in a sentence that does not fit a line of eighty columns", 1.5),
    Verdict(CASES[2], NOT_APPLICABLE, "there is none"),
]


# ---- reports


def test_the_table_has_eighty_columns_and_each_case_its_section():
    text = report.text([*VERDICTS, *(Verdict(case, NOT_APPLICABLE, "x" * 300) for case in CASES)], "h" * 200)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for case in CASES:
        assert any(case.section in line and case.name[:30] in line and case.level in line for line in lines)
    assert "\x1b" not in text


def test_the_table_says_what_was_instead_and_sums_up():
    text = report.text(VERDICTS, HOST)
    assert "FAILED        MUST   RFC 7296 §3.1      init-header-is-right" in text
    assert "    instead: it says \\x1b[2J and goes on" in text
    assert "    since: there is none" in text
    assert text.endswith("1 passed, 1 failed, 1 not applicable\n")


def test_json_has_every_case():
    found = json.loads(report.as_json(VERDICTS, HOST))
    assert (found["schema"], found["host"]) == ("ipsec-dp.conformance.v1", HOST)
    assert found["counts"] == {"passed": 1, "failed": 1, "not applicable": 1}
    assert found["cases"][1] == {
        "case": "init-header-is-right",
        "section": "RFC 7296 §3.1",
        "level": "MUST",
        "must": CASES[1].what,
        "outcome": "failed",
        "text": "it says \\x1b[2J and goes on about it in a sentence that does not fit a line of eighty columns",
        "seconds": 1.5,
    }


def test_junit_counts_failures_and_skips():
    suite = ET.fromstring(report.junit(VERDICTS, HOST))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    passed, failed, skipped = suite
    assert list(passed) == []
    assert (failed.get("classname"), failed[0].tag) == ("RFC 7296 §3.1", "failure")
    assert skipped[0].tag == "skipped"


@pytest.mark.parametrize(("outcome", "good"), [(PASSED, True), (NOT_APPLICABLE, True), (FAILED, False)])
def test_one_failure_is_enough(outcome, good):
    assert all_passed([VERDICTS[0], replace(VERDICTS[0], outcome=outcome), VERDICTS[2]]) is good


# ---- the command, over sockets of this host


class OverSockets:
    """A gateway in memory behind two UDP sockets, until it is left."""

    def __init__(self, **changes):
        self.wire = LadderWire(**changes)
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for each in self.sockets:
            each.bind(("127.0.0.1", 0))
        self.ports = [each.getsockname()[1] for each in self.sockets]
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        peers = {}
        while not self.ended.is_set():
            ready, _, _ = select.select(self.sockets, [], [], 0.05)
            for each in ready:
                natt = self.sockets.index(each)
                octets, peers[natt] = each.recvfrom(65_535)
                self.wire.send(octets, natt=bool(natt))
                while self.wire.waiting:
                    answer = self.wire.waiting.pop(0)
                    self.sockets[answer.natt].sendto(answer.octets, peers[int(answer.natt)])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        for each in self.sockets:
            each.close()


@pytest.fixture
def psk(tmp_path):
    file = tmp_path / "kit.psk"
    file.touch(mode=0o600)
    file.write_text(SECRET)
    return file


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


def against(gateway, psk, *more):
    who = ("--id", "gwa.example", "--peer-id", "gwb.example", "--rate", "50", "--port", *gateway.ports)
    return run("127.0.0.1", "--psk-file", psk, *who, *more)


def test_a_gateway_that_fails_nothing(psk, tmp_path):
    output = tmp_path / "report.json"
    with OverSockets() as gateway:
        done = against(
            gateway, psk, "--echo", "10.2.0.9", "--case", "auth-*", "--case", "esp-replay", "--format", "json", "--output", output
        )
    assert done.exit_code == 0, done.output
    found = json.loads(output.read_text())
    assert found["counts"]["passed"] == len([case for case in CASES if case.name.startswith("auth-")]) + 1
    assert SECRET not in output.read_text()


def test_a_gateway_that_fails_something(psk):
    with OverSockets(flaws={"replays are taken"}) as gateway:
        done = against(gateway, psk, "--echo", "10.2.0.9", "--case", "esp-replay", "--case", "esp-wrong-icv")
    assert done.exit_code == 1
    assert "1 passed, 1 failed, 0 not applicable" in done.output


def test_nobody_there(psk):
    with OverSockets() as gateway:
        ports = gateway.ports
    done = run("127.0.0.1", "--psk-file", psk, "--port", *ports)
    assert done.exit_code == 2
    assert f"127.0.0.1 port {ports[0]}: Connection refused; is the gateway up" in done.output


def test_another_key(tmp_path, psk):
    other = tmp_path / "other.psk"
    other.touch(mode=0o600)
    other.write_text("a secret that only one of them knows")
    with OverSockets() as gateway:
        done = against(gateway, other, "--case", "init-is-answered")
    assert done.exit_code == 2
    assert "no IKE SA with a CHILD_SA comes up" in done.output
    assert "compare key, identities, proposals and selectors" in done.output
    assert "secret" not in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "HOST and --psk-file are needed"),
        (["--list", "--case", "no-such-*"], "no case is named no-such-*; --list shows their names"),
        (["gw", "--psk-file", "PSK", "--local-ts", "10.1.0.0/33"], "--local-ts: '10.1.0.0/33' does not appear"),
        (["gw", "--psk-file", "PSK", "--echo", "nobody"], "write an address behind the gateway"),
        (["gw", "--psk-file", "PSK", "--echo", "fd00::1"], "no --local-ts is of its IP version; add one"),
        (["gw", "--psk-file", "PSK", "--echo", "10.2.0.1", "--echo-from", "fd00::1"], "of different IP versions"),
        (["gw", "--psk-file", "PSK", "--proposal", "rot13"], "'rot13' is not known here"),
        (["gw", "--psk-file", "PSK", "--id", "*"], "is nobody"),
        (["gw", "--psk-file", "/no/such/file"], "/no/such/file"),
        (["127.0.0.1", "--psk-file", "PSK", "--rate", "1000"], "--rate"),
    ],
)
def test_bad_options_are_named_with_a_remedy(psk, arguments, said):
    done = run(*(str(psk) if each == "PSK" else each for each in arguments))
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert SECRET not in done.output


def test_a_name_that_is_no_host(psk):
    done = run("no.such.host.invalid", "--psk-file", psk)
    assert done.exit_code == 2
    assert "no address of that name" in done.output
    assert "write an address" in done.output


def test_the_list_names_each_case_with_its_section():
    done = run("--list")
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 80
    flowing = " ".join(done.output.split())
    for case in CASES:
        assert f"{case.name} {case.level} {case.section}: {case.what} " in flowing
        assert not case.unless or f"{case.what} not applicable where {case.unless}" in flowing
    assert "SHOULD" not in run("--list", "--level", "must").output


def test_each_case_that_the_documents_name_is_there():
    text = (Path(__file__).parents[2] / "docs/conformance.md").read_text()
    named = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `") and not line.startswith("| `-")}
    assert named - {case.name for case in CASES} == set()
    assert named
