"""A peer that was unpacked beside the system: it has a /usr of its own, and nobody else has."""

from __future__ import annotations

import subprocess

import pytest

from ipsec_dp.rig import peers
from ipsec_dp.rig.peers import Daemon

# What only the own /usr holds is read by a program that needs no library of either.
SOURCE = """
#include <stdio.h>
int main(void) {
    char text[64] = "";
    FILE *own = fopen("/usr/own", "r");
    return own == NULL || fgets(text, sizeof text, own) == NULL || printf("%s", text) < 0;
}
"""


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The program, unpacked."""
    unpacked = tmp_path / "peers"
    (unpacked / "usr/bin").mkdir(parents=True)
    (unpacked / "usr/own").write_text("of the peer")
    monkeypatch.setattr(peers, "UNPACKED", unpacked)
    program = unpacked / "usr/bin/reader"
    subprocess.run(["gcc", "-static", "-x", "c", "-o", str(program), "-"], input=SOURCE, text=True, check=True)
    return str(program)


def test_it_has_the_usr_that_it_was_unpacked_with(lab, tmp_path, reader):
    daemon = Daemon(lab.namespace("alone"), tmp_path / "a", unpacked=True)
    daemon.run_directory.mkdir(parents=True)
    assert daemon.run(reader) == "of the peer"
    daemon.start(reader)
    assert daemon.process is not None
    daemon.process.wait(10)
    daemon.stop()
    assert daemon.text() == "of the peer"

    daemon.unpacked = False
    assert "of the peer" not in daemon.namespace.run("sh", "-c", "cat /usr/own; true").stdout
