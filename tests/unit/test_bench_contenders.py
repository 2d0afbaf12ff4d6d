"""What the tunnels of the benchmark are set up as, without setting one up."""

from __future__ import annotations

import tomllib

import pytest

from benchmarks.tunnels import kernel, overlay
from benchmarks.tunnels.contenders import ROOT, as_variant, package_in, write_bench_files
from benchmarks.tunnels.names import WIREGUARD_13
from benchmarks.tunnels.variants import AES256, BASE, CHACHA, DEFAULT, ESP, NO_OFFLOAD, V6
from ipsec_dp.config import load
from ipsec_dp.rig import netns

NETWORKS = (netns.SITE_A_NETS[1], netns.SITE_B_NETS[1])
TEXT = (ROOT / "benchmarks" / "bench-a.toml").read_text()


def changed(variant):
    """The keys of the file that a variant changes, with what they become; None for one that is gone."""
    before, after = (flat(tomllib.loads(text)) for text in (TEXT, as_variant(TEXT, variant, NETWORKS)))
    return {key: after.get(key) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def flat(value, at=""):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return {at: value} if items is None else {key: one for name, each in items for key, one in flat(each, f"{at}.{name}").items()}


@pytest.mark.parametrize(
    ("variant", "keys"),
    [
        (BASE, {}),
        (DEFAULT, {".tunnel.0.encapsulation": None}),
        (ESP, {".tunnel.0.encapsulation": "esp"}),
        (AES256, {".tunnel.0.esp.proposals.0": "aes256gcm16"}),
        (CHACHA, {".tunnel.0.esp.proposals.0": "chacha20poly1305"}),
        (NO_OFFLOAD, {".gateway.offloads": "none"}),
        (
            V6,
            {
                ".tunnel.0.proxy_id.1.local": "fd00:1::/64",
                ".tunnel.0.proxy_id.1.remote": "fd00:2::/64",
                ".policy.100.action": "protect",
                ".policy.100.tunnel": "to-b",
                ".policy.100.local": "fd00:1::/64",
                ".policy.100.remote": "fd00:2::/64",
            },
        ),
    ],
)
def test_a_kind_of_tunnel_differs_from_the_usual_one_in_what_it_is_named_for(variant, keys):
    assert changed(variant) == keys


def test_a_file_that_has_moved_on_is_told():
    with pytest.raises(ValueError, match="is to be there once"):
        as_variant(TEXT.replace('encapsulation = "udp"\n', ""), ESP, NETWORKS)


@pytest.mark.parametrize("variant", [BASE, DEFAULT, ESP, V6, AES256, CHACHA, NO_OFFLOAD], ids=lambda variant: variant.name)
def test_both_sides_are_sound(tmp_path, variant):
    a, b = (load(file) for file in write_bench_files(tmp_path, variant))
    assert [config.tunnels[0].name for config in (a, b)] == ["to-b", "to-a"]


def test_the_kernels_esp_agrees_on_both_sides():
    keys = (b"\1" * 20, b"\2" * 20)
    a, b = (kernel.esp_commands(side, "aes128gcm16", keys, 4) for side in (0, 1))
    states = [[command for command in xfrm if command[0] == "state"] for xfrm, _ in (a, b)]
    assert states[0] == states[1]
    assert [state[state.index("spi") + 1] for state in states[0]] == ["0x1001", "0x1002"]
    assert [f"0x{key.hex()}" in state for key, state in zip(keys, states[0], strict=True)] == [True, True]
    out = [next(command for command in xfrm if "out" in command) for xfrm, _ in (a, b)]
    assert [command[3] for command in out] == ["10.1.0.0/24", "10.2.0.0/24"]
    assert a[1][-1] == "route add 10.2.0.0/24 dev ipsec0"
    assert len(kernel.esp_commands(0, "chacha20poly1305", keys, 6)[0]) == 2 + 6


def test_vxlan_has_no_udp_checksum_and_the_congestion_control_of_the_measurement():
    link, _, _, route = overlay.commands("10.1.0.2", "10.2.0.2", "10.99.0.1")
    assert link.endswith("noudpcsum")
    assert "mtu 1350" in link
    assert route.endswith("congctl cubic")


def test_an_unpacked_package_is_named_with_its_version(tmp_path):
    assert package_in(tmp_path, "wireguard-go") == "wireguard-go"
    (tmp_path / "packages").write_text("libc6 2.41\nwireguard-go 0.0.20231211-1+b9\n")
    assert package_in(tmp_path, "wireguard-go") == "wireguard-go 0.0.20231211-1+b9"
    assert WIREGUARD_13 == "wireguard-go-13"
