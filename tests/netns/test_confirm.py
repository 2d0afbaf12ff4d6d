"""Nobody is locked out for good: what is not confirmed goes back by itself, and who administers the gateway gets in again.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

gwB's outer address stands for who administers gwA by SSH: with 0.0.0.0/0 in the tunnel, its TCP port 22 is cut off.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import contextmanager

import pytest

from ipsec_dp.rig import netns
from tests.netns import harness
from tests.netns.leaks import guarded, watched
from tests.netns.traffic import ping, stream, until

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")
TRIAL_S = 4  # in which a program starts, and asks, on a busy machine
EVERYTHING = 'routes = ["0.0.0.0/0"]'
ADMIN, GATEWAY = netns.GW_B_OUTER[0], netns.GW_A_OUTER[0]


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


@contextmanager
def sshd(sites):
    """Listens at port 22 of gwA; yields whether who administers it is let in."""

    def listen():
        server = socket.create_server((GATEWAY, 22))
        server.settimeout(0.2)
        return server

    def reached():
        try:
            with socket.create_connection((GATEWAY, 22), timeout=0.5):
                return True
        except OSError:
            return False

    with sites.gw_a.call(listen):
        yield lambda: sites.gw_b.call(reached)


def for_everything(pair):
    """gwA protects everything from everywhere, the way of who administers it too."""
    text = pair.a.config.read_text()
    for old, new in (
        (f'remote = "{netns.SITE_B_NETS[0]}"', 'remote = "0.0.0.0/0"'),
        (f'local = "{netns.SITE_A_NETS[0]}"', 'local = "0.0.0.0/0"'),
        ('interface = "ipsec0"', f'interface = "ipsec0"\n{EVERYTHING}'),
    ):
        text = text.replace(old, new)
    pair.a.config.write_text(text)


def up_on_trial(pair, seconds):
    pair.a.program = ("env", f"SSH_CONNECTION={ADMIN} 50001 {GATEWAY} 22", *pair.a.program)
    with pair.a.log.open("ab") as log:
        arguments = ("up", str(pair.a.config), "--control", str(pair.a.control), "--confirm", f"{seconds}s")
        pair.a.process = pair.a.namespace.spawn(*pair.a.program, *arguments, stdout=log, stderr=log)


def cli(pair, *arguments):
    return pair.a.namespace.run(*IPSEC_DP, *arguments, "--control", str(pair.a.control), check=False)


def test_a_first_start_that_nobody_confirms_is_closed_but_for_who_administers(sites, pair, tmp_path):
    for_everything(pair)
    with sshd(sites) as let_in:
        assert let_in()  # the control
        up_on_trial(pair, TRIAL_S)
        pair.a.wait_up()
        assert not let_in()
        assert pair.a.wait(TRIAL_S + 15) == 1
        assert let_in()
        assert guarded(sites)
        with stream(sites.host_a, harness.BOTH), watched(sites, tmp_path) as crossed:
            assert crossed() == set()
    text = pair.a.text()
    assert f'local = "{GATEWAY}"\nremote = "{ADMIN}"\nprotocol = "tcp"\nlocal_ports = 22\n' in text
    assert f"this start was not confirmed within {TRIAL_S} s" in text
    assert "Traceback" not in text
    done = sites.gw_a.run(*IPSEC_DP, "open", "gwA", "--yes-in-clear", check=False)
    assert done.returncode == 0, done.stderr
    assert not guarded(sites)


def test_a_start_that_is_confirmed_stays_up(sites, pair):
    up_on_trial(pair, 2 * TRIAL_S)
    assert any("ipsec-dp confirm gwA" in text for text in pair.a.wait_up()["warnings"])
    done = cli(pair, "confirm")
    assert (done.returncode, done.stdout) == (0, "this start is kept\n")
    confirmed = time.monotonic()
    pair.b.start()
    pair.b.wait_up()
    until(lambda: time.monotonic() > confirmed + 2 * TRIAL_S + 1, "the time in which it would have gone back")
    ping(sites.host_a, netns.HOST_B[0])
    assert cli(pair, "confirm").returncode == 1
    assert pair.stop() == (0, 0)


def test_a_reload_that_nobody_confirms_goes_back(sites, pair):
    pair.start()
    up = sites.gw_a.call(harness.picture)
    with sshd(sites) as let_in:
        for_everything(pair)
        done = cli(pair, "reload", "--confirm", f"{TRIAL_S}s")
        assert done.returncode == 0, done.stderr
        assert f"`ipsec-dp confirm` within {TRIAL_S} s keeps it" in done.stdout
        assert not let_in()
        until(let_in, "the way of who administers", 2 * TRIAL_S + 10)
    until(lambda: "the former configuration is in force again" in pair.a.text(), "the former configuration")
    assert harness.difference(up, sites.gw_a.call(harness.picture)) == []
    ping(sites.host_a, netns.HOST_B[0])
    assert pair.stop() == (0, 0)
