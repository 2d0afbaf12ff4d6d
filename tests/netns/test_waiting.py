"""`initiate --wait` and `terminate --wait` with real gateways; and who is not root, at a gateway that runs.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import json
import sys

import pytest

from ipsec_dp.config.model import control_socket
from ipsec_dp.rig.process import GatewayPair, IkePair, write_pair
from tests.netns.traffic import ping, until
from tests.unit.test_control_rights import ASKED, GROUP, MEMBER, OTHER, READ, REQUESTS, ROOT

TUNNEL = "a-to-b"
SECONDS = "10s"


@pytest.fixture
def meet(sites_opened_again, tmp_path):
    """Makes both gateways, up; neither calls by itself."""
    made = []

    def make(**how):
        pair = GatewayPair(sites_opened_again, tmp_path, IkePair(start=("respond", "respond"), **how))
        made.append(pair)
        pair.start()
        return pair

    yield make
    for pair in made:
        for gateway in (pair.a, pair.b):
            gateway.terminate()


def ask(gateway, verb, *options):
    command = (sys.executable, "-m", "ipsec_dp", verb, TUNNEL, "--wait", "--timeout", SECONDS, *options)
    return gateway.namespace.run(*command, "--control", str(gateway.control), check=False)


def test_traffic_passes_when_initiate_returns_and_the_sas_are_gone_when_terminate_does(sites_opened_again, meet):
    pair = meet()
    done = ask(pair.a, "initiate")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{TUNNEL}: up\n", "")
    assert ping(sites_opened_again.host_a, "10.2.0.2")
    assert ask(pair.a, "initiate").returncode == 0, "what is up is up"
    done = ask(pair.a, "terminate", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["done"], answer["verb"]) == (0, True, "terminate")
    (tunnel,) = pair.a.status()["tunnels"]
    assert (tunnel["ike"], tunnel["children"]) == (None, [])


def test_a_wrong_secret_is_told_with_its_remedy_at_once(meet, tmp_path):
    pair = meet()
    other = tmp_path / "other.psk"
    other.touch(mode=0o600)
    other.write_text("another secret of the same length")
    pair.b.config.write_text(pair.b.config.read_text().replace("tunnel.psk", "other.psk"))
    pair.b.ask("reload")
    for _ in range(2):  # the second time, the first one's last_error is there already
        done = ask(pair.a, "initiate")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"{TUNNEL}: failed, the last attempt failed")
        assert "compare the secrets octet by octet" in done.stderr


def test_a_peer_that_is_not_there_is_told_when_the_time_is_over(sites_opened_again, meet):
    pair = meet()
    pair.b.terminate()
    command = (sys.executable, "-m", "ipsec_dp", "initiate", TUNNEL, "--wait", "--timeout", "2s", "--control", str(pair.a.control))
    done = pair.a.namespace.run(*command, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{TUNNEL}: not up after 2 s: negotiating")


def test_a_member_of_the_control_group_finds_a_running_gateway_reads_it_and_ends_nothing(sites_opened_again, tmp_path):
    (file, _) = write_pair(tmp_path, IkePair(start=("respond", "respond"), gateway=f'control_group = "{GROUP.gr_name}"'))
    with (tmp_path / "log").open("wb") as log:
        process = sites_opened_again.gw_a.spawn(sys.executable, "-m", "ipsec_dp", "up", str(file), stdout=log, stderr=log)
    path = control_socket("gwA")
    try:
        until(lambda: path.exists() and ROOT.ask(path, ASKED[:1])[0].get("ok"), "the gateway")
        (said,) = MEMBER.commands("status")
        assert (said.status, said.err) == (0, "")
        assert TUNNEL in said.out
        answers = dict(zip(REQUESTS, MEMBER.ask(path, ASKED), strict=True))
        assert {verb for verb, answer in answers.items() if "may only read" not in answer.get("error", "")} == READ
        assert OTHER.ask(path, ASKED[:1]) == [{"errno": 13}]
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(20)
