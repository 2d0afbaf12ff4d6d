"""The way by which a host is administered: whether a configuration takes it, and the one policy that keeps it."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.config import load
from ipsec_dp.gateway import management
from ipsec_dp.gateway.management import Session, lockout_of, ssh_session, with_bypass
from ipsec_dp.host import HostError, ssh
from ipsec_dp.host.outer import OuterRoute
from ipsec_dp.ipsec.addresses import AddressRange
from tests.doubles.config import PSK, configured, proxy_id, tunnel

SESSION = ssh_session("198.51.100.7 51234 192.0.2.1 22")
ROUTES = 'routes = ["0.0.0.0/0"]'
EVERYTHING = tunnel("b", ROUTES, keys=proxy_id("0.0.0.0/0", "0.0.0.0/0") + PSK)
LAN_TO_EVERYTHING = tunnel("b", ROUTES, keys=proxy_id("10.1.0.0/24", "0.0.0.0/0") + PSK)
HOST = [ip_network(each) for each in ("0.0.0.0/0", "192.0.2.0/24", "10.1.0.0/24")]


def policy(action: str, **keys: Any) -> str:
    lines = "".join(f"{key} = {value!r}\n".replace("'", '"') for key, value in keys.items())
    return f'[[policy]]\naction = "{action}"\n{lines}'


def look(tmp_path, *tables, session=SESSION, host=HOST, inside=()):
    return lockout_of(configured(tmp_path, *tables), session, host, [AddressRange.of(each) for each in inside])


def test_an_ssh_session_is_read_as_sshd_writes_it():
    assert Session(ip_address("198.51.100.7"), ip_address("192.0.2.1"), 22, 51234) == SESSION
    assert ssh_session("2001:db8::7 51234 2001:db8::1 2222") == Session(
        ip_address("2001:db8::7"), ip_address("2001:db8::1"), 2222, 51234
    )


@pytest.mark.parametrize(
    "text",
    ["", "x", "198.51.100.7 51234 192.0.2.1", "198.51.100.7 a 192.0.2.1 22", "fe80::7%eth0 51234 fe80::1%eth0 22", "::1 5 ::1 22"],
)
def test_what_is_no_session_of_use_is_none(text):
    assert ssh_session(text) is None


@pytest.mark.parametrize("tables", [(EVERYTHING,), (LAN_TO_EVERYTHING,)], ids=["guard and routes", "routes alone"])
def test_a_tunnel_for_everything_takes_a_session_and_one_policy_keeps_it(tmp_path, tables):
    found = look(tmp_path, *tables)
    assert found.named is None
    assert found.toml == (
        '[[policy]]\naction = "bypass"\nlocal = "192.0.2.1"\nremote = "198.51.100.7"\nprotocol = "tcp"\nlocal_ports = 22\n'
    )
    finding = found.finding("a.toml")
    assert finding.severity == "warning"
    assert "this SSH session from 198.51.100.7 is cut off" in str(finding)
    assert look(tmp_path, found.toml, *tables) is None, "what is printed keeps it"
    config = configured(tmp_path, *tables)
    assert with_bypass(config, found).policies == configured(tmp_path, found.toml, *tables).policies


def test_the_policy_is_one_port_of_one_address_to_one_address(tmp_path):
    (selector,) = look(tmp_path, EVERYTHING).session.policy.selectors
    assert selector.local.low == selector.local.high == ip_address("192.0.2.1")
    assert selector.remote.low == selector.remote.high == ip_address("198.51.100.7")
    assert (selector.protocol.single, selector.local_ports.single) == (6, 22)


def test_the_port_is_that_of_the_session(tmp_path):
    found = look(tmp_path, EVERYTHING, session=ssh_session("198.51.100.7 51234 192.0.2.1 2222"))
    assert found.toml.endswith("local_ports = 2222\n")


NAMED = tunnel("b", keys=proxy_id("192.0.2.0/24", "198.51.100.0/24") + PSK)
BY_ROUTE = tunnel("b", 'routes = ["198.51.100.0/24"]', keys=proxy_id("0.0.0.0/0", "0.0.0.0/0") + PSK)
LAN_BY_ROUTE = tunnel("b", 'routes = ["198.51.100.0/24"]', keys=proxy_id("10.1.0.0/24", "0.0.0.0/0") + PSK)


@pytest.mark.parametrize("table", [NAMED, BY_ROUTE, LAN_BY_ROUTE], ids=["proxy ID", "route", "route alone"])
def test_no_policy_is_offered_into_a_network_that_is_protected_by_name(tmp_path, table):
    found = look(tmp_path, table)
    assert str(found.named) == "198.51.100.0-198.51.100.255"
    assert found.toml == found.kept == ""
    assert "198.51.100.7 lies in 198.51.100.0/24, which is protected" in str(found.finding("a.toml"))
    config = configured(tmp_path, table)
    assert with_bypass(config, found) is config
    assert with_bypass(config, None) is config


KEPT = {
    "a bypass for it": (policy("bypass", remote="198.51.100.0/24", protocol="tcp", local_ports=22), EVERYTHING),
    "another network": (tunnel("b", keys=proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK),),
    "nothing routed": (tunnel("b"),),
}


@pytest.mark.parametrize("tables", KEPT.values(), ids=KEPT)
def test_a_session_that_is_not_taken_is_not_spoken_of(tmp_path, tables):
    assert look(tmp_path, *tables) is None


def test_a_bypass_behind_what_protects_it_keeps_nothing(tmp_path):
    protect = policy("protect", tunnel="b", remote="198.51.100.0/24", protocol="tcp")
    late = policy("bypass", remote="198.51.100.7", protocol="tcp", local_ports=22)
    assert look(tmp_path, EVERYTHING, protect, late) is not None


def test_who_sits_in_an_attached_network_is_on_this_side(tmp_path):
    session = ssh_session("10.1.0.9 51234 10.1.0.1 22")
    assert look(tmp_path, EVERYTHING, session=session, inside=["10.1.0.0/24"]) is None
    assert look(tmp_path, EVERYTHING, session=session) is not None


# ---- what this host says ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Its SSH session, routes and the routers to them."""
    has = SimpleNamespace(connection=None, routes={4: HOST, 6: []}, asked=[], refused=False)

    class Tables:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        async def routes(self, version: int, **_: Any) -> list[Any]:
            if has.refused:
                raise HostError("rtnetlink: no")
            return [SimpleNamespace(prefix=prefix) for prefix in has.routes[version]]

    @asynccontextmanager
    async def netlink():
        yield None

    async def route(_ipr: Any, remote: Any) -> OuterRoute:
        has.asked.append(remote)
        return OuterRoute(ip_address("192.0.2.1"), 2, 1500, ip_address("192.0.2.254"))

    async def inside(_ipr: Any, outer: set[int]) -> list[Any]:
        assert outer == {2}
        return []

    monkeypatch.setattr(ssh, "connection", lambda: has.connection)
    monkeypatch.setattr(management, "Bulk", Tables)
    monkeypatch.setattr(management, "open_netlink", netlink)
    monkeypatch.setattr(management, "outer_route", route)
    monkeypatch.setattr(management, "inside_networks", inside)
    return has


def test_the_ssh_session_counts_where_there_is_one(machine, tmp_path):
    machine.connection = "198.51.100.7 51234 192.0.2.1 22"
    found: Any = asyncio.run(management.look(configured(tmp_path, EVERYTHING)))
    assert (found.session, found.session.ssh) == (SESSION, True)


def test_without_one_the_router_of_the_default_route_stands_for_who_comes_that_way(machine, tmp_path):
    found: Any = asyncio.run(management.look(configured(tmp_path, EVERYTHING)))
    assert found.session == Session(ip_address("192.0.2.254"), ip_address("192.0.2.1"), ssh=False)
    assert "who comes by the default route, from 192.0.2.254, is cut off" in str(found.finding("a.toml"))
    assert not any(machine.asked[0] in prefix for prefix in HOST[1:]), "what only the default route holds"


def test_who_wrote_a_bypass_for_ssh_has_thought_of_it(machine, tmp_path):
    thought = policy("bypass", remote="203.0.113.0/24", protocol="tcp", local_ports=22)
    assert asyncio.run(management.look(configured(tmp_path, thought, EVERYTHING))) is None
    machine.connection = "198.51.100.7 51234 192.0.2.1 22"
    assert asyncio.run(management.look(configured(tmp_path, thought, EVERYTHING))) is not None


@pytest.mark.parametrize("lacks", ["default route", "netlink"])
def test_where_nothing_is_known_nothing_is_said(machine, tmp_path, lacks):
    machine.routes, machine.refused = {4: HOST[1:], 6: []}, lacks == "netlink"
    assert asyncio.run(management.look(configured(tmp_path, EVERYTHING))) is None


def test_sudo_hides_the_session_and_the_parents_still_show_it(monkeypatch, tmp_path):
    monkeypatch.delenv(ssh.VARIABLE, raising=False)
    monkeypatch.setattr(os, "getppid", lambda: 40)
    for pid, parent, environment in ((40, 30, b"A=1\0"), (30, 20, b"B=2\0SSH_CONNECTION=198.51.100.7 1 192.0.2.1 22\0")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "environ").write_bytes(environment)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a (b) c) S {parent} 1 1")
    assert ssh.connection(tmp_path) == "198.51.100.7 1 192.0.2.1 22"
    (tmp_path / "30" / "environ").write_bytes(b"")
    assert ssh.connection(tmp_path) is None
    monkeypatch.setenv(ssh.VARIABLE, "own")
    assert ssh.connection(tmp_path) == "own"


def test_what_is_printed_is_a_configuration(tmp_path):
    found = look(tmp_path, EVERYTHING)
    (tmp_path / "gw.toml").write_text('[gateway]\nname = "gw"\n' + found.toml + EVERYTHING)
    assert load(tmp_path / "gw.toml").policies == (found.session.policy,)
