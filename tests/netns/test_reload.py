"""A reload applies the difference only, shown under a numbered stream through a tunnel that nothing changes for.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Tunnel "a" joins 10.1.0.0/24 and 10.2.0.0/24 and carries the stream; tunnel "b" joins 10.4.0.0/24 and 10.3.0.0/24 and is what
changes. The gateways route to each other in clear, so that a leak arrives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import dataclass, replace
from functools import partial

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway import control
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayProcess
from tests.netns import harness
from tests.netns.numbered import numbered
from tests.netns.traffic import ping, until

NET_A, NET_B = netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]
FURTHER_A, FURTHER_B = "10.4.0", "10.3.0"  # further networks, one at each site
HOST_B, FURTHER_HOST = netns.HOST_B[0], f"{FURTHER_B}.2"
RELOAD_S = 60.0
SECRET_B = "the secret of tunnel b, long enough"


@dataclass(frozen=True)
class Tunnel:
    """As gwA has it; gwB has the mirror image."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    psk: str
    interface: str = "ipsec0"
    lines: str = ""  # of [[tunnel]], at gwA
    ike: str = ""
    esp: str = ""


A = Tunnel("a", ((NET_A, NET_B),), "a.psk")
B = Tunnel("b", ((f"{FURTHER_A}.0/24", f"{FURTHER_B}.0/24"),), "b.psk")


class Site:
    """Both gateways, their files in `directory`."""

    def __init__(self, sites, directory):
        self.sites, self.directory = sites, directory
        self.secret("a.psk", "the secret of tunnel a, long enough")
        self.secret("b.psk", SECRET_B)
        self.a = GatewayProcess(sites.gw_a, directory / "gwA.toml")
        self.b = GatewayProcess(sites.gw_b, directory / "gwB.toml")

    def secret(self, name, text):
        path = self.directory / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(text)

    def write(self, *tunnels, side="ab", tables=""):
        """The same tunnels on both sides; `tables` are gwA's."""
        for near in side:
            far = "b" if near == "a" else "a"
            ends = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0])[:: 1 if near == "a" else -1]
            text = f'[gateway]\nname = "gw{near.upper()}"\n'
            for tunnel in tunnels:
                text += (
                    f'[[tunnel]]\nname = "{tunnel.name}"\nlocal = "{ends[0]}"\nremote = "{ends[1]}"\n'
                    f'interface = "{tunnel.interface}"\nstart = "{"start" if near == "a" else "respond"}"\n'
                    f"{tunnel.lines if near == 'a' else ''}\n"
                )
                for pair in tunnel.pairs:
                    left, right = pair[:: 1 if near == "a" else -1]
                    text += f'[[tunnel.proxy_id]]\nlocal = "{left}"\nremote = "{right}"\n'
                text += (
                    f'[tunnel.auth]\nlocal_id = "{near}.{tunnel.name}.example"\nremote_id = "{far}.{tunnel.name}.example"\n'
                    f'psk_file = "{tunnel.psk}"\n[tunnel.ike]\n{tunnel.ike}\n[tunnel.esp]\n{tunnel.esp}\n'
                )
            (self.directory / f"gw{near.upper()}.toml").write_text(text + (tables if near == "a" else ""))

    def reload(self, side="a", **arguments):
        gateway = self.a if side == "a" else self.b
        return control.request(gateway.control, {"verb": "reload", **arguments}, RELOAD_S)

    def tunnel(self, name, side="a"):
        gateway = self.a if side == "a" else self.b
        return {each["name"]: each for each in gateway.status()["tunnels"]}.get(name)

    def carries(self, name):
        shown = self.tunnel(name) or {}
        return shown.get("state") == "up" and shown["children"]

    def up(self, *names):
        for name in names:
            until(partial(self.carries, name), f"{name} up", 20)

    def identity(self, name):
        """What a tunnel that nothing changed for keeps: its SAs."""
        found = self.tunnel(name)
        return found["ike"]["spi_i"], [(child["spi_in"], child["spi_out"]) for child in found["children"]]

    def rekey_if_there(self, name, *, ike):
        """A reload may take the tunnel away at the same time; then there is nothing to rekey, which the gateway says."""
        try:
            self.a.ask("rekey", name=name, ike=ike)
        except ControlError as error:
            if not str(error).startswith((f'no tunnel "{name}"', f'tunnel "{name}" has no IKE SA')):
                raise

    def say(self, *arguments):
        return self.sites.gw_a.run(sys.executable, "-m", "ipsec_dp", *arguments, check=False)


@pytest.fixture(scope="module")
def further(shared_sites):
    for host, gateway, near, far in (
        (shared_sites.host_a, shared_sites.gw_a, FURTHER_A, FURTHER_B),
        (shared_sites.host_b, shared_sites.gw_b, FURTHER_B, FURTHER_A),
    ):
        gateway.ip(f"address add {near}.1/24 dev lan")
        host.ip(f"address add {near}.2/24 dev eth0", f"route add {far}.0/24 via {near}.1 src {near}.2")
    return shared_sites


@pytest.fixture(scope="module")
def gateways(further, tmp_path_factory):
    """Both gateways up with tunnel "a"; nothing of them is left afterwards."""
    before = further.gw_a.call(harness.picture)
    made = Site(further, tmp_path_factory.mktemp("reload"))
    made.write(A)
    made.a.start()
    made.b.start()
    made.a.wait_up()
    made.b.wait_up()
    made.up("a")
    yield made
    assert [made.a.terminate(), made.b.terminate()] == [0, 0], made.a.text()
    assert harness.difference(before, further.gw_a.call(harness.picture)) == []


@pytest.fixture
def site(gateways):
    """The same gateways for every test: with tunnel "a" alone, as it was before."""
    yield gateways
    gateways.secret("b.psk", SECRET_B)
    gateways.write(A)
    pair_of_reloads(gateways)
    gateways.up("a")


@pytest.fixture
def stream(site):
    """Runs through tunnel "a" during the test; not one of it is lost, and the tunnel keeps its SAs."""
    before = site.identity("a")
    ping(site.sites.host_a, HOST_B)
    with numbered(site.sites.host_a, site.sites.host_b, HOST_B) as running:
        until(lambda: len(running.arrived) > 20, "the stream arrives")
        yield running
        enough = running.sent + 30
        until(lambda: running.sent > enough, "the stream goes on")
    assert running.sent > 50
    assert (running.lost(), running.refused) == ([], 0)
    assert site.identity("a") == before


def pair_of_reloads(site):
    """gwB first, so that it knows what gwA is about to ask for."""
    site.reload("b")
    return site.reload("a")


def names(answer):
    return answer["added"], answer["removed"], [change["name"] for change in answer["changed"]], answer["kept"]


def guards(site, prefix):
    return prefix in site.sites.gw_a.run("nft", "list", "ruleset").stdout


def routed(site, prefix):
    listed = site.sites.gw_a.run("ip", "route", "show", "table", "all", "proto", "229").stdout
    return [line for line in listed.splitlines() if prefix in line]


# ---- added, removed -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stream")
def test_a_tunnel_is_added_and_removed(site, tmp_path):
    with capture.Capture(site.sites.gw_a, "wan", tmp_path / "wan") as recording:
        site.write(A, B)
        assert names(pair_of_reloads(site)) == (["b"], [], [], 1)
        site.up("b")
        ping(site.sites.host_a, FURTHER_HOST)
        assert guards(site, f"{FURTHER_B}.0/24")

        site.write(A, side="a")
        assert names(site.reload()) == ([], ["b"], [], 1)
        until(lambda: not site.tunnel("b", "b")["children"], "gwB was told by a DELETE")
        assert site.tunnel("b") is None
        assert not guards(site, f"{FURTHER_B}.0/24")
        assert routed(site, f"{FURTHER_B}.0/24") == []
        recording.stop()
    assert set(capture.scan(tmp_path / "wan").packets) <= {"ike", "esp-udp", *capture.LINK_KINDS}


def test_what_is_no_longer_protected_leaves_in_clear_and_what_is_protected_does_not(site, tmp_path):
    """The positive control of the captures: the same packets are seen once the tunnel is gone from both gateways."""
    site.write(A, B)
    pair_of_reloads(site)
    site.up("b")
    site.write(A)
    pair_of_reloads(site)
    with capture.Capture(site.sites.gw_a, "wan", tmp_path / "wan") as recording:
        ping(site.sites.host_a, FURTHER_HOST)
        ping(site.sites.host_a, HOST_B)
        recording.stop()
    clear = [packet for _, packet in capture.read(tmp_path / "wan") if packet and packet[0] >> 4 == 4 and packet[9] == 1]
    assert clear
    assert {packet[16:20] for packet in clear} <= {bytes([10, 3, 0, 2]), bytes([10, 4, 0, 2])}


@pytest.mark.usefixtures("stream")
def test_an_interface_is_made_and_taken_away(site):
    site.write(A, replace(B, interface="ipsec1", lines='address = ["169.254.10.1/30"]'))
    pair_of_reloads(site)
    site.up("b")
    ping(site.sites.host_a, FURTHER_HOST)
    assert "169.254.10.1/30" in site.sites.gw_a.run("ip", "address", "show", "ipsec1").stdout

    site.write(A, replace(B, interface="ipsec1", lines='address = ["169.254.11.1/30"]'))
    assert site.reload()["changed"] == [{"name": "b", "keys": ["addresses"], "effect": "in place"}]
    shown = site.sites.gw_a.run("ip", "address", "show", "ipsec1").stdout
    assert ("169.254.10.1/30" in shown, "169.254.11.1/30" in shown) == (False, True)

    site.write(A)
    pair_of_reloads(site)
    until(lambda: "ipsec1" not in site.sites.gw_a.run("ip", "link").stdout, "the interface is gone")


# ---- changed --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def both(site, stream):
    """Tunnel "b" is up as well."""
    site.write(A, B)
    pair_of_reloads(site)
    site.up("b")
    return site


def change(site, tunnel, **where):
    site.write(A, tunnel, **where)
    (changed,) = pair_of_reloads(site)["changed"]
    assert changed["name"] == "b"
    return changed["keys"], changed["effect"]


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"ike": 'liveness = { interval = "3s" }'}, ["ike.liveness.interval_s"]),
        ({"ike": 'lifetime = "2h"'}, ["ike.lifetime_s"]),
        ({"esp": 'lifetime = "30m"\nlife_octets = "5GB"'}, ["esp.lifetime_s", "esp.life_octets"]),
        ({"lines": 'start = "on-demand"'}, ["start"]),
        ({"lines": 'routes = ["10.3.0.0/25", "10.3.0.128/25"]'}, ["routes"]),
    ],
)
def test_what_applies_in_place_ends_no_sa(both, changes, keys):
    before = both.identity("b")
    tunnel = replace(B, **changes)
    both.write(A, tunnel, side="a")
    if "start" in keys:
        path = both.directory / "gwA.toml"
        path.write_text(path.read_text().replace('start = "start"\nstart = "on-demand"', 'start = "on-demand"'))
    (changed,) = both.reload()["changed"]
    assert (changed["keys"], changed["effect"]) == (keys, "in place")
    ping(both.sites.host_a, FURTHER_HOST)
    assert both.identity("b") == before


def test_a_further_proxy_id_gets_a_child_sa_and_the_first_keeps_its_own(both):
    before = both.identity("b")
    assert change(both, replace(B, pairs=(*B.pairs, ("10.6.0.0/24", "10.5.0.0/24")))) == (
        ["routes", "proxy_ids"],
        "CHILD_SAs of changed proxy IDs",
    )
    until(lambda: len(both.tunnel("b")["children"]) == 2, "a second CHILD_SA")
    ike, children = both.identity("b")
    assert (ike, children[0]) == (before[0], before[1][0])
    assert routed(both, "10.5.0.0/24")

    change(both, B)
    until(lambda: [(c["spi_in"], c["spi_out"]) for c in both.tunnel("b")["children"]] == before[1], "only the first is left")
    assert both.identity("b")[0] == before[0]
    assert not guards(both, "10.5.0.0/24")


def test_another_suite_comes_by_a_rekey_without_a_gap(both):
    ike, _ = both.identity("b")
    with numbered(both.sites.host_a, both.sites.host_b, FURTHER_HOST, port=7200) as running:
        until(lambda: len(running.arrived) > 20, "the stream arrives")
        assert change(both, replace(B, esp='proposals = ["chacha20poly1305-esn"]')) == (["esp.proposals"], "new CHILD_SAs")
        until(lambda: both.tunnel("b")["children"][0]["suite"] == "chacha20poly1305", "the other suite")
    assert running.lost() == []
    assert both.identity("b")[0] == ike


def test_another_secret_in_the_same_file_begins_anew(both):
    ike, _ = both.identity("b")
    both.secret("b.psk", "another secret of tunnel b, as long")
    assert change(both, B) == (["auth.material"], "new IKE SA")
    until(lambda: both.tunnel("b")["state"] == "up" and both.identity("b")[0] != ike, "another IKE SA", 20)
    ping(both.sites.host_a, FURTHER_HOST)


def test_a_policy_is_added(both):
    both.write(A, B, tables=f'[[policy]]\naction = "discard"\nlocal = "{FURTHER_A}.0/24"\nremote = "{FURTHER_HOST}/32"\n')
    before = both.identity("b")
    assert names(both.reload()) == ([], [], [], 2)
    assert both.sites.host_a.run("ping", "-n", "-c", "1", "-W", "0.3", FURTHER_HOST, check=False).returncode != 0
    both.write(A, B)
    both.reload()
    ping(both.sites.host_a, FURTHER_HOST)
    assert both.identity("b") == before


# ---- what must not be -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stream")
def test_a_bad_file_changes_nothing_and_says_all_that_is_wrong(site):
    before = site.sites.gw_a.run("nft", "list", "ruleset").stdout.count("\n")
    (site.directory / "gwA.toml").write_text(
        '[gateway]\nname = "gwA"\nworkerz = 1\n[[tunnel]]\nname = "b"\nremote = "nobody at all"\n'
    )
    answer = site.reload()
    assert answer["applied"] is False
    assert {"workerz", "remote"} <= {finding["key"] for finding in answer["findings"]}
    done = site.say("reload", "--control", str(site.a.control))
    assert done.returncode == 2
    assert "workerz" in done.stderr
    assert site.sites.gw_a.run("nft", "list", "ruleset").stdout.count("\n") == before


@pytest.mark.usefixtures("stream")
def test_a_secret_that_others_can_read_changes_nothing(site):
    (site.directory / "b.psk").chmod(0o644)
    site.write(A, B)
    answer = site.reload()
    assert (answer["applied"], [finding["key"] for finding in answer["findings"]]) == (False, ["auth.psk_file"])
    assert site.tunnel("b") is None


@pytest.mark.usefixtures("stream")
def test_what_the_process_was_made_with_is_refused(site):
    path = site.directory / "gwA.toml"
    path.write_text(path.read_text().replace('name = "gwA"', 'name = "other"'))
    answer = site.reload()
    assert (answer["applied"], [(f["where"], f["key"]) for f in answer["findings"]]) == (False, [("gateway", "name")])


@pytest.mark.usefixtures("stream")
def test_a_failure_before_anything_changed_leaves_the_former_configuration(site):
    """An interface of that name exists already."""
    site.sites.gw_a.ip("link add ipsec1 type veth peer name ipsec1x")
    try:
        site.write(A, replace(B, interface="ipsec1"))
        with pytest.raises(ControlError, match=r"ipsec1.*nothing was changed, the former configuration runs on"):
            site.reload()
        assert site.tunnel("b") is None
        assert not guards(site, f"{FURTHER_B}.0/24")
    finally:
        site.sites.gw_a.ip("link delete ipsec1")
    assert names(pair_of_reloads(site)) == (["b"], [], [], 1)
    site.up("b")


# ---- how it is asked for --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stream")
def test_sighup_reloads(site):
    site.write(A, B)
    site.reload("b")
    os.kill(site.a.process.pid, signal.SIGHUP)
    until(lambda: site.tunnel("b"), "the tunnel is there", 20)
    until(lambda: "reloaded" in site.a.text(), "it is in the log")


@pytest.mark.usefixtures("stream")
def test_the_answer_is_a_table_for_people_and_json_for_programs(site):
    site.write(A, B)
    other = site.directory / "other.toml"
    (site.directory / "gwA.toml").rename(other)
    done = site.say("reload", str(other), "--control", str(site.a.control))
    assert done.returncode == 0, done.stderr
    assert [word in done.stdout for word in ("b", "added", "1 kept as they are")] == [True] * 3
    site.write(A, B)
    done = site.say("reload", str(site.directory / "gwA.toml"), "--control", str(site.a.control), "--json")
    assert json.loads(done.stdout)["kept"] == 2


@pytest.mark.usefixtures("stream")
def test_without_a_file_the_one_taken_over_last_is_read_again(site):
    other = site.directory / "other.toml"
    site.write(A, B)
    (site.directory / "gwA.toml").rename(other)
    assert names(site.reload(file=str(other))) == (["b"], [], [], 1)
    assert names(site.reload()) == ([], [], [], 2)
    other.unlink()
    answer = site.reload()
    assert (answer["applied"], answer["file"]) == (False, str(other))
    site.write(A, B)
    assert site.reload(file=str(site.directory / "gwA.toml"))["applied"]


def test_reloads_at_once_take_turns(site, stream):
    """Many, with another file each time, while both SAs of the tunnel beside are rekeyed over and over."""
    site.write(A, B)
    site.reload("b")
    answers, errors = [], []

    def reload():
        try:
            answers.append(site.reload())
        except ControlError as error:
            errors.append(error)

    for number in range(4):
        site.write(A, *([B] if number % 2 == 0 else []), side="a")
        site.rekey_if_there("b", ike=number > 1)
        threads = [threading.Thread(target=reload) for _ in range(2)]
        for thread in threads:
            thread.start()
        site.rekey_if_there("b", ike=False)
        for thread in threads:
            thread.join(RELOAD_S)
    assert errors == []
    assert [sorted(len(one["added"]) + len(one["removed"]) for one in answers[turn : turn + 2]) for turn in (0, 2, 4, 6)] == [
        [0, 1]
    ] * 4
    site.write(A, B)
    pair_of_reloads(site)
    site.up("b")
    ping(site.sites.host_a, FURTHER_HOST)
