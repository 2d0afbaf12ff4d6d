"""What a person is told of twenty mistakes, by the log of `up` and by `status`, while hostA asks hostB each second.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Graded: 0 nothing, 1 that it failed, 2 the cause or the right candidates, 3 cause and remedy.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from ipsec_dp.rig.process import GatewayProcess
from tests.netns.mistakes import IPSEC_DP, MISTAKES, PATIENCE_S, Case

POLL_S = 0.2
PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
CALLED = {"calls": "a", "is called": "b"}
FAILED = re.compile(r"ERROR|WARNING|failed|error|cannot")


@pytest.fixture
def case(sites_opened_again, tmp_path):
    made = Case(sites_opened_again, tmp_path)
    yield made
    for undo in reversed(made.undo):
        undo()


def shown(gateway):
    """All that a person can read: the log, and `status`."""
    asked = gateway.namespace.run(*IPSEC_DP, "status", "--control", str(gateway.control), check=False)
    return gateway.text() + asked.stdout


MET_ELSEWHERE = {
    "another PPK",  # tests/interop/test_ppk_strongswan.py, tests/ike/test_ladder_ppk.py
    "ESP in UDP blocked",  # tests/netns/test_blocked_paths.py
}


def documented():
    """What the page says of each mistake: the pieces of text that each side shows, in their order."""
    found = {}
    for section in PAGE.read_text().split("\n### ")[1:]:
        name, _, body = section.partition("\n")
        rows = re.findall(r"^\| (calls|is called) \| (.+) \|$", body, re.MULTILINE)
        if rows:
            found[name] = {CALLED[side]: [piece.strip() for piece in text.split("…")] for side, text in rows}
    return found


def holds(text, pieces):
    """Whether `text`, whatever its lines, has these one after the other."""
    return re.search(".*?".join(map(re.escape, pieces)), " ".join(text.split())) is not None


def grade(text, told):
    if re.search(told.cause, text):
        return 3 if re.search(told.remedy, text) else 2
    return 1 if FAILED.search(text) else 0


def graded(case, mistake):
    """The grade that each side reaches in time, how long it took, and what was shown."""
    files = case.write()
    gateways = {side: GatewayProcess(case.gateway(side), files[side], case.program[side]) for side in case.started}
    pings = [case.sites.host_a.spawn("ping", "-n", "-i", "1", *case.ping)]
    if case.back:
        pings.append(case.sites.host_b.spawn("ping", "-n", "-i", "1", *case.back))
    found = dict.fromkeys(mistake.told, (0, 0.0, ""))
    begun = time.monotonic()
    try:
        for gateway in gateways.values():
            gateway.start()
        while time.monotonic() < begun + PATIENCE_S and any(value[0] < 3 for value in found.values()):
            for side, (best, _, _) in found.items():
                text = shown(gateways[side])
                if (now := grade(text, mistake.told[side])) > best or not best:
                    found[side] = now, time.monotonic() - begun, text
            time.sleep(POLL_S)
    finally:
        for ping in pings:
            ping.kill()
            ping.wait()
        for gateway in gateways.values():
            if gateway.process is not None and gateway.process.poll() is None:
                gateway.terminate()
    return found


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_cause_and_its_remedy(case, name):
    mistake = MISTAKES[name]
    mistake.make(case)
    found = graded(case, mistake)
    for side, (reached, seconds, _) in found.items():
        print(f"\n{name}, {side}: {reached} after {seconds:.1f} s")
    for side, (reached, _, text) in found.items():
        assert reached >= mistake.least, f"{side} reaches {reached} with:\n{text}"
        assert "Traceback" not in text
        assert "fault of ipsec-dp" not in text
        assert holds(text, documented()[name][side]), f"docs/troubleshooting.md says otherwise than {side}:\n{text}"


def test_each_is_on_the_page_that_people_read():
    page = {name: set(sides) for name, sides in documented().items() if name not in MET_ELSEWHERE}
    assert page == {name: set(each.told) for name, each in MISTAKES.items()}


def test_four_of_five_are_told_with_their_remedy():
    assert sum(mistake.least == 3 for mistake in MISTAKES.values()) >= 0.8 * len(MISTAKES)
    assert all(mistake.least >= 2 for mistake in MISTAKES.values())
