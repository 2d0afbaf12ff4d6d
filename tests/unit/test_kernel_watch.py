"""Which part is made again after which report, and what a look finds: with guard, zones, routes and rules in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from ipsec_dp.host import HostError, nft
from ipsec_dp.host.bulk import KernelRoute
from ipsec_dp.host.changes import Losses
from ipsec_dp.host.held import place
from ipsec_dp.host.nft_reports import DELTABLE, NEWTABLE, Transaction
from ipsec_dp.host.routes import UNREACHABLE
from ipsec_dp.host.routing_rules import RoutingRule
from ipsec_dp.network.kept import KeptNft, KeptRoutes, KeptRules
from ipsec_dp.network.kernel_watch import LOOK_S, KernelWatch
from ipsec_dp.util.conditions import Conditions
from ipsec_dp.util.rest import MOST_S
from tests.doubles.clock import FakeClock, settle

GUARD, ZONES = "ipsec_dp_gw", "ipsec_dp-zones_gw"
NEWRULE = 6
SOMEBODY = 4_000_000_000  # a port that is no process
RULE = RoutingRule(version=4, priority=20209, target=0xE5000018, mark=(0xE5, 0xFFFFFFFF), invert=True, owner=229)
HELD_BACK = KernelRoute(ip_network("10.2.0.0/24"), 0xE5000018, 4_000_000_000, 229, UNREACHABLE)
LED = KernelRoute(ip_network("10.2.0.0/24"), 0xE5000018, 50, 229, interface=7)
OTHERS = KernelRoute(ip_network("10.9.0.0/24"), 0xE5000018, 50, 229, UNREACHABLE)


class Kernel:
    """A table, or the routes and rules; `cheap` counts looks by digest alone."""

    def __init__(self, table: str, calls: list[str]) -> None:
        self.table, self._calls = table, calls
        self.whole = self.wanted = True
        self.error: Exception | None = None

    async def is_whole(self) -> bool:
        self._calls.append(f"look at {self.table}")
        if self.error is not None:
            raise self.error
        return self.whole

    async def restore(self) -> bool:
        self._calls.append(f"make {self.table}")
        self.whole = True
        return self.wanted


class Held:
    """In the place of `host.held.Held`, with a kernel in it."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls
        self.rules = frozenset({RULE})
        self.routes = {place(each): each for each in (HELD_BACK, LED)}
        self.kernel_rules = {RULE}
        self.kernel_routes = dict(self.routes)
        self.digests = True  # they tell of changes
        self.foreign: tuple[KernelRoute, ...] = ()

    async def unchanged(self, kind: str) -> bool:
        there = self.rules <= self.kernel_rules if kind == "rules" else self.kernel_routes == self.routes
        return there or not self.digests

    async def compared(self, *kinds: str) -> None:
        del kinds

    async def present_rules(self) -> list[RoutingRule]:
        self._calls.append("read rules")
        return list(self.kernel_rules)

    async def restore_rules(self) -> int:
        missing = self.rules - self.kernel_rules
        self._calls.append(f"make {len(missing)} rules")
        self.kernel_rules |= missing
        return len(missing)

    async def missing_routes(self) -> list[KernelRoute]:
        self._calls.append("read routes")
        self.foreign = tuple(route for at, route in self.kernel_routes.items() if at not in self.routes)
        return [route for at, route in self.routes.items() if self.kernel_routes.get(at) != route]

    async def remove_foreign(self) -> int:
        gone, self.foreign = len(self.foreign), ()
        for at in self.kernel_routes.keys() - self.routes.keys():
            del self.kernel_routes[at]
        return gone

    async def restore_routes(self, routes: Any) -> int:
        found = [route for route in routes if place(route) in self.routes]
        self._calls.append(f"make {len(found)} routes")
        self.kernel_routes |= {place(each): self.routes[place(each)] for each in found}
        return len(found)


class Bypass:
    """In the place of `host.bypass.HeldBypass`, with a kernel in it."""

    table = 0xE50000C8

    def __init__(self, calls: list[str]) -> None:
        self._calls, self.missing = calls, 0

    def owns(self, rule: RoutingRule) -> bool:
        return rule.target == self.table

    async def are_whole(self, *, cheaply: bool) -> bool:
        del cheaply
        return not self.missing

    async def restore(self) -> int:
        self._calls.append("look at bypass rules" if not self.missing else f"make {self.missing} bypass rules")
        made, self.missing = self.missing, 0
        return made


class Site:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.clock = FakeClock()
        self.conditions = Conditions(self.clock)
        self.guard, self.zones = Kernel(GUARD, self.calls), Kernel(ZONES, self.calls)
        self.held = Held(self.calls)
        self.bypass = Bypass(self.calls)
        held: Any = self.held
        bypass: Any = self.bypass
        self.watch = KernelWatch(self.guard, self.zones, held, bypass, self.conditions, self.clock)

    def made(self) -> list[str]:
        return [call for call in self.calls if call.startswith("make")]


def lived(story) -> Site:
    @asynccontextmanager
    async def running():
        site = Site()
        site.watch.start()
        await settle()
        yield site
        await site.watch.close()

    async def life() -> Site:
        async with running() as site:
            await story(site)
        return site

    return asyncio.run(life())


def by(port: int, *gone: Any) -> list[tuple[Any, int]]:
    return [(each, port) for each in gone]


def deleted(*tables: str, by: int = SOMEBODY) -> Transaction:
    return Transaction(by, "nft", {table: {DELTABLE} for table in tables})


def test_a_flushed_rule_set_is_made_again_at_once_guard_and_zones(caplog):
    async def story(site):
        site.watch.report([deleted(GUARD, ZONES, "filter")])
        await settle()

    site = lived(story)
    assert site.made() == [f"make {GUARD}", f"make {ZONES}"]
    assert site.watch.restored == {"guard": 1, "zones": 1, "rules": 0, "routes": 0}
    told = f"the guard (nftables table inet {GUARD}): was deleted by nft, and made again at once; "
    assert f"{told}`nft flush ruleset` does that" in caplog.text


def test_what_another_writes_into_our_table_goes_and_is_told_as_that(caplog):
    async def story(site):
        site.watch.report([Transaction(SOMEBODY, "evil", {GUARD: {NEWRULE}})])
        site.watch.report([Transaction(SOMEBODY, "evil", {GUARD: {DELTABLE, NEWTABLE}})])
        await settle()

    assert lived(story).made() == [f"make {GUARD}"]
    told = "was changed by evil, and made again at once; nobody but this gateway may write to it: "
    assert f"{told}a saved ruleset that has it" in caplog.text


def test_one_that_is_only_written_to_is_no_saved_ruleset(caplog):
    async def story(site):
        site.watch.report([Transaction(SOMEBODY, "evil", {GUARD: {NEWRULE}})])
        await settle()

    lived(story)
    assert "may write to it: give it or the other program another name" in caplog.text


def test_a_table_with_the_name_of_zones_that_are_not_configured_is_not_made_again_and_not_counted(caplog):
    async def story(site):
        site.zones.wanted = False
        site.watch.report([Transaction(SOMEBODY, "nft", {ZONES: {NEWTABLE}})])
        await settle()

    assert lived(story).watch.restored["zones"] == 0
    assert "the zones" not in caplog.text


def test_other_tables_are_nobodys_business():
    async def story(site):
        site.watch.report([deleted("filter", f"{GUARD}2")])
        await settle()

    assert lived(story).made() == []


def test_our_own_transactions_are_known_by_their_process(monkeypatch):
    async def story(site):
        site.watch.report([deleted(GUARD, by=7)])
        await settle()
        assert site.made() == []
        site.watch.report([deleted(GUARD, by=8)])
        await settle()
        assert site.made() == [f"make {GUARD}"]

    monkeypatch.setattr(nft, "is_ours", lambda port: port == 7)
    lived(story)


def test_rules_that_are_held_are_made_again_and_those_that_we_take_away_are_not(caplog):
    async def story(site):
        site.watch.lose(Losses(rules=by(SOMEBODY, replace(RULE, priority=1))))
        await settle()
        assert site.made() == []
        site.held.kernel_rules.clear()
        site.watch.lose(Losses(rules=by(SOMEBODY, RULE)))
        await settle()
        assert site.made() == ["make 1 rules"]

    lived(story)
    assert "ManageForeignRoutingPolicyRules=no" in caplog.text


def test_rules_of_others_that_come_and_go_make_it_look_at_nothing():
    """Whether they take what is to enter a tunnel is looked at elsewhere, with a pause."""

    async def story(site):
        site.calls.clear()
        for priority in range(100):
            site.watch.lose(Losses())  # all that one which comes is to this
            site.watch.lose(Losses(rules=by(SOMEBODY, RoutingRule(version=4, priority=priority, target=100))))
            await settle()
        assert site.calls == []

    lived(story)


def test_routes_that_are_held_are_made_again_those_alone(caplog):
    async def story(site):
        site.held.kernel_routes.clear()
        site.watch.lose(Losses(routes=by(SOMEBODY, OTHERS, HELD_BACK, LED)))
        await settle()
        assert site.made() == ["make 2 routes"]
        site.watch.lose(Losses(routes=by(SOMEBODY, OTHERS)))
        await settle()

    assert lived(story).made() == ["make 2 routes"]
    assert "ManageForeignRoutes=no" in caplog.text


def test_routes_of_others_in_our_tables_are_named_and_go(caplog):
    """One with a lower metric would take what is to enter a tunnel."""

    async def story(site):
        theirs = replace(LED, metric=1, protocol=4, interface=9)
        site.held.kernel_routes[place(theirs)] = theirs
        await site.watch.look()
        await settle()
        assert site.held.kernel_routes == site.held.routes
        assert site.watch.restored["routes"] == 1
        assert f"had routes of somebody else's in their tables, {LED.prefix} (protocol 4), which took" in caplog.text

    lived(story)


def test_what_the_kernel_takes_with_an_interface_is_no_loss_but_what_closes_is():
    async def story(site):
        site.watch.lose(Losses(routes=by(0, LED)))
        await settle()
        assert site.made() == []
        site.watch.lose(Losses(routes=by(0, HELD_BACK)))
        await settle()
        assert site.made() == ["make 1 routes"]

    lived(story)


def test_rules_of_bypass_policies_are_made_again_and_count_as_rules(caplog):
    async def story(site):
        site.bypass.missing = 3
        site.watch.lose(Losses(rules=by(SOMEBODY, RoutingRule(version=4, priority=18000, action=3, target=Bypass.table))))
        await settle()
        assert site.made() == ["make 3 bypass rules"]
        assert site.watch.restored == {"guard": 0, "zones": 0, "rules": 1, "routes": 0}
        site.watch.lose(Losses(rules=by(SOMEBODY, RoutingRule(version=4, priority=18000, action=3, target=Bypass.table))))
        await settle()
        assert site.watch.restored["rules"] == 1, "it was we who took that one away"
        await site.clock.advance(1.0)
        site.bypass.missing = 2
        await site.clock.advance(LOOK_S)
        assert site.made() == ["make 3 bypass rules", "make 2 bypass rules"], "no report told of it"
        await site.clock.advance(1.0)
        site.bypass.missing = 1
        await site.watch.verify()
        assert site.watch.restored["rules"] == 3

    lived(story)
    assert "routing rules of bypass policies (protocol 229): were deleted, and made again at once" in caplog.text


def test_each_loss_is_that_of_whoever_did_it():
    async def story(site):
        site.watch.lose(Losses(routes=[(LED, 0), (OTHERS, SOMEBODY)], rules=by(SOMEBODY, replace(RULE, priority=1))))
        await settle()
        assert site.made() == [], "the kernel took it with its interface, whatever somebody did at that time"
        site.watch.lose(Losses(routes=[(LED, SOMEBODY), (HELD_BACK, SOMEBODY), (OTHERS, 0)]))
        await settle()
        assert site.made() == ["make 2 routes"], "and the last one is not the measure"

    lived(story)


def test_a_look_finds_what_no_report_told_of():
    async def story(site):
        site.guard.whole = False
        site.held.kernel_rules.clear()
        site.held.kernel_routes.clear()
        assert site.made() == []
        await site.clock.advance(LOOK_S)
        assert site.made() == [f"make {GUARD}", "make 1 rules", "make 2 routes"]

    lived(story)


def test_a_look_that_finds_nothing_changed_reads_nothing():
    async def story(site):
        await site.clock.advance(LOOK_S)
        site.calls.clear()
        await site.clock.advance(10 * LOOK_S)
        assert set(site.calls) == {f"look at {GUARD}", f"look at {ZONES}"}

    lived(story)


def test_lost_reports_make_it_look_at_once_whatever_digests_say():
    async def story(site):
        site.held.digests = False
        site.held.kernel_rules.clear()
        site.held.kernel_routes.clear()
        site.guard.whole = False
        await site.watch.look()
        site.held.kernel_rules.clear()
        site.watch.lose(Losses(lost=True))
        await settle()
        assert {f"make {GUARD}", "make 1 rules", "make 2 routes"} <= set(site.made())

    lived(story)


def test_a_part_that_cannot_be_looked_at_is_told_while_that_lasts_and_hides_no_other():
    async def story(site):
        site.guard.error = HostError("too busy")
        site.held.kernel_rules.clear()
        await site.clock.advance(LOOK_S)
        assert site.made() == ["make 1 rules"]
        assert [text for text in site.conditions.texts if "cannot be compared with what it should be: too busy" in text]
        site.guard.error = None
        await site.clock.advance(LOOK_S)
        assert not [text for text in site.conditions.texts if "cannot be compared" in text]

    lived(story)


def test_verify_comes_back_when_all_is_there_or_says_that_it_cannot_be():
    async def story(site):
        site.guard.whole = False
        await site.watch.verify()
        assert site.made() == [f"make {GUARD}"]
        await site.clock.advance(1.0)

        async def refused() -> bool:
            raise HostError("nft: no")

        site.guard.restore, site.guard.whole = refused, False
        with pytest.raises(HostError, match="nft: no"):
            await site.watch.verify()

    lived(story)


def test_it_is_deaf_once_it_is_closed():
    async def story(site):
        await site.watch.close()
        site.watch.report([deleted(GUARD)])
        await site.clock.advance(LOOK_S)
        assert site.made() == []

    lived(story)


def test_the_parts_say_who_usually_takes_them_away():
    site = Site()
    held: Any = site.held
    assert "systemctl restart nftables" in KeptNft("guard", "the guard", site.guard).usual
    assert {KeptRules(held).name, KeptRoutes(held).name} == {"rules", "routes"}


def test_a_look_that_breaks_off_is_not_the_last_one():
    async def story(site):
        site.guard.error = KeyError("digest")
        await site.clock.advance(LOOK_S)
        assert any("kernel watch: KeyError" in text for text in site.conditions.texts)
        site.guard.error, site.guard.whole = None, False
        await site.clock.advance(2 * LOOK_S)
        assert site.guard.whole
        assert site.conditions.texts == [text for text in site.conditions.texts if "KeyError" not in text]

    lived(story)


def test_nobody_waits_for_ever_when_it_is_closed_meanwhile():
    async def story(site):
        site.guard.whole = False

        async def hangs() -> None:
            await site.clock.sleep(3600)

        site.guard.restore = hangs
        verifying = asyncio.get_running_loop().create_task(site.watch.verify())
        await settle()
        await site.watch.close()
        with pytest.raises(HostError, match="is kept no longer"):
            await asyncio.wait_for(verifying, 5)

    lived(story)


def test_a_suspension_in_the_middle_of_a_look_puts_the_next_one_off_for_two_minutes_at_the_most():
    async def story(site):
        whole = site.guard.is_whole

        async def slow() -> bool:
            await site.clock.sleep(1.0)
            return await whole()

        site.guard.is_whole = slow
        await site.clock.advance(LOOK_S)
        await site.clock.leap(8 * 3600.0)
        site.guard.is_whole, site.guard.whole = whole, False
        await site.clock.advance(2 * MOST_S)
        assert site.guard.whole

    lived(story)
