"""What becomes of a tunnel whose configuration changed, key by key."""

from __future__ import annotations

from dataclasses import fields

import pytest

from ipsec_dp.config import load
from ipsec_dp.config.change import EFFECTS, compare
from ipsec_dp.config.difference import known
from ipsec_dp.ike.effect import Effect
from tests.ike.pki import CA, OpenSsl

TUNNEL = """
[[tunnel]]
name = "to-b"
local = "192.0.2.1"
remote = "192.0.2.2"
interface = "ipsec0"
start = "start"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/24"
  remote = "10.2.0.0/24"
  [tunnel.auth]
  local_id = "a.example"
  remote_id = "b.example"
  psk_file = "b.psk"
  [tunnel.ike]
  lifetime = "8h"
  liveness = { interval = "10s", retries = 5 }
  [tunnel.esp]
  lifetime = "1h"
"""
GATEWAY = '[gateway]\nname = "site-a"\n'


@pytest.fixture
def write(tmp_path):
    """Writes tunnels (and the secret) and reads them."""

    def write(text=TUNNEL, secret="a secret that is long enough"):  # noqa: S107
        psk = tmp_path / "b.psk"
        psk.touch(mode=0o600)
        psk.write_text(secret)
        path = tmp_path / "site-a.toml"
        path.write_text(GATEWAY + text)
        return path

    return write


def test_every_key_of_the_model_has_its_row():
    assert {kind.__name__: {key.name for key in fields(kind) if key.compare} for kind in EFFECTS} == {
        kind.__name__: set(rows) for kind, rows in EFFECTS.items()
    }


@pytest.mark.parametrize(
    ("written", "instead", "keys", "effect"),
    [
        ('interval = "10s"', 'interval = "3s"', ("ike.liveness.interval_s",), Effect.IN_PLACE),
        ('lifetime = "8h"', 'lifetime = "4h"', ("ike.lifetime_s",), Effect.IN_PLACE),
        ('lifetime = "1h"', 'lifetime = "1h"\nlife_packets = 7', ("esp.life_packets",), Effect.IN_PLACE),
        ('start = "start"', 'start = "respond"', ("start",), Effect.IN_PLACE),
        ('start = "start"', 'start = "start"\nroutes = "none"', ("routes",), Effect.IN_PLACE),
        ('remote = "10.2.0.0/24"', 'remote = "10.3.0.0/24"', ("routes", "proxy_ids"), Effect.SELECTORS),
        ('lifetime = "1h"', 'lifetime = "1h"\nreplay_window = 64', ("esp.replay_window",), Effect.REKEY),
        ('lifetime = "1h"', 'proposals = ["aes128gcm16"]', ("esp.proposals",), Effect.REKEY),
        ('lifetime = "8h"', 'proposals = ["aes256gcm16-prfsha384-ecp384"]', ("ike.proposals",), Effect.RESTART),
        ('remote = "192.0.2.2"', 'remote = "192.0.2.3"', ("remotes",), Effect.RESTART),
        ('"b.example"', '"c.example"', ("auth.remote_id",), Effect.RESTART),
        ('"ipsec0"', '"ipsec1"', ("interface",), Effect.RESTART),
    ],
)
def test_a_tunnel_needs_the_greatest_of_its_changes(write, written, instead, keys, effect):
    (before,) = load(write()).tunnels
    (after,) = load(write(TUNNEL.replace(written, instead, 1))).tunnels
    change = compare(before, after)
    assert change is not None
    assert (change.keys, change.effect) == (keys, effect)


def test_what_is_written_otherwise_and_means_the_same_is_no_change(write):
    (before,) = load(write()).tunnels
    (after,) = load(write(TUNNEL.replace('"8h"', '"480m"').replace("  ", ""))).tunnels
    assert compare(before, after) is None
    assert before.written != after.written


def test_another_content_of_a_secret_is_another_authentication(write):
    (before,) = load(write()).tunnels
    (after,) = load(write(secret="another secret, as long as that")).tunnels
    assert known(before) != known(after)
    change = compare(before, after)
    assert change is not None
    assert (change.keys, change.effect) == (("auth.material",), Effect.RESTART)
    assert before.auth is not None
    assert b"secret" not in before.auth.material


CERTIFIED = """
[[tunnel]]
name = "a"
local = "192.0.2.1"
remote = "192.0.2.2"
interface = "ipsec0"
  [tunnel.auth]
  certificate = "gw.crt"
  private_key = "gw.key"
  ca = ["ca.crt"]
  crl = ["ca.crl"]
"""


@pytest.mark.parametrize(
    ("renewed", "key", "effect"),
    [
        ("gw", "auth.material", Effect.REAUTH),
        ("ca", "auth.ca_material", Effect.RECHECK),
        ("crl", "auth.crl_material", Effect.RECHECK),
    ],
)
def test_another_content_of_a_file_asks_for_what_it_is_there_for(tmp_path, renewed, key, effect):
    """Our certificate is shown again, and by authorities and CRLs the peer's is judged again: no traffic stops."""
    pki = OpenSsl(tmp_path)
    for name in ("ca", "other"):
        pki.certificate(name, f"/CN={name}", extensions=CA)
    pki.crl("ca", "ca")
    pki.certificate("gw", "/CN=gw", "ca", "subjectAltName=IP:192.0.2.1")
    (tmp_path / "a.toml").write_text(CERTIFIED)
    (before,) = load(tmp_path / "a.toml").tunnels
    match renewed:
        case "gw":
            pki.certificate("gw", "/CN=gw", "ca", "subjectAltName=IP:192.0.2.1")
        case "ca":
            (tmp_path / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes() + (tmp_path / "other.crt").read_bytes())
        case "crl":
            pki.crl("ca", "ca", ("gw",))
    (after,) = load(tmp_path / "a.toml").tunnels
    assert known(before) != known(after)
    change = compare(before, after)
    assert change is not None
    assert (change.keys, change.effect) == ((key,), effect)
