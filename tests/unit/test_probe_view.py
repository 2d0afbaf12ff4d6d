"""What `ipsec-dp probe` shows of its findings, and that the tunnel at its end is one that `check` takes."""

from __future__ import annotations

import socket
import tomllib
from ipaddress import ip_address
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ipsec_dp.cli.probe import ProbeSockets, probe
from ipsec_dp.cli.probe_view import fields, fitting_tunnel, lines, name_of_vendor
from ipsec_dp.config import load
from ipsec_dp.ike.survey import Question
from ipsec_dp.ike.v1.survey import Ikev1Found
from ipsec_dp.ike.v2.survey import Ikev2Found

ADDRESS = ip_address("192.0.2.2")
HOST = "vpn.example.net"


def found2(**known: Any) -> Ikev2Found:
    usual: dict[str, Any] = {"spoken": True, "suite": "aes256gcm16-prfsha384-x25519", "nat": "none"}
    return Ikev2Found(**(usual | known))


def found1(**known: Any) -> Ikev1Found:
    usual: dict[str, Any] = {"spoken": True, "suite": "aes256-sha256-ecp256", "method": "psk"}
    return Ikev1Found(**(usual | known))


NO_IKEV2, NO_IKEV1 = Ikev2Found(), Ikev1Found()


@pytest.mark.parametrize(
    ("ikev2", "ikev1", "version", "suite"),
    [
        (found2(), NO_IKEV1, 2, "aes256gcm16-prfsha384-x25519"),
        (found2(), found1(), 2, "aes256gcm16-prfsha384-x25519"),
        (found2(suite="aes128-sha1-prfsha1-modp1024", legacy=True), NO_IKEV1, 2, "aes128-sha1-prfsha1-modp1024"),
        (NO_IKEV2, found1(), 1, "aes256-sha256-ecp256"),
        (found2(suite=None), found1(suite="aes128-sha1-modp1024", legacy=True), 1, "aes128-sha1-modp1024"),
    ],
)
def test_the_tunnel_passes_check_once_its_secret_is_there(ikev2, ikev1, version, suite, tmp_path):
    text = fitting_tunnel(HOST, ADDRESS, ikev2, ikev1)
    assert text is not None
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "to-vpn-example-net.psk").touch(mode=0o600)
    (tmp_path / "to-vpn-example-net.psk").write_text("a secret of thirty-two characters")
    (tunnel,) = load(tmp_path / "a.toml").tunnels
    assert (tunnel.ike.version, tunnel.remotes) == (version, (ADDRESS,))
    assert tomllib.loads(text)["tunnel"][0]["ike"]["proposals"] == [suite]


@pytest.mark.parametrize("host", ["::1", "-", '"; x', "a" * 300, "2001:db8::2"])
def test_whatever_the_host_is_called_the_name_is_one(host):
    text = fitting_tunnel(host, ADDRESS, found2(), NO_IKEV1)
    assert text is not None
    assert len(tomllib.loads(text)["tunnel"][0]["name"]) <= 35


def test_where_nothing_is_taken_no_tunnel_is_suggested():
    assert fitting_tunnel(HOST, ADDRESS, found2(suite=None), NO_IKEV1) is None
    text = "\n".join(lines(HOST, ADDRESS, "192.0.2.1 port 500", found2(suite=None), NO_IKEV1, None))
    assert "expects nobody from our address" in " ".join(text.split())
    assert "nobody answered" in "\n".join(lines(HOST, ADDRESS, "192.0.2.1 port 500", NO_IKEV2, NO_IKEV1, None))


def test_it_says_that_nothing_is_authenticated_in_80_columns():
    accepts = {f"algorithm{number}": bool(number % 2) for number in range(40)}
    ikev2 = found2(accepts=accepts, cookie=True, nat_port=True, vendors=[b"strongSwan", b"\x00" * 16])
    shown = click.unstyle("\n".join(lines(HOST, ADDRESS, "192.0.2.1 port 500", ikev2, found1(vendors=("DPD",)), None)))
    assert "Nothing of this is authenticated" in shown
    assert max(len(line) for line in shown.partition("[[tunnel]]")[0].splitlines()) <= 80
    assert fields(HOST, ADDRESS, "x", ikev2, NO_IKEV1, None)["authenticated"] is False


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (bytes.fromhex("afcad71368a1f1c96b8696fc77570100"), "DPD"),
        (b"a vendor", "a vendor"),
        (b"\x1b[31mred", "1b5b33316d726564"),
        (b"", ""),
        (b"\xff" * 2, "ffff"),
    ],
)
def test_a_vendor_id_is_a_name_or_octets_and_never_a_control(octets, name):
    assert name_of_vendor(octets) == name
    assert len(name_of_vendor(b"a" * 1000)) <= 48


def test_a_host_that_is_not_there_is_told_and_costs_no_traceback():
    done = CliRunner().invoke(probe, ["no-such-host.invalid"])
    assert "no-such-host.invalid" in str(done.exception)


def test_sockets_hear_the_one_who_is_asked_and_nobody_else():
    """They are connected; where ports 500 and 4500 are taken or not permitted, others are used."""
    here = ip_address("127.0.0.1")
    with ProbeSockets(here, here) as sockets, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        port = sockets.port(natt=False)
        stranger.sendto(b"x" * 40, ("127.0.0.1", port))
        assert sockets.receive(0.05) is None or port == 500
        refused = sockets.send(Question(b"x" * 40, lambda _: True)) or sockets.receive(1.0)
        assert port == 500 or "port unreachable" in str(refused)
