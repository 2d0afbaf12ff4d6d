"""For how long nobody forwards when a gateway with very many SAs goes on in another process, and how long all of it takes.

hostA eth0 -- lan gwA wan == wan gwB

gwA has the tunnels, with keys that are set by hand, so that nobody has to be there; or IKE has them, and gwB, which shares the
processors, has them too. On a machine with nothing else to do:

    python -m pytest -m slow -s tests/netns/test_upgrade_many.py
"""

from __future__ import annotations

import compileall
import contextlib
import os
import secrets
from functools import partial
from pathlib import Path
from statistics import median

import pytest

import ipsec_dp
from ipsec_dp.gateway import control
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayProcess
from tests.netns.succession import Succession
from tests.netns.traffic import until

SUITE = "aes128gcm16-esn"
FIRST_SPI = 0x10000
START_S = 120.0
ALL_UP_S = 400.0
PATIENCE_S = 300.0
UPGRADES = 3
GAP_MOST_MS = 100.0
ALL_MOST_S = 10.0

pytestmark = [pytest.mark.slow, pytest.mark.measure, pytest.mark.timeout(900)]


def tunnel(number):
    second, third = divmod(number, 256)
    return (
        f'[[tunnel]]\nname = "t{number}"\nlocal = "{netns.GW_A_OUTER[0]}"\nremote = "{netns.GW_B_OUTER[0]}"\n'
        'interface = "ipsec0"\nencapsulation = "udp"\n'
        f'[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "172.{16 + second}.{third}.0/24"\n'
        f'[tunnel.manual_unsafe]\nsuite = "{SUITE}"\nspi_in = {FIRST_SPI + number}\nspi_out = {FIRST_SPI + number}\n'
        f'key_in_file = "{number}-in.key"\nkey_out_file = "{number}-out.key"\n'
    )


def written(directory, count):
    for name in (f"{number}-{way}.key" for number in range(count) for way in ("in", "out")):
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(secrets.token_hex(parse_suite(SUITE).keymat_octets))
    path = directory / "gwA.toml"
    path.write_text('[gateway]\nname = "gwA"\n' + "".join(map(tunnel, range(count))))
    return path


def by_ike(number, ours, theirs):
    """Tunnel `number` of a gateway; `ours` and `theirs`: outer address, name, protected network."""
    start = "start" if ours[1] == "a" else "respond"
    return (
        f'[[tunnel]]\nname = "t{number}"\nlocal = "{ours[0]}"\nremote = "{theirs[0]}"\ninterface = "ipsec0"\nstart = "{start}"\n'
        f'[[tunnel.proxy_id]]\nlocal = "{ours[2]}"\nremote = "{theirs[2]}"\n'
        f'[tunnel.auth]\nlocal_id = "{ours[1]}{number}.example"\nremote_id = "{theirs[1]}{number}.example"\n'
        f'psk_file = "{number}.psk"\n'
    )


def written_for_ike(directory, count):
    """The configurations of gwA and gwB, with a PSK for each tunnel."""
    tables = {"gwA": ['[gateway]\nname = "gwA"\n'], "gwB": ['[gateway]\nname = "gwB"\n']}
    for number in range(count):
        (directory / f"{number}.psk").touch(mode=0o600)
        (directory / f"{number}.psk").write_text(secrets.token_hex(24))
        second, third = divmod(number, 256)
        a = (netns.GW_A_OUTER[0], "a", "10.1.0.0/24")
        b = (netns.GW_B_OUTER[0], "b", f"172.{16 + second}.{third}.0/24")
        tables["gwA"].append(by_ike(number, a, b))
        tables["gwB"].append(by_ike(number, b, a))
    for name, parts in tables.items():
        (directory / f"{name}.toml").write_text("".join(parts))
    return directory / "gwA.toml", directory / "gwB.toml"


class Patient(Succession):
    """Ten thousand tunnels are read by each successor."""

    def ask(self, **request):
        return control.request(self.a.control, {"verb": "upgrade", **request}, PATIENCE_S)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """As an installed program is: a gateway that is not root may not write down what it compiles, at each start anew."""
    compileall.compile_dir(Path(ipsec_dp.__file__).parent, quiet=1)


@contextlib.contextmanager
def killed(gateway):
    try:
        yield
    finally:
        gateway.kill()


def upgrades(succession, count, record_property, half_open=False):
    """Three in a row: how many s each took. `half_open`: something may be when it begins, which is begun anew."""
    gaps, took = [], []
    for _ in range(UPGRADES):
        answer = succession.upgrade()
        assert answer["child_sas"] == count
        assert half_open or answer["left_out"] == []
        gaps.append(answer["gap_ms"])
        took.append(answer["took_s"])
        succession.answers()
    waited, lasted = ", ".join(f"{gap:.1f}" for gap in gaps), ", ".join(f"{each:.1f}" for each in took)
    figures = f"{count} tunnels, gaps {waited} ms; in all {lasted} s; load average {os.getloadavg()[0]:.1f}"
    record_property("figures", figures)
    print(figures)
    assert median(gaps) <= GAP_MOST_MS, figures
    return took


@pytest.mark.parametrize("count", [200, 2_000, 10_000])
def test_packets_wait_for_a_tenth_of_a_second_at_the_most(shared_sites, tmp_path, count, record_property):
    gateway = GatewayProcess(shared_sites.gw_a, written(tmp_path, count))
    with Patient(gateway) as succession:
        gateway.start()
        gateway.wait_up(START_S)
        assert median(upgrades(succession, count, record_property)) <= ALL_MOST_S


def is_up(gateway, name):
    return gateway.ask("status", name=name)["tunnels"][0]["state"] == "up"


@pytest.mark.parametrize("count", [200, 2_000, 10_000])
def test_nor_do_they_where_ike_has_the_tunnels(shared_sites, tmp_path, count, record_property):
    files = written_for_ike(tmp_path, count)
    a, b = GatewayProcess(shared_sites.gw_a, files[0]), GatewayProcess(shared_sites.gw_b, files[1])
    with Patient(a) as succession, killed(b):
        for gateway in (b, a):
            gateway.start()
            gateway.wait_up(START_S)
        for number in range(count):  # one is asked about at a time, so that asking takes nothing from the others
            until(partial(is_up, a, f"t{number}"), f"t{number}", ALL_UP_S)
        upgrades(succession, count, record_property, half_open=True)
