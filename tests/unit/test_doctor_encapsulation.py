"""What `doctor` says of how ESP travels: what firewalls have to let pass, and which tunnels could be faster."""

from __future__ import annotations

import pytest

from ipsec_dp.cli import encapsulation_checks
from ipsec_dp.cli.checks import Host
from ipsec_dp.errors import ControlError
from ipsec_dp.host import claim
from tests.doubles.config import configured, tunnel


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("lines", "told", "means"),
    [
        (
            (),
            "1 tunnel: ESP in UDP where the peer can, IP protocol 50 where UDP does not get through: let UDP ports",
            "",
        ),
        (('encapsulation = "udp"',), "1 tunnel: ESP in UDP: let UDP ports 500 and 4500 pass", ""),
        (
            ('encapsulation = "esp"',),
            "1 tunnel: IP protocol 50: let UDP port 500 and IP protocol 50 (ESP)",
            "costs throughput",
        ),
    ],
    ids=["auto", "udp", "esp"],
)
def test_what_firewalls_have_to_let_pass(host, lines, told, means):
    directory = host.root / "etc/ipsec-dp"
    directory.mkdir(parents=True)
    configured(directory, tunnel("to-b", *lines))
    (found,) = encapsulation_checks.encapsulations(host)
    assert (found.state, found.found.startswith(told), means in found.means) == ("ok", True, True)


class Answers:
    """A gateway that runs here, and what it says of its tunnels."""

    def __init__(self, *tunnels):
        self.tunnels = tunnels

    def __call__(self, *_):
        return {"gateway": "gw", "tunnels": [{"name": f"t{number}", **each} for number, each in enumerate(self.tunnels)]}


def test_tunnels_of_running_gateways_that_could_go_faster_are_named_with_what_helps(host, monkeypatch):
    slow = [{"encapsulation": "esp", "encapsulation_why": why} for why in ("fallback", "peer", "fallback", "configured")]
    monkeypatch.setattr(encapsulation_checks, "ask", Answers(*slow, {"encapsulation": "udp", "encapsulation_why": "auto"}))
    monkeypatch.setattr(claim, "names", lambda _: ["gw"])
    fallback, peer = encapsulation_checks.encapsulations(host)
    assert (fallback.state, fallback.found) == ("warn", "gw: IP protocol 50: t0, t2")
    assert "UDP does not get through" in fallback.means
    assert "let all of UDP port 4500 pass" in fallback.remedy
    assert (peer.state, peer.found) == ("warn", "gw: IP protocol 50: t1")
    assert "turn NAT traversal on" in peer.remedy


def test_a_gateway_that_does_not_answer_is_passed_over(host, monkeypatch):
    def refuse(*_):
        raise ControlError("not permitted")

    monkeypatch.setattr(encapsulation_checks, "ask", refuse)
    monkeypatch.setattr(claim, "names", lambda _: ["gw"])
    assert encapsulation_checks.encapsulations(host) == []
