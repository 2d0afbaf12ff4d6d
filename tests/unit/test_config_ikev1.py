"""`[tunnel.ike] version = "1"`: what it means for a tunnel, and what IKEv1 has not, which `check` refuses by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipsec_dp.config.change import compare
from ipsec_dp.config.ikev1 import aggressive_risk
from ipsec_dp.config.load import examine, load
from ipsec_dp.databases.pad import peer_of
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.v1.registry import suites_phase1, suites_phase2
from tests.ike.pki import CA, OpenSsl

TUNNEL = """\
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
{tunnel}
{proxy_id}
[tunnel.auth]
{auth}
[tunnel.ike]
{ike}
[tunnel.esp]
{esp}
"""
PSK = 'psk_file = "to-b.psk"'
V1 = 'version = "1"'


def written(directory: Path, *, tunnel: str = "", proxy_id: str = "", auth: str = PSK, ike: str = V1, esp: str = "") -> Path:
    for name in ("to-b.psk", "to-c.psk"):
        secret = directory / name
        secret.touch(mode=0o600)
        secret.write_text(f"a secret of thirty-two characters, {name}")
    path = directory / "site-a.toml"
    path.write_text('[gateway]\nname = "a"\n' + TUNNEL.format(tunnel=tunnel, proxy_id=proxy_id, auth=auth, ike=ike, esp=esp))
    return path


def test_a_tunnel_speaks_ikev2_unless_something_is_said(tmp_path):
    assert peer_of(load(written(tmp_path, ike="")).tunnel("to-b")).version == 2


def test_version_1_has_proposals_of_its_own_and_one_proxy_id_for_all(tmp_path):
    peer = peer_of(load(written(tmp_path)).tunnel("to-b"))
    assert peer.version == 1
    assert str(suites_phase1(peer.ike_proposals)[0]) == "aes256-sha384-prfsha384-ecp384"
    assert str(suites_phase2(peer.esp_proposals)[0]) == "aes256gcm16"
    assert [str(pair) for pair in peer.proxy_ids] == ["0.0.0.0/0 <-> 0.0.0.0/0"]


def test_what_is_written_is_taken(tmp_path):
    written(tmp_path, ike=f'{V1}\nproposals = ["aes128-sha1-modp2048"]', esp='proposals = ["aes128-sha1-modp2048"]')
    peer = peer_of(load(tmp_path / "site-a.toml").tunnel("to-b"))
    assert [str(suite) for suite in suites_phase1(peer.ike_proposals)] == ["aes128-sha1-prfsha1-modp2048"]
    assert [str(suite) for suite in suites_phase2(peer.esp_proposals)] == ["aes128-sha1-modp2048"]


@pytest.mark.parametrize("ike", ["version = '2'", f"{V1}\nmode = 'aggressive'"])
def test_a_change_of_version_or_mode_begins_anew(tmp_path, ike):
    one = load(written(tmp_path)).tunnel("to-b")
    other = load(written(tmp_path, ike=ike)).tunnel("to-b")
    change = compare(one, other)
    assert change is not None
    assert change.effect is Effect.RESTART


PORTS = '[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\nprotocol = "tcp"\nremote_ports = "{}"\n'
ICMP = '[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\nprotocol = "icmp"\nicmp_type = 8\n'
REFUSED = [
    ({"ike": "version = '3'"}, 'ike.version: "3" is not taken here; write "1" or "2" or "2-preferred"'),
    (
        {"ike": f"{V1}\nproposals = ['aes256gcm16-prfsha256-ecp256']"},
        'ike.proposals: IKEv1 has no "aes256gcm16" in phase 1: no AEAD',
    ),
    ({"ike": f"{V1}\nproposals = ['aes256-sha256-x25519']"}, 'ike.proposals: IKEv1 has no number for "x25519"'),
    ({"ike": f"{V1}\nproposals = ['3des-md5-modp2048']"}, "ike.proposals: .*'3des' is not known here"),
    ({"ike": f"{V1}\nproposals = ['aes256-sha256-modp1024']"}, "ike.proposals: .*'modp1024' is too weak"),
    ({"esp": "proposals = ['chacha20poly1305']"}, 'esp.proposals: IKEv1 has no number for "chacha20poly1305"'),
    ({"proxy_id": PORTS.format("5000-5010")}, "proxy_id #1: IKEv1 can say any port or one"),
    (
        {"proxy_id": PORTS.format("opaque").replace("remote_ports", 'local_ports = "opaque"\nremote_ports')},
        "proxy_id #1: IKEv1 can say",
    ),
    ({"proxy_id": ICMP}, "proxy_id #1: IKEv1 can say any port or one, and no ICMP types"),
    ({"auth": f"{PSK}\nunique = 'keep'"}, 'auth.unique: "keep" would refuse the renewal of phase 1'),
]


@pytest.mark.parametrize(("keys", "said"), REFUSED)
def test_what_ikev1_has_not_is_refused_by_name(tmp_path, keys, said):
    config, findings = examine(written(tmp_path, **keys))
    assert config is None
    texts = [f"{finding.key}: {finding.wrong}; {finding.right}" for finding in findings if finding.severity == "error"]
    assert any(re.search(said, text) for text in texts), texts


@pytest.mark.parametrize("port", ["443", "any"])
def test_one_port_or_any_is_taken(tmp_path, port):
    assert load(written(tmp_path, proxy_id=PORTS.format(port))).tunnel("to-b").ike.version == 1


def warnings(path: Path) -> list[str]:
    return [f"{finding.key}: {finding.wrong}" for finding in load(path).warnings]


def test_warnings(tmp_path):
    assert not any("IKEv1" in text for text in warnings(written(tmp_path)))
    assert not any("IKEv1" in text for text in warnings(written(tmp_path, ike=f"{V1}\nfragment_size = 1280")))
    path = written(tmp_path, auth=f'{PSK}\nremote_id = "b.example"')
    path.write_text(path.read_text().replace('"192.0.2.2"', '"any"'))
    assert any("chooses a shared key before it knows the peer's identity" in text for text in warnings(path))


# ---- aggressive mode -----------------------------------------------------------------------------------------------------------


AGGRESSIVE = f'{V1}\nmode = "aggressive"'


def test_main_mode_is_spoken_unless_something_is_said(tmp_path):
    assert peer_of(load(written(tmp_path)).tunnel("to-b")).mode == "main"
    assert peer_of(load(written(tmp_path, ike=AGGRESSIVE)).tunnel("to-b")).mode == "aggressive"


def test_aggressive_mode_is_warned_of_and_why(tmp_path):
    path = written(tmp_path, ike=AGGRESSIVE)
    (said,) = (text for text in warnings(path) if text.startswith("ike.mode"))
    assert "says in clear who both sides are, and whoever begins it, or listens, can try offline which shared key it was" in said
    assert aggressive_risk(load(path).tunnel("to-b")) == said.removeprefix("ike.mode: ")
    assert aggressive_risk(load(written(tmp_path)).tunnel("to-b")) is None


def secret_of(directory: Path, octets: int, ike: str, remote: str = "192.0.2.2") -> Path:
    path = written(directory, ike=ike, auth=f'{PSK}\nremote_id = "b.example"')
    (directory / "to-b.psk").write_text("x" * octets + "\n")
    path.write_text(path.read_text().replace('"192.0.2.2"', f'"{remote}"'))
    return path


REFUSED_AGGRESSIVE = [
    ("mode = 'aggressive'", 40, "192.0.2.2", 'ike.mode: aggressive mode is IKEv1\'s, and version is "2"'),
    (AGGRESSIVE, 40, "any", "ike.mode: aggressive mode answers nobody but configured addresses"),
    (AGGRESSIVE, 40, "peer.example", "ike.mode: aggressive mode answers nobody but configured addresses"),
    (AGGRESSIVE, 31, "192.0.2.2", "holds 31 octets, 32 are the least where aggressive mode lets a secret be guessed offline"),
]


@pytest.mark.parametrize(("ike", "octets", "remote", "said"), REFUSED_AGGRESSIVE)
def test_aggressive_mode_is_refused_where_it_cannot_be_safe(tmp_path, ike, octets, remote, said):
    config, findings = examine(secret_of(tmp_path, octets, ike, remote))
    assert config is None
    (error,) = (finding for finding in findings if finding.severity == "error")
    assert said in f"{error.key}: {error.wrong}"


@pytest.mark.parametrize(("octets", "notation"), [(32, "x" * 32), (32, "0x" + "1a" * 32)])
def test_32_octets_of_the_secret_itself_are_enough(tmp_path, octets, notation):
    path = secret_of(tmp_path, octets, AGGRESSIVE)
    (tmp_path / "to-b.psk").write_text(notation)
    assert load(path).tunnel("to-b").ike.mode == "aggressive"
    (tmp_path / "to-b.psk").write_text(notation[:-2])
    assert examine(path)[0] is None


def test_aggressive_mode_is_taken_with_certificates_whatever_they_are_long(tmp_path):
    made = OpenSsl(tmp_path)
    made.certificate("ca", "/CN=authority", extensions=CA)
    made.certificate("a", "/CN=a.example", "ca", "subjectAltName=DNS:a.example", "ec")
    lines = 'local_id = "a.example"\ncertificate = "a.crt"\nprivate_key = "a.key"\nca = ["ca.crt"]'
    (said,) = (text for text in warnings(written(tmp_path, ike=AGGRESSIVE, auth=lines)) if text.startswith("ike.mode"))
    assert "offline" not in said


@pytest.mark.parametrize("ike", [V1, AGGRESSIVE, "version = '2'"], ids=["main mode", "aggressive mode", "IKEv2"])
def test_a_secret_that_can_be_guessed_is_told_in_every_mode(tmp_path, ike):
    """Whoever answers in the peer's place can try it offline in main mode and in IKEv2, too."""
    for octets in (15, 16):
        _, findings = examine(secret_of(tmp_path, octets, ike))
        told = [finding for finding in findings if "few enough to guess" in finding.wrong]
        assert len(told) == (octets == 15)


def two(directory: Path, secret: str, version: str = V1) -> Path:
    path = written(directory, proxy_id='[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\n')
    further = TUNNEL.replace('"to-b"', '"to-c"').format(
        tunnel="",
        proxy_id='[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "10.3.0.0/24"\n',
        auth=f'psk_file = "{secret}"\nremote_id = "c.example"',
        ike=version,
        esp="",
    )
    path.write_text(path.read_text() + further)
    return path


def test_one_address_has_one_secret(tmp_path):
    assert len(load(two(tmp_path, "to-b.psk")).tunnels) == 2
    assert len(load(two(tmp_path, "to-c.psk", "version = '2'")).tunnels) == 2
    assert len(load(two(tmp_path, "to-c.psk", AGGRESSIVE)).tunnels) == 2, "there the identity chooses it"
    config, findings = examine(two(tmp_path, "to-c.psk"))
    assert config is None
    (found,) = (finding for finding in findings if finding.severity == "error")
    assert found.wrong == 'is another secret than that of tunnel "to-b", and IKEv1 chooses it by the peer\'s address'


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed25519"])
def test_a_key_that_cannot_sign_in_ikev1_is_refused(tmp_path, kind):
    made = OpenSsl(tmp_path)
    made.certificate("ca", "/CN=authority", extensions=CA)
    made.certificate("a", "/CN=a.example", "ca", "subjectAltName=DNS:a.example", kind)
    lines = 'local_id = "a.example"\ncertificate = "a.crt"\nprivate_key = "a.key"\nca = ["ca.crt"]'
    config, findings = examine(written(tmp_path, auth=lines))
    said = [finding.wrong for finding in findings if finding.severity == "error"]
    assert (config is None) is (kind == "ed25519"), said
    assert said == ([] if config else ["IKEv1 has signatures by RSA, and by ECDSA with P-256, P-384 or P-521, and no others"])
