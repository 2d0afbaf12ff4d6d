"""A host that permits no IP protocol 50, as a container without CAP_NET_RAW: ESP goes in UDP alone, and what cannot be is said."""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from ipsec_dp.dataplane import Encapsulation
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.host import sockets
from ipsec_dp.host.sockets import NAT_PORT
from ipsec_dp.ike import actions as act
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.keying.encapsulations import Between, Encapsulations
from ipsec_dp.keying.unmade import Unmade
from ipsec_dp.rig import Network
from ipsec_dp.rig.configs import loaded
from ipsec_dp.rig.memory_site import MemorySite
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.config import tunnel
from tests.unit.ike_driver_site import ON_DEMAND, PATH, Site, event
from tests.unit.rig_sites import site

WHY = "IP protocol 50 is not permitted here"


@contextmanager
def without(tmp_path, here="auto", there="auto"):
    """Site a, on such a host, and b on another one."""
    with Network() as network:
        b = network.gateway(site("b", encapsulation=there))
        a = MemorySite(network, loaded(site("a", encapsulation=here), tmp_path, {}), [network.wire], [ip_address("192.0.2.1")])
        a.host.denied[Encapsulation.ESP] = WHY
        a.start()
        yield a, b


def status_of(member):
    return member.gateway.engine.ike.status("to-b")


@pytest.mark.parametrize(("here", "warned"), [("auto", True), ("udp", False)])
def test_esp_goes_in_udp_and_that_nothing_else_can_be_is_said_unless_it_is_meant(tmp_path, here, warned):
    with without(tmp_path, here) as (a, b):
        b.clock.advance(5)
        status = status_of(a)
        assert (status.state, status.encapsulation) == ("up", "udp")
        assert status.encapsulation_why == {"auto": "auto", "udp": "configured"}[here]
        said = [text for text in a.host.conditions.texts if text.startswith(f"{WHY}: ESP goes in UDP alone")]
        assert len(said) == warned


def test_nothing_falls_back_where_port_4500_is_blocked(tmp_path, monkeypatch):
    with without(tmp_path) as (a, b):
        passes = b.network.transmit

        def transmit(datagram):
            if datagram.destination.port != NAT_PORT:
                passes(datagram)

        monkeypatch.setattr(b.network, "transmit", transmit)
        b.clock.advance(120)
        assert status_of(a).encapsulation is None
        assert not any("fallback" in text for text in a.host.conditions.texts)
        assert not any("ESP" in str(sent) for sent in b.network.log)


@pytest.mark.parametrize(("no_esp", "tried"), [(WHY, False), (None, True)])
def test_nothing_is_blamed_where_there_is_no_other_way(no_esp, tried):
    clock = FakeClock()
    found = Encapsulations(lambda _: None, Conditions(clock), clock, no_esp)
    between = Between(ip_address("192.0.2.1"), ip_address("192.0.2.2"))
    assert found.nothing_back("to-b", between) is tried
    assert found.fell_back("to-b") is tried


def test_tunnels_that_are_to_have_it_say_so_and_why(tmp_path):
    with without(tmp_path, "esp") as (a, b):
        b.clock.advance(30)
        assert any(f'{WHY}: tunnels with encapsulation = "esp" carry nothing' in text for text in a.host.conditions.texts)
        assert status_of(a).state != "up"
        assert a.gateway.engine is not None


def test_the_delete_of_what_is_not_carried_follows_the_answer_that_made_it(tmp_path):
    """Before it, the peer has no such SA: it ignores the DELETE, and keeps what comes with the answer."""
    with Network() as network:
        b = network.gateway(site("b", encapsulation="esp", start="start"))
        there = loaded(site("a", encapsulation="esp", start="respond"), tmp_path, {})
        a = MemorySite(network, there, [network.wire], [ip_address("192.0.2.1")])
        a.host.denied[Encapsulation.ESP] = WHY
        a.start()
        b.clock.advance(4)
        sent = [
            named.group() for line in network.ladder().splitlines() if (named := re.search(r"[A-Z_]{8,} (request|response)", line))
        ]
        assert sent[2:] == [
            "IKE_AUTH request",
            "IKE_AUTH response",
            "INFORMATIONAL request",
            "INFORMATIONAL response",
            "CREATE_CHILD_SA request",
            "CREATE_CHILD_SA response",
            "INFORMATIONAL request",
            "INFORMATIONAL response",
        ]


def test_a_peer_that_has_it_tries_it_once_and_comes_back_to_udp(tmp_path):
    """Nothing came back of ESP in UDP, since nobody answered there. The tunnel carried nothing any more, for good."""
    with Network() as network:
        here = loaded(site("a", start="respond"), tmp_path, {})
        a = MemorySite(network, here, [network.wire], [ip_address("192.0.2.1")])
        a.host.denied[Encapsulation.ESP] = WHY
        a.start()
        b = network.gateway(site("b", start="start"))
        b.clock.advance(5)
        engine: Any = b.site.gateway.engine
        ike, answers = engine.ike, []
        b.site.clock.call_at(b.site.clock.now() + 1, lambda: answers.append(ike.nothing_back("to-a")))
        b.clock.advance(10)
        status = ike.status("to-a")
        assert (answers, status.state, status.encapsulation, status.encapsulation_why) == ([True], "up", "udp", "auto")
        b.site.clock.call_at(b.site.clock.now() + 1, lambda: answers.append(ike.nothing_back("to-a")))
        b.clock.advance(10)
        assert (answers, ike.status("to-a").encapsulation) == ([True, False], "udp"), "and stays there"


def installs(number):
    keys = [bytearray(os.urandom(36)) for _ in range(2)]
    child: dict[str, Any] = {
        "tunnel": "to-b",
        "child": number,
        "suite": parse_suite("aes256gcm16"),
        "selectors": (),
        "limits": act.ChildLimits(),
    }
    way: dict[str, Any] = {"path": PATH, "udp": False}
    return keys, (
        act.InstallInbound(spi=0x1000, keymat=keys[0], replay_window=64, **child, **way),
        act.InstallOutbound(spi=0x2000, keymat=keys[1], **child, **way),
        act.SwitchOutbound("to-b", number),
    )


def test_what_is_left_of_a_child_sa_that_cannot_be_installed_is_passed_over(tmp_path, caplog):
    """It ended in a KeyError, which the event loop logged with each attempt."""
    driven = Site(tmp_path, tunnel("to-b", ON_DEMAND))
    driven.children.answers["install_inbound"] = DataPlaneError(errno.EPERM, WHY)
    keys, actions = installs(7)

    async def life():
        up = act.Report(act.Event(act.Kind.CHILD_UP, "to-b", bytes(8), bytes(8), "", "it is up", child=7, origin=act.Origin.OURS))
        driven.hand(*actions, up, event(act.Kind.WHOLE), act.Send(b"next", PATH))
        assert [call[0] for call in driven.children.calls] == ["install_inbound"]
        assert [call[:3] for call in driven.core.of("delete_child")] == [("delete_child", "to-b", 7)]
        assert [call[3] for call in driven.links.of("send_ike")] == [b"next"], "what the peer is told goes on"
        assert keys[1] == bytes(36), "nobody will have it"
        assert WHY in str(driven.driver.status("to-b").last_error)
        assert "it is up" not in caplog.text
        driven.children.answers["install_inbound"] = []
        driven.hand(*installs(8)[1])
        assert [call[0] for call in driven.children.calls[1:]] == ["install_inbound", "install_outbound", "switch"], "the control"

    driven.run(life)


def test_what_is_about_another_child_sa_goes_on():
    unmade = Unmade()
    (_, (inbound, outbound, switch)), (_, others) = installs(7), installs(8)
    assert not any(map(unmade.passes_over, (inbound, outbound, switch, *others)))
    unmade.add(7)
    assert all(map(unmade.passes_over, (inbound, outbound, switch)))
    assert not any(map(unmade.passes_over, others))
    assert not unmade.passes_over(act.RemoveChild("to-b", 7)), "what takes it away is carried out"


def test_whether_the_kernel_permits_it_is_asked_of_the_kernel(monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refused)
    assert "CAP_NET_RAW" in str(sockets.no_esp())

    def missing(*_):
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(socket, "socket", missing)
    assert sockets.no_esp() is None, "no matter of permission"
