"""docs/start.md alone, on a Debian 12 made for the test: from a checkout to a tunnel in less than five minutes."""

from __future__ import annotations

import re
import shutil
import time

import pytest

from tests.netns.test_start_page import MARKED
from tests.packaging.debian import ROOT
from tests.packaging.test_distributions import NOT_SOURCE

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1800)]
BAR_S = 300
PAGE = (ROOT / "docs/start.md").read_text()
# Its namespaces are made in this test's own host.
HERE = ("env",)


def test_from_a_checkout_to_the_first_tunnel(debian, record_property):
    """Below /root, where only root comes. Wheels are there already: what an index takes is the network's."""
    checkout = debian.path / "root/ipsec_dp"
    shutil.copytree(ROOT, checkout, ignore=NOT_SOURCE)
    debian.give_packages()
    assert (debian.path / "root").stat().st_mode & 0o077 == 0
    (install,) = re.findall(r"^```sh\n(apt-get update.*)\n```$", PAGE, re.MULTILINE)
    setup, *blocks = MARKED.findall(PAGE)

    begun = time.monotonic()
    debian.run("sh", "-e", "-c", install)
    said = debian.run("sh", "-c", f"cd /root/ipsec_dp\n{setup}")
    assert "what helps: sysctl -w net.ipv4.ip_forward=1" in said or "IPv4 forwarding         on" in said
    said = debian.run("bash", "-e", "-c", "cd /root/ipsec_dp\n" + "\n".join(blocks), outside=HERE)
    seconds = time.monotonic() - begun
    record_property("seconds", round(seconds))

    assert "3 received" in said
    assert "to-b: up" in said
    assert seconds < BAR_S
