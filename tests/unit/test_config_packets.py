"""The keys of [[tunnel]] about packets: size, DF, DSCP, ECN, hop limit, flow label."""

from __future__ import annotations

import pytest

from ipsec_dp.config.load import examine
from ipsec_dp.config.packets import Packets

HEAD = '[[tunnel]]\nname = "to-b"\nremote = "192.0.2.2"\nlocal = "192.0.2.1"\n'
TAIL = '[[tunnel.proxy_id]]\nlocal = "{0}"\nremote = "{1}"\n[tunnel.auth]\npsk_file = "to-b.psk"\n'
V4, V6 = TAIL.format("10.1.0.0/24", "10.2.0.0/24"), TAIL.format("fd00:1::/64", "fd00:2::/64")


@pytest.fixture
def read(tmp_path):
    (tmp_path / "to-b.psk").touch(mode=0o600)
    (tmp_path / "to-b.psk").write_text("a secret both of them know\n")

    def examined(keys, tail=V4):
        path = tmp_path / "a.toml"
        path.write_text(HEAD + keys + "\n" + tail)
        return examine(path)

    return examined


def test_defaults_are_what_people_expect(read):
    assert read("")[0].tunnels[0].packets == Packets()
    assert (Packets().df, Packets().fragment, Packets().mtu, Packets().mss_clamp) == ("copy", "before", 0, "off")


def test_every_key_becomes_a_value(read):
    keys = 'mtu = 1400\nfragment = "after"\ndf = "clear"\nmss_clamp = "auto"\ndscp = 46\ndscp_in = "copy"\n'
    keys += 'ecn = "compatibility"\nhop_limit = "copy"\nflow_label = "flow"'
    assert read(keys)[0].tunnels[0].packets == Packets(
        mtu=1400,
        fragment="after",
        df="clear",
        mss_clamp="auto",
        dscp=46,
        dscp_in="copy",
        ecn="compatibility",
        hop_limit="copy",
        flow_label="flow",
    )
    assert read("mss_clamp = 1360\nhop_limit = 17")[0].tunnels[0].packets == Packets(mss_clamp=1360, hop_limit=17)


@pytest.mark.parametrize(
    ("keys", "tail", "key"),
    [
        ("mtu = 1279", V6, "mtu"),
        ("mtu = 1279", '[tunnel.auth]\npsk_file = "to-b.psk"\n', "mtu"),  # no proxy ID at all: both versions
        ("mtu = 575", V4, "mtu"),
        ("mtu = 65536", V4, "mtu"),
        ('fragment = "after"\ndf = "set"', V4, "fragment"),
        ("mss_clamp = 87", V4, "mss_clamp"),
        ('mss_clamp = "of"', V4, "mss_clamp"),
        ("dscp = 64", V4, "dscp"),
        ("dscp = -1", V4, "dscp"),
        ('dscp = "ef"', V4, "dscp"),
        ("hop_limit = 0", V4, "hop_limit"),
        ("hop_limit = 256", V4, "hop_limit"),
    ],
)
def test_what_cannot_be_is_one_line_with_tunnel_and_key(read, keys, tail, key):
    config, findings = read(keys, tail)
    errors = [finding for finding in findings if finding.severity == "error"]
    assert config is None
    assert [(finding.where, finding.key) for finding in errors] == [('tunnel "to-b"', key)]


def test_a_small_mtu_is_fine_without_ipv6(read):
    assert read("mtu = 1279")[0] is not None
