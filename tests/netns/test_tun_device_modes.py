"""A gateway that has given up root makes its interfaces whatever the mode of /dev/net/tun, also later on: a kernel without udev
makes it root's alone.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB        gwA in a mount namespace with a device of its own
"""

from __future__ import annotations

import sys
from functools import partial

import pytest

from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.harness import BOTH
from tests.netns.test_privileges import NEEDED, bits, status_of
from tests.netns.traffic import ping, until

OWN_DEVICE = 'mount -t tmpfs -o dev,mode=755 tmpfs "$1"; mknod -m "$2" "$1/tun" c 10 200; chown "root:$3" "$1/tun"; '
OWN_DEVICE += 'mount --bind "$1/tun" /dev/net/tun; shift 3; exec "$@"'
GROUP = 64321


def routed(gateway):
    return all("dev ipsec0" in gateway.run("ip", "route", "get", address, check=False).stdout for _, address in BOTH)


@pytest.mark.parametrize(("mode", "workers"), [("0600", 1), ("0600", 2), ("0660", 1), ("0666", 1)])
def test_it_makes_its_interface_and_makes_it_anew(shared_sites, tmp_path, mode, workers):
    pair = GatewayPair(shared_sites, tmp_path, IkePair())
    place = tmp_path / "device"
    place.mkdir()
    inside = ("unshare", "--mount", "sh", "-e", "-c", OWN_DEVICE, "sh", str(place), mode, str(GROUP))
    pair.a.program = (*inside, sys.executable, "-m", "ipsec_dp")
    config = pair.a.config
    config.write_text(config.read_text().replace("[gateway]\n", f"[gateway]\nworkers = {workers}\n", 1))
    try:
        pair.start()
        pair.a.wait_negotiated()
        assert pair.a.process is not None
        shown = status_of(pair.a.process.pid)
        assert bits(shown["CapEff"]) >= NEEDED
        assert shown["Uid"][0] != "0"
        shared_sites.gw_a.run("ip", "link", "delete", "ipsec0")
        until(partial(routed, shared_sites.gw_a), "interface and routes are made anew")
        for _, address in BOTH:
            ping(shared_sites.host_a, address)
    finally:
        pair.a.terminate()
        pair.b.terminate()
