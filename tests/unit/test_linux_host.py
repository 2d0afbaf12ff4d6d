"""This machine as a gateway's host: what is done in which order, with the kernel's own objects in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.host import HostError, claim, privilege
from ipsec_dp.network import linux_host
from ipsec_dp.network.linux_host import LinuxHost
from tests.doubles.clock import FakeClock
from tests.doubles.config import configured, tunnel


class Part:
    """Guard, routing or interfaces: notes what it is asked for."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name, self._calls = name, calls
        self.refuses: set[str] = set()
        self.left: list[str] = []

    async def _do(self, what: str) -> Any:
        self._calls.append(f"{self._name} {what}")
        if what in self.refuses:
            raise HostError(f"{what}: no")
        return self.left

    def __getattr__(self, what: str) -> Any:
        return lambda *_: self._do(what)


class Watch:
    """What keeps the kernel's state."""

    restored = {"guard": 3}  # noqa: RUF012 - nobody writes to it

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def open(self) -> None:
        self._calls.append("watch open")

    async def close(self) -> None:
        self._calls.append("watch closed")

    async def look(self) -> None:
        self._calls.append("watch looks")

    async def verify(self) -> None:
        self._calls.append("watch verifies")


@pytest.fixture
def host(tmp_path, monkeypatch):
    @asynccontextmanager
    async def netlink():
        calls.append("netlink open")
        yield "ipr"
        calls.append("netlink closed")

    calls: list[str] = []
    monkeypatch.setattr(linux_host, "open_netlink", netlink)
    monkeypatch.setattr(claim, "take", lambda _: claim.Claim(None))
    monkeypatch.setattr(linux_host, "KernelWatch", lambda *_: Watch(calls))
    made: Any = LinuxHost(configured(tmp_path, tunnel()), FakeClock())
    made.calls = calls
    made.guard, made.routing, made.interfaces = (Part(name, calls) for name in ("guard", "routing", "interfaces"))
    made.guard.tables, made.routing.table = (), SimpleNamespace(held=None)
    return made


CLOSED = ["guard narrow", "guard apply_zones", "routing apply_bypass", "routing hold"]


def test_the_guard_is_closed_before_routes_say_unreachable(host):
    asyncio.run(host.close_guard())
    assert host.calls == ["netlink open", "routing routed", "watch open", *CLOSED]


def test_the_guard_is_closed_also_where_nothing_can_be_watched_and_the_start_fails(host, monkeypatch):
    def refused(_watch: Watch) -> None:
        raise HostError("netlink: no")

    monkeypatch.setattr(Watch, "open", refused)
    with pytest.raises(HostError, match=r"^netlink: no$"):
        asyncio.run(host.close_guard())
    assert host.calls[-4:] == CLOSED


def test_a_gateway_of_this_name_that_runs_here_is_left_alone(host):
    host.routing.left = ["10.2.0.0/24"]
    with pytest.raises(HostError, match=r"already running in this network namespace: 10\.2\.0\.0/24 leads into its tunnel"):
        asyncio.run(host.close_guard())
    assert host.calls == ["netlink open", "routing routed"]


@pytest.mark.parametrize("refused", [call.split() for call in CLOSED], ids=CLOSED)
def test_each_part_is_closed_whatever_becomes_of_the_others_and_the_start_fails(host, refused):
    part, what = refused
    getattr(host, part).refuses = {what}
    with pytest.raises(HostError, match=f"^{what}: no$"):
        asyncio.run(host.close_guard())
    assert host.calls[-4:] == CLOSED


def test_what_is_not_permitted_is_said_once_with_the_remedy(host, monkeypatch):
    async def denied() -> None:
        raise HostError("Operation not permitted")

    monkeypatch.setattr(host.guard, "narrow", denied, raising=False)
    monkeypatch.setattr(host.routing, "hold", denied, raising=False)
    with pytest.raises(HostError, match=r"^Operation not permitted; run it as root, or by the service unit: .* CAP_NET_ADMIN$"):
        asyncio.run(host.close_guard())


def test_who_may_change_routes_but_not_the_guard_is_told_that_another_program_owns_it(host, monkeypatch):
    async def denied() -> None:
        raise HostError("nft -f -: Error: Could not process rule: Operation not permitted")

    monkeypatch.setattr(privilege, "has", lambda _: True)
    monkeypatch.setattr(host.guard, "narrow", denied, raising=False)
    with pytest.raises(HostError, match=r"Operation not permitted; another program keeps that table for itself \(`flags owner`"):
        asyncio.run(host.close_guard())


def test_who_may_change_nothing_is_not_told_of_another_program(host, monkeypatch):
    async def denied() -> None:
        raise HostError("the nftables cannot be read: Operation not permitted")

    monkeypatch.setattr(privilege, "has", lambda _: False)
    monkeypatch.setattr(host.guard, "narrow", denied, raising=False)
    with pytest.raises(HostError, match=r"Operation not permitted; run it as root, or by the service unit: .* CAP_NET_ADMIN$"):
        asyncio.run(host.close_guard())


def test_the_guard_is_the_last_to_go(host):
    asyncio.run(host.open_guard())
    assert host.calls == ["routing remove", "guard remove"]


def test_what_is_made_is_kept_until_it_is_taken_away(host):
    async def life() -> None:
        assert host.restored == {}
        await host.verify()
        await host.close_guard()
        assert host.restored == {"guard": 3}
        host.calls.clear()
        await host.verify()
        await host.open_guard()
        await host.close()

    asyncio.run(life())
    assert host.calls == ["watch verifies", "watch closed", "routing remove", "guard remove", "netlink closed"]


def test_the_peers_are_reached_while_netlink_is_open(host):
    async def life() -> None:
        with pytest.raises(HostError, match="rtnetlink is not open"):
            _ = host.peers
        await host.close_guard()
        assert host.peers is host.peers
        await host.close()
        with pytest.raises(HostError, match="rtnetlink is not open"):
            _ = host.peers

    asyncio.run(life())
    assert host.calls[-1] == "netlink closed"


def test_mtus_widen_interfaces_before_routes(host):
    asyncio.run(host.apply_mtus({"to-b": 1400}))
    assert host.calls == ["interfaces apply_mtus", "routing apply_mtus"]


def test_a_changed_host_is_asked_anew_before_guard_and_routes_are(host, monkeypatch):
    async def life() -> None:
        await host.close_guard()
        monkeypatch.setattr(host.peers, "forget", lambda: host.calls.append("peers forget"))
        host.calls.clear()
        await host.renew()
        assert host.calls == ["peers forget", "watch looks", "guard renew", "routing renew"]

    asyncio.run(life())
