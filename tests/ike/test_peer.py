"""What a configuration's keys mean for the IKE core."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.config import load
from ipsec_dp.databases.pad import KeyFiles, peer_of, resources_of
from ipsec_dp.ike.peer import Peer, SharedKeyAuth, Unique

TUNNEL = """
[gateway]
name = "site-a"
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
  [tunnel.auth]
  psk_file = "to-b.psk"
"""


def peer_with(directory: Path, auth: str = "", ike: str = "") -> Peer:
    secret = directory / "to-b.psk"
    secret.touch(mode=0o600)
    secret.write_text("a secret of thirty-two characters")
    path = directory / "site-a.toml"
    path.write_text(f"{TUNNEL}{auth}\n  [tunnel.ike]\n{ike}\n")
    return peer_of(load(path).tunnel("to-b"))


def test_without_them_ike_starts_on_port_500_and_nobody_authenticates_anew(tmp_path):
    made = peer_with(tmp_path)
    assert (made.unique, made.natt_first, made.datagram, made.reauth_s) == (Unique.REPLACE, False, 1280, 0.0)


def test_each_key_reaches_the_core(tmp_path):
    made = peer_with(tmp_path, 'unique = "never"', 'port = 4500\nfragment_size = 600\nreauth_after = "2h"')
    assert (made.unique, made.natt_first, made.datagram, made.reauth_s) == (Unique.NEVER, True, 600, 7200.0)


def test_a_file_that_many_tunnels_name_is_read_once_and_another_reload_reads_it_anew(tmp_path):
    peer_with(tmp_path)
    tunnel, read = load(tmp_path / "site-a.toml").tunnel("to-b"), KeyFiles()
    first = peer_of(tunnel, files_read=read)
    (tmp_path / "to-b.psk").write_text("another secret of as many octets")
    assert isinstance(first.auth, SharedKeyAuth)
    assert peer_of(tunnel, files_read=read).auth == first.auth
    assert not first.auth.asks_the_same(peer_of(tunnel).auth)


@pytest.mark.parametrize(
    ("workers", "tunnels", "each"), [(1, 1, 1), (3, 1, 3), (64, 1000, 16), (8, 10_000, 1), (2, 8192, 2), (2, 0, 2)]
)
def test_each_worker_has_a_child_sa_where_tunnels_are_not_too_many(workers, tunnels, each):
    config: Any = SimpleNamespace(workers=workers, tunnels=range(tunnels))
    assert resources_of(config) == each
