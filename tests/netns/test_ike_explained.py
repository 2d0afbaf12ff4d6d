"""What a person reads when two gateways do not agree: the cause, with both sides' values, or each cause that it may be.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

gwA calls. `last_error` of `status` and the log must say the same.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayProcess, IkePair, write_pair
from tests.netns.traffic import until

LATE = 30.0


@pytest.fixture
def told(shared_sites, tmp_path):
    """Runs two gateways whose configurations `change` made differ; what `last_error` says on both sides, when it says anything."""

    def told(change, pair=None, *, both=True):
        files = write_pair(tmp_path, pair or IkePair())
        for file in files:
            file.write_text(change(file.stem, file.read_text()))
        a, b = GatewayProcess(shared_sites.gw_a, files[0]), GatewayProcess(shared_sites.gw_b, files[1])
        with contextlib.ExitStack() as stack:
            for gateway in (b, a) if both else (a,):
                gateway.start()
                stack.callback(gateway.terminate)
                gateway.wait_up()
            errors = [first_error(gateway) for gateway in ((a, b) if both else (a,))]
            for text, gateway in zip(errors, (a, b), strict=False):
                until(partial(logged, gateway, text), f"the log says too: {text}")
        return errors

    return told


def logged(gateway, text):
    return text in gateway.text()


def error(gateway):
    (only,) = gateway.status()["tunnels"]
    return only["last_error"]


def first_error(gateway):
    return until(lambda: error(gateway), f"{gateway.namespace.label} says what is wrong", LATE)


def on(side, old, new):
    """Changes one side's file."""
    return lambda name, text: re.sub(old, new, text) if name == side else text


def test_another_secret_names_both_causes(told, tmp_path):
    other = tmp_path / "other.psk"
    other.touch(mode=0o600)
    other.write_text("0123456789abcdef0123456789abcdef")
    a, b = told(on("gwB", "tunnel.psk", "other.psk"))
    assert "either the secrets differ, or the identities do" in a
    assert "(gw-a.example, expecting gw-b.example)" in a
    assert "shared keys differ" in b


def test_another_identity_names_what_came_and_what_was_expected(told):
    a, b = told(on("gwB", 'remote_id = "gw-a.example"', 'remote_id = "else.example"'))
    assert "either the secrets differ, or the identities do" in a
    assert "gw-a.example" in b
    assert "else.example" in b


def test_proposals_of_ike_without_one_in_common_show_both_sides(told):
    def change(name, text):
        word = "aes128gcm16-prfsha256-ecp256" if name == "gwA" else "aes256gcm16-prfsha384-x25519"
        return text.replace("[tunnel.ike]", f'[tunnel.ike]\n  proposals = ["{word}"]')

    a, b = told(change)
    assert "accepts none of our IKE proposals (aes128gcm16-prfsha256-ecp256)" in a
    for word in ("aes128gcm16-prfsha256-ecp256", "aes256gcm16-prfsha384-x25519"):
        assert word in b


def test_proposals_of_esp_without_one_in_common_show_both_sides(told):
    def change(name, text):
        word = "aes128gcm16" if name == "gwA" else "chacha20poly1305"
        return text.replace("[tunnel.esp]", f'[tunnel.esp]\n  proposals = ["{word}"]')

    a, b = told(change)
    assert "accepts none of our ESP proposals (aes128gcm16-noesn)" in a
    assert "aes128gcm16" in b
    assert "chacha20poly1305" in b


def test_selectors_without_anything_in_common_show_both_sides(told):
    a, b = told(on("gwB", r"10\.2\.0\.0/24", "10.9.0.0/24"), IkePair(proxy_ids=((netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]),)))
    assert "accepts none of our selectors (10.1.0.0/24 <-> 10.2.0.0/24)" in a
    assert "10.2.0.0/24" in b
    assert "10.9.0.0/24" in b


def test_a_peer_on_which_no_ike_runs_is_told_by_what_its_host_answers(told):
    (a,) = told(lambda _name, text: text, both=False)
    for part in (
        "192.0.2.2:500 has not answered IKE_SA_INIT",
        "UDP port 500 of 192.0.2.2 is not reached",
        "no IKE runs on it; start it",
    ):
        assert part in a
