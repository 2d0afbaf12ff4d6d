"""`[tunnel.ike] version = "2-preferred"`: what it means for a tunnel, and with what `check` refuses it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ipsec_dp.config.change import compare
from ipsec_dp.config.load import examine, load
from ipsec_dp.databases.pad import peer_of
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.v1.registry import suites_phase1, suites_phase2
from tests.unit.test_config_ikev1 import PORTS, two, written

PREFERRED = 'version = "2-preferred"'


def file_of(directory, remote='"192.0.2.2"', **texts):
    path = written(directory, **({"ike": PREFERRED} | texts))
    path.write_text(path.read_text().replace('remote = "192.0.2.2"', f"remote = {remote}"))
    return path


def peer(directory, **texts):
    return peer_of(load(file_of(directory, **texts)).tunnel("to-b"))


def refusals(directory, **texts):
    config, found = examine(file_of(directory, **texts))
    errors = {finding.key: f"{finding.wrong}; {finding.right}" for finding in found if finding.severity == "error"}
    assert (config is None) is bool(errors)
    return errors


def test_it_is_a_tunnel_of_ikev2_that_knows_its_peer_by_ikev1_too(tmp_path):
    found = peer(tmp_path)
    usual = peer(tmp_path, ike="")
    assert (found.version, found.ike_proposals, found.esp_proposals) == (2, usual.ike_proposals, usual.esp_proposals)
    assert found.proxy_ids == usual.proxy_ids
    assert (found.fail_over, usual.fail_over, usual.fallback) == (True, False, None)
    by_ikev1 = found.fallback
    assert by_ikev1.version == 1
    assert str(suites_phase1(by_ikev1.ike_proposals)[0]) == "aes256-sha384-prfsha384-ecp384"
    assert str(suites_phase2(by_ikev1.esp_proposals)[0]) == "aes256gcm16"
    assert [str(pair) for pair in by_ikev1.proxy_ids] == ["0.0.0.0/0 <-> 0.0.0.0/0"]
    assert by_ikev1.auth == found.auth


def test_what_is_written_is_offered_as_far_as_ikev1_has_numbers_for_it(tmp_path):
    found = peer(
        tmp_path,
        ike=f'{PREFERRED}\nproposals = ["aes256gcm16-prfsha256-x25519", "aes128-sha256-x25519-modp2048"]',
        esp='proposals = ["chacha20poly1305-esn", "aes128-sha1"]',
    ).fallback
    assert [str(suite) for suite in suites_phase1(found.ike_proposals)] == ["aes128-sha256-prfsha256-modp2048"]
    assert [str(suite) for suite in suites_phase2(found.esp_proposals)] == ["aes128-sha1"]


def test_a_peer_with_a_name_comes_by_ikev1_from_known_addresses_alone(tmp_path):
    found = peer(tmp_path, remote='["vpn.example", "192.0.2.2"]', auth='psk_file = "to-b.psk"\nremote_id = "b.example"')
    assert (found.named, found.fallback.named, found.places) == (True, False, 2)
    assert found.fallback.remotes == (ip_address("192.0.2.2"),)


@pytest.mark.parametrize(
    ("texts", "key", "said"),
    [
        ({"ike": f'{PREFERRED}\nproposals = ["aes256gcm16-prfsha256-x25519"]'}, "ike.proposals", "could not fall"),
        ({"esp": 'proposals = ["chacha20poly1305"]'}, "esp.proposals", "could not fall"),
        ({"proxy_id": PORTS.format("5000-5010")}, "proxy_id #1", "any port or one"),
        ({"auth": 'psk_file = "to-b.psk"\nunique = "keep"'}, "auth.unique", "another main mode"),
        (
            {"remote": '"any"', "auth": 'psk_file = "to-b.psk"\nremote_id = "b.example"'},
            "ike.version",
            "addresses of its peer alone",
        ),
    ],
)
def test_what_it_cannot_be_with(tmp_path, texts, key, said):
    found = refusals(tmp_path, **texts)
    assert list(found) == [key]
    assert said in found[key]
    assert 'version = "2"' in found[key]


def test_aggressive_mode(tmp_path):
    assert list(refusals(tmp_path, ike=f'{PREFERRED}\nmode = "aggressive"')) == ["ike.mode"]


def test_two_secrets_for_one_address(tmp_path):
    assert len(load(two(tmp_path, "to-b.psk", PREFERRED)).tunnels) == 2
    _, found = examine(two(tmp_path, "to-c.psk", PREFERRED))
    assert any("another secret" in finding.wrong for finding in found if finding.severity == "error")


@pytest.mark.parametrize("before", ["", 'version = "1"'])
def test_a_change_of_it_begins_the_tunnel_anew(tmp_path, before):
    old = load(written(tmp_path, ike=before)).tunnel("to-b")
    new = load(written(tmp_path, ike=PREFERRED)).tunnel("to-b")
    for change in (compare(old, new), compare(new, old)):
        assert change is not None
        assert change.effect is Effect.RESTART
