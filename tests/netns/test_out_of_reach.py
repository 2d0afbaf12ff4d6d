"""A gateway whose program lies where only root comes, as in a checkout below /root: it goes on when it is not root any more.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB        gwA's program, and all that it imports, in a directory of mode 0700
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.harness import BOTH
from tests.netns.test_privileges import NEEDED, bits, status_of
from tests.netns.traffic import ping

ROOT = Path(__file__).parents[2]
LIBRARIES = Path(click.__file__).parents[1]
MOUNTED = 'mount --bind "$1" "$3"; mount --bind "$2" "$4"; export PYTHONPATH="$3:$4"; shift 4; exec "$@"'


@pytest.fixture
def pair(shared_sites, tmp_path):
    made = GatewayPair(shared_sites, tmp_path, IkePair())
    closed = tmp_path / "closed"
    for name in ("program", "libraries"):
        (closed / name).mkdir(parents=True)
    closed.chmod(0o700)
    places = (ROOT, LIBRARIES, closed / "program", closed / "libraries")
    inside = ("unshare", "--mount", "sh", "-e", "-c", MOUNTED, "sh", *map(str, places))
    made.a.program = (*inside, sys.executable, "-P", "-m", "ipsec_dp")
    yield made
    made.a.kill()
    made.b.kill()


def test_it_negotiates_and_carries_as_the_user(shared_sites, pair):
    """Whatever is imported by the first key exchange, certificate or packet is found."""
    pair.start()
    pair.a.wait_negotiated()
    assert bits(status_of(pair.a.process.pid)["CapEff"]) == NEEDED
    for _, address in BOTH:
        ping(shared_sites.host_a, address)
    assert "ModuleNotFoundError" not in pair.a.text()
    assert pair.a.down() == 0
    assert pair.b.down() == 0
    assert netns.SITE_B_NETS[0] not in shared_sites.gw_a.run("ip", "route", "show", "table", "all").stdout
