"""What the targets of the Makefile run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MARKERS = {
    "test": "not slow",
    "test-unit": "not slow and not netns and not interop",
    "test-interop": "interop and not slow",
    "test-netns": "netns and not interop and not slow",
    "test-slow": "slow",
    "asan": "not slow and not measure",
}


@pytest.mark.parametrize("target", MARKERS)
def test_every_test_of_a_target_shares_the_machine_or_has_it_alone(target):
    said = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    every = MARKERS[target]
    assert re.findall(r'-m "(.*?)"', said) == [f"({every}) and not alone", f"({every}) and alone"]


@pytest.mark.parametrize("target", MARKERS)
def test_no_report_of_a_target_is_left_out_when_they_are_merged(target):
    said = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    written = re.findall(r"JUNIT=\S*/(build/junit/parts/\S+\.xml)|--junit-xml=\S*/(build/junit/parts/\S+\.xml)", said)
    (merged,) = re.findall(r"junit_gate\.py merge \S+ ((?:\S+\.xml[ \\\n]*)+)", said)
    assert merged.replace("\\", " ").split() == [native or python for native, python in written]


def test_what_is_started_a_thousand_times_is_compiled_once():
    """Also where the environment asks for no compiled files, as that of container images does."""
    probe = 'probe: ; @echo "<$${PYTHONDONTWRITEBYTECODE-}>"'
    command = ["make", "--eval", probe, "probe"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "<>\n"
