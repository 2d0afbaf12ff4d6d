"""A gateway is upgraded while its file says something else than what is in force: what nothing changes for goes on, and the rest is
negotiated anew.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import json
import secrets
import shutil

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import IkePair
from tests.netns.numbered import numbered
from tests.netns.succession import flows, upgraded
from tests.netns.traffic import until

FURTHER = {"rekeyed": 1, "secret": 2, "gone": 3, "added": 4}  # beside the tunnel that nothing changes for
ENDS = netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]
PLANTED = "hunter2 was the password"


def further(side, *names):
    """Tunnels between the same two gateways, each with a secret and an interface of its own."""
    (here, there), (near, far) = ENDS[:: 1 - 2 * side], ("a", "b")[:: 1 - 2 * side]
    local, remote = (f"10.{second}" for second in (4, 5)[:: 1 - 2 * side])
    return "".join(
        f'[[tunnel]]\nname = "{name}"\nlocal = "{here}"\nremote = "{there}"\ninterface = "ipsec{FURTHER[name]}"\n'
        f'encapsulation = "udp"\nstart = "{("start", "respond")[side]}"\n'
        f'  [[tunnel.proxy_id]]\n  local = "{local}{FURTHER[name]}.0.0/24"\n  remote = "{remote}{FURTHER[name]}.0.0/24"\n'
        f'  [tunnel.auth]\n  local_id = "{name}-{near}.example"\n  remote_id = "{name}-{far}.example"\n'
        f'  psk_file = "{name}.psk"\n'
        for name in names
    )


@pytest.fixture
def pair(sites_opened_again, tmp_path):
    """gwA is up with the tunnel of the pair, and three of the further ones."""
    for name in FURTHER:
        (tmp_path / f"{name}.psk").touch(mode=0o600)
        (tmp_path / f"{name}.psk").write_text(secrets.token_hex(32))

    class Further(IkePair):
        def keys(self, directory):
            a, b = super().keys(directory)
            return a + further(0, "rekeyed", "secret", "gone"), b + further(1, *FURTHER)

    with upgraded(sites_opened_again, tmp_path, Further(encapsulation="udp", gateway=f"# {PLANTED}")) as made:
        yield made


def tunnels(pair):
    return {tunnel["name"]: tunnel for tunnel in pair.a.status()["tunnels"]}


def spis(tunnel):
    return {child["spi_in"] for child in tunnel["children"]}


def changed(text):
    """What gwA's file is to say: one tunnel with other algorithms, one away, one more."""
    gone, rekeyed = further(0, "gone"), further(0, "rekeyed")
    assert gone in text
    assert rekeyed in text
    return text.replace(gone, further(0, "added")).replace(
        rekeyed, f'{rekeyed}  [tunnel.esp]\n  proposals = ["chacha20poly1305", "aes256gcm16"]\n'
    )


def test_what_nothing_changes_for_goes_on_and_the_rest_is_negotiated_anew(sites_opened_again, pair, tmp_path):
    sites = sites_opened_again
    planted = {PLANTED, *((tmp_path / f"{name}.psk").read_text() for name in FURTHER)}
    with (
        numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
        numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
    ):
        until(lambda: there.arrived and back.arrived, "both streams")
        before = tunnels(pair)
        (tmp_path / "secret.psk").write_text(secrets.token_hex(32))
        planted.add((tmp_path / "secret.psk").read_text())
        assert pair.b.ask("reload")["applied"]
        pair.a.config.write_text(changed(pair.a.config.read_text()))
        answer = pair.upgrade()
        assert answer["changes"] == "tunnels added: added; tunnels removed: gone; tunnels changed: rekeyed, secret"
        assert [each for each in answer["left_out"] if each["tunnel"] != "secret"] == []
        pair.answers()

        def anew():
            now = tunnels(pair)
            others = [now[name] for name in ("rekeyed", "secret", "added") if name in now]
            return len(others) == 3 and all(
                each["state"] == "up" and spis(each) and spis(each).isdisjoint(spis(before.get(each["name"], {"children": []})))
                for each in others
            )

        until(anew, "what has changed, with other SAs")
        flows(there, back)
    for each in (there, back):
        assert (each.lost(), each.repeated) == ([], 0)
    after = tunnels(pair)
    assert after.keys() == {"a-to-b", "rekeyed", "secret", "added"}
    assert spis(after["a-to-b"]) == spis(before["a-to-b"])
    until(lambda: "1 added, 1 removed, 2 changed, 1 kept" in pair.a.text(), "what was taken over, in the log")
    status = pair.a.status()
    assert not [text for text in status["warnings"] if "upgrade" in text]
    told = pair.a.text() + json.dumps([answer, status, pair.a.ask("bugreport")])
    assert not [secret for secret in planted if secret in told]


def test_what_no_reload_takes_changes_nothing(pair, tmp_path):
    """The next one begins with what was in force all the time."""
    before, text = tunnels(pair), pair.a.config.read_text()
    for wrong, says in ((f"odd = 1\n{text}", "unknown"), (text.replace("[gateway]\n", "[gateway]\nworkers = 2\n"), "a reload")):
        pair.a.config.write_text(wrong)
        with pytest.raises(ControlError, match=f"not upgraded, and everything goes on as before: the successor refuses: .*{says}"):
            pair.ask()
    shutil.move(tmp_path / "gone.psk", tmp_path / "elsewhere")
    pair.a.config.write_text(changed(text))
    with pytest.raises(ControlError, match=r"no such file: .*gone\.psk; put back what is gone, or restart"):
        pair.ask()
    assert {name: spis(tunnel) for name, tunnel in tunnels(pair).items()} == {name: spis(each) for name, each in before.items()}
