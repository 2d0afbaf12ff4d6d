"""A configuration read again: only what the daemon does not have crosses, and what leads from one to the other."""

from __future__ import annotations

import pytest

from ipsec_dp.config import difference as differences
from ipsec_dp.config import load
from ipsec_dp.config.difference import ReadError, ReadRequest, answer, ask, difference, known
from ipsec_dp.config.files import fingerprint_key
from ipsec_dp.config.load import examine

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
"""


@pytest.fixture
def write(tmp_path):
    """Writes tunnels, and the secret once."""
    psk = tmp_path / "b.psk"
    psk.touch(mode=0o600)
    psk.write_text("a secret that is long enough")

    def write(text=TUNNEL):
        path = tmp_path / "site-a.toml"
        path.write_text('[gateway]\nname = "site-a"\n' + text)
        return path

    return write


def test_only_what_the_daemon_does_not_have_is_answered(write):
    old = load(write())
    other = TUNNEL.replace('"to-b"', '"to-c"').replace("10.2.0", "10.3.0")
    got = answer(ReadRequest(write(TUNNEL + other), {"to-b": known(old.tunnels[0])}, fingerprint_key()))
    assert [tunnel.name for tunnel in got.tunnels] == ["to-c"]

    found = difference(old, got)
    assert [tunnel.name for tunnel in found.new.tunnels] == ["to-b", "to-c"]
    assert found.new.tunnels[0] is old.tunnels[0]
    assert ([t.name for t in found.added], found.removed, found.changed, found.kept) == (["to-c"], (), (), 1)
    assert found.new.tunnel("to-c") is found.added[0]


def test_a_tunnel_that_is_not_written_any_more_is_removed(write):
    old = load(write())
    found = difference(old, answer(ReadRequest(write(""), {"to-b": known(old.tunnels[0])}, fingerprint_key())))
    assert ([tunnel.name for tunnel in found.removed], found.new.tunnels, found.kept) == (["to-b"], (), 0)


def test_a_file_with_an_error_is_refused_with_the_findings_of_check(write):
    path = write(TUNNEL.replace('"start"', '"sometimes"'))
    got = answer(ReadRequest(path, {}, fingerprint_key()))
    assert (got.config, got.findings) == (None, examine(path)[1])


def test_a_program_of_another_version_that_is_installed_by_now_reads_nothing_for_this_one(write, monkeypatch):
    """The objects that it would answer with may be laid out otherwise."""
    request = ReadRequest(write(), {}, fingerprint_key())
    assert [tunnel.name for tunnel in ask(request).tunnels] == ["to-b"]
    monkeypatch.setattr(differences, "__version__", "0.0.0.1")
    with pytest.raises(ReadError, match=r"could not be read again: version .* is installed, and the gateway is of another"):
        ask(request)
