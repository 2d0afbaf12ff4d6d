"""The addresses of a peer's name: all of them, in an order that stays, and only where there is a way."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any, cast

import pytest

from ipsec_dp.host import HostError
from ipsec_dp.host.names import ADDRESSES_MAX, addresses_of, routes_to

NAME = "gw.example"
V4, V6 = ("192.0.2.2", "192.0.2.9"), ("2001:db8::2", "2001:db8::9")


class Routes:
    """A host with a route to some addresses only."""

    def __init__(self, *reached: str) -> None:
        self.reached = reached

    async def get(self, remote: Any, local: Any = None) -> str:
        del local
        if str(remote) not in self.reached:
            raise HostError(f"no route to {remote}")
        return f"by {remote}"


@pytest.fixture
def resolver(monkeypatch):
    """The resolver's next answer; it may be an error."""
    answers: list[Any] = []

    def answer(*_: object) -> list[Any]:
        if answers and isinstance(answers[0], OSError):
            raise answers[0]
        return [(0, 0, 0, "", (text, 0)) for text in answers]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return answers


def found(local: str | None = None, routes: Routes | None = None, remote: Any = NAME) -> list[str]:
    start = None if local is None else ip_address(local)

    async def ask() -> Any:
        return await routes_to(remote, await addresses_of(remote), start, cast("Any", routes or Routes(*V4, *V6)))

    ways = asyncio.run(ask())
    assert all(way == f"by {address}" for address, way in cast("Any", ways))
    return [str(address) for address, _ in ways]


@pytest.mark.parametrize("answer", [V4 + V6, tuple(reversed(V4)) + tuple(reversed(V6)), V4 * 2 + V6])
def test_each_address_once_in_an_order_that_does_not_depend_on_the_server(resolver, answer):
    resolver.extend(answer)
    assert found() == [*V4, *V6]


def test_the_version_that_the_resolver_prefers_is_first(resolver):
    resolver.extend((*V6, *V4))
    assert found() == [*V6, *V4]


def test_what_has_no_route_is_left_out(resolver):
    resolver.extend((*V6, *V4))
    assert found(routes=Routes(*V4)) == [*V4]


def test_a_local_address_decides_the_version(resolver):
    resolver.extend((*V6, *V4))
    assert found(local="192.0.2.1") == [*V4]
    resolver[:] = V6
    with pytest.raises(HostError, match=r"gw\.example has no IPv4 address, and local is one"):
        found(local="192.0.2.1")


def test_without_any_way_each_is_told(resolver):
    resolver.extend(V4)
    with pytest.raises(HostError, match=r"no route to 192.0.2.2; no route to 192.0.2.9"):
        found(routes=Routes())


def test_a_name_without_an_address_names_the_cause_and_the_remedy(resolver):
    resolver.append(OSError(-2, "Name or service not known"))
    with pytest.raises(HostError, match=r"gw\.example has no address: Name or service not known; check the name"):
        found()


def test_answers_are_bounded_and_name_one_host_each(resolver):
    resolver.extend(f"198.51.100.{number}" for number in range(1, 200))
    assert len(asyncio.run(addresses_of(NAME))) == ADDRESSES_MAX
    resolver[:] = ["0.0.0.0", "224.0.0.1", "255.255.255.255", *V4]  # noqa: S104 - an answer
    assert found() == [*V4]
    resolver[:] = ["::", "ff02::1"]
    with pytest.raises(HostError, match="no address of one host"):
        found()


def test_an_address_is_itself(resolver):
    assert asyncio.run(addresses_of(ip_address(V4[0]))) == [ip_address(V4[0])]
    assert found(remote=ip_address(V4[0])) == [V4[0]]
