"""What the names of peers mean is asked for by a timer of its own, and decides whom we call, never who may call."""

from __future__ import annotations

import asyncio
import socket
import threading
from ipaddress import ip_address
from typing import Any, cast

import pytest

from ipsec_dp.host import HostError
from ipsec_dp.network.peer_names import AT_ONCE, PeerNames
from ipsec_dp.services.name_watch import AGAIN_MAX_S, AGAIN_S, EVERY_S, NameWatch
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import PSK, configured, tunnel
from tests.doubles.host import MemoryHost

NAMED = PSK + '  remote_id = "b.example"\n'
NAME = "gw.example"
ONE, OTHER, FIXED = (ip_address(text) for text in ("192.0.2.2", "192.0.2.9", "198.51.100.7"))


class Resolver:
    """In the place of getaddrinfo: what each name means now; what is not here does not exist."""

    def __init__(self) -> None:
        self.means: dict[str, Any] = {}
        self.asked: list[str] = []

    def __call__(self, name: str, *_: Any) -> list[Any]:
        self.asked.append(name)
        if name not in self.means:
            raise OSError(-2, "Name or service not known")
        return [(0, 0, 0, "", (str(address), 0)) for address in self.means[name]]


@pytest.fixture
def resolver(monkeypatch):
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


class Driver:
    """In the place of the IKE driver: what it was told of each tunnel, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[str]]] = []

    def located(self, tunnel, addresses):
        self.told.append((tunnel, [str(address) for address in addresses]))


class Site:
    """A watch, its host, and who is told."""

    def __init__(self, config) -> None:
        self.clock = FakeClock()
        self.host = MemoryHost(config, self.clock)
        self.driver: Driver | None = Driver()
        self.changes = 0
        self.watch = NameWatch(cast("Any", self.host), lambda: cast("Any", self.driver), self._changed, self.clock)

    def _changed(self):
        self.changes += 1

    @property
    def warnings(self):
        return self.host.conditions.texts

    @property
    def told(self):
        return [] if self.driver is None else self.driver.told


async def until(done):
    """The threads of a resolver are moved on by no clock of ours."""
    for _ in range(200_000):
        if done():
            await settle()
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


def living(config, life):
    async def whole():
        site = Site(config)
        try:
            await life(site)
        finally:
            await site.watch.close()

    asyncio.run(whole())


def test_a_name_is_asked_for_at_once_and_once_a_minute(tmp_path, resolver, caplog):
    resolver.means[NAME] = (OTHER, ONE)
    config = configured(tmp_path, tunnel(remote=NAME, keys=NAMED))

    async def life(site):
        await site.watch.apply(config)
        await until(lambda: site.told)
        assert site.told == [("to-b", ["192.0.2.2", "192.0.2.9"])]
        await site.clock.advance(EVERY_S - 1)
        assert resolver.asked == [NAME]
        resolver.means[NAME] = (OTHER,)
        await site.clock.advance(1)
        await until(lambda: len(site.told) == 2)
        assert site.told[-1] == ("to-b", ["192.0.2.9"])
        assert site.changes == 2
        assert "gw.example means 192.0.2.9 now, no longer 192.0.2.2, 192.0.2.9" in caplog.text

    caplog.set_level("INFO")
    living(config, life)


def test_of_several_remotes_all_addresses_count_in_their_order(tmp_path, resolver):
    resolver.means |= {NAME: (ONE,), "gw2.example": (OTHER,)}
    table = tunnel(keys=NAMED).replace('"192.0.2.2"', f'["{NAME}", "{FIXED}", "gw2.example"]')
    config = configured(tmp_path, table)

    async def life(site):
        await site.watch.apply(config)
        await until(lambda: site.told and len(site.told[-1][1]) == 3)
        assert site.told[-1] == ("to-b", ["192.0.2.2", "198.51.100.7", "192.0.2.9"])

    living(config, life)


def test_what_fails_is_asked_for_less_and_less_often_and_keeps_what_was_known(tmp_path, resolver):
    resolver.means[NAME] = (ONE,)
    config = configured(tmp_path, tunnel(remote=NAME, keys=NAMED))

    async def life(site):
        await site.watch.apply(config)
        await until(lambda: site.told)
        assert site.warnings == []
        del resolver.means[NAME]
        pauses, asked = [EVERY_S, AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S, 8 * AGAIN_S, 16 * AGAIN_S, AGAIN_MAX_S, AGAIN_MAX_S], 1
        for pause in pauses:
            await site.clock.advance(pause - 1)
            assert len(resolver.asked) == asked
            await site.clock.advance(1)
            asked += 1
            await until(lambda asked=asked: len(resolver.asked) == asked and site.clock.next_event is not None)
            await until(lambda: site.warnings)
        (warning,) = site.warnings
        assert warning == (
            "gw.example has no address: Name or service not known; check the name and this host's resolver; "
            "until then it is 192.0.2.2, as it was; the peer may call all the same"
        )
        assert len(site.told) == 1
        resolver.means[NAME] = (OTHER,)
        await site.clock.advance(AGAIN_MAX_S)
        await until(lambda: len(site.told) == 2)
        assert site.warnings == []

    living(config, life)


def test_a_reload_asks_for_new_names_alone_and_tells_what_is_known_of_the_others(tmp_path, resolver):
    resolver.means |= {NAME: (ONE,), "new.example": (OTHER,)}
    before = configured(tmp_path, tunnel(remote=NAME, keys=NAMED))
    after = configured(
        tmp_path, tunnel(remote=NAME, keys=NAMED), tunnel("to-c", remote="new.example", interface="ipsec1", keys=NAMED)
    )

    async def life(site):
        await site.watch.apply(before)
        await until(lambda: site.told)
        await site.watch.apply(after)
        assert site.told[1:] == [("to-b", ["192.0.2.2"])]
        await until(lambda: len(site.told) == 3)
        assert (site.told[-1], resolver.asked) == (("to-c", ["192.0.2.9"]), [NAME, "new.example"])
        await site.watch.apply(before)
        assert site.host.peers.names.known("new.example") == ()
        await site.clock.advance(EVERY_S)
        await until(lambda: len(resolver.asked) == 3)
        assert resolver.asked[2:] == [NAME]

    living(before, life)


def test_what_was_found_before_the_gateway_was_up_is_told_then(tmp_path, resolver):
    resolver.means[NAME] = (ONE,)
    config = configured(tmp_path, tunnel(remote=NAME, keys=NAMED))

    async def life(site):
        driver, site.driver = site.driver, None
        await site.watch.apply(config)
        await until(lambda: site.changes)
        site.driver = driver
        await site.clock.advance(1.0)
        assert site.told == [("to-b", ["192.0.2.2"])]

    living(config, life)


def test_nothing_is_asked_without_names(tmp_path, resolver):
    config = configured(tmp_path, tunnel())

    async def life(site):
        await site.watch.apply(config)
        await site.clock.advance(10 * EVERY_S)
        assert (resolver.asked, site.told) == ([], [])

    living(config, life)


# ---- a resolver that does not answer


def test_a_dead_resolver_holds_nothing_up_and_takes_a_few_threads(tmp_path, monkeypatch):
    """It would take the threads that read files, and the event loop with a call that waits."""
    answer, held = threading.Event(), []

    def dead(name, *_):
        held.append(name)
        answer.wait()
        raise OSError(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", dead)
    tables = (tunnel(f"t{n}", remote=f"gw{n}.example", interface=f"ipsec{n}", keys=NAMED) for n in range(10))
    config = configured(tmp_path, *tables)

    async def life(site):
        await site.watch.apply(config)
        await until(lambda: len(held) == AT_ONCE)
        assert await asyncio.to_thread(lambda: "read") == "read"
        assert await site.host.peers.listen_at(config.tunnels) == set(map(ip_address, ("192.0.2.1",)))
        assert len(held) == AT_ONCE
        answer.set()

    living(config, life)


def test_what_is_called_by_name_is_what_it_means_now_or_meant_last(resolver):
    names = PeerNames()

    async def whole():
        with pytest.raises(HostError, match=r"gw\.example has no address"):
            await names.addresses_to_call(NAME)
        resolver.means[NAME] = (ONE,)
        assert await names.addresses_to_call(NAME) == (ONE,)
        resolver.means[NAME] = (OTHER,)
        assert await names.addresses_to_call(NAME) == (OTHER,)
        del resolver.means[NAME]
        assert await names.addresses_to_call(NAME) == (OTHER,)
        assert await names.addresses_to_call(FIXED) == (FIXED,)

    asyncio.run(whole())
