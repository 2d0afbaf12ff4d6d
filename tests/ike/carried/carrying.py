"""Carries a site of a ladder to a fresh manager after everything that it does: whatever a test does to it, another goes on."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.carried.carry import export_ike, import_ike
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.carried.serials import LastExport
from ipsec_dp.ike.core import IkeVersions
from tests.ike import ladder as v2
from tests.ike.watcher import NotingWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.ike.carried.serials import Serials
    from ipsec_dp.ike.manager import IkeManager

EXAMPLES = sorted((Path(__file__).parent / "examples").glob("model-*.hex"))  # one of each version of the model
PACKAGE = v2.__name__.rpartition(".")[0]

# Why nobody can be carried in the middle of a test.
CHANGED = "it changes a core or a session by itself, and another takes its place"
LOOKED_AT = "it looks at what was carried away"
BEHIND = "it does something behind the data plane"
BUDGET = "it counts what strangers may cause, whose budgets are new ones"
LONG = "hundreds of CHILD_SAs, carried thousands of times"
LEFT_OUT = {
    CHANGED: """
        test_another_is_made_beside_it_at_once_and_nothing_is_lost test_what_was_under_way_may_be_answered_after_all
        test_a_side_that_may_not_call_waits_for_the_peer_to test_a_person_may_call_for_it
        test_an_authentication_failure_ends_them_at_once test_nothing_new_is_asked_or_answered_on_it
        test_an_answer_to_an_ike_rekey_that_cannot_be_used_leads_to_a_new_ike_sa_beside_it
        test_an_ike_sa_that_nobody_authenticates_anew_ends test_without_a_delete_packets_or_time_tell_the_responder
        test_a_further_child_sa_has_its_rounds_too test_a_series_that_is_not_gone_on_with_is_over_after_a_while_and_counted
        test_a_rekey_never_leaves_out_what_the_ike_sa_has_though_it_may_be_left_out test_one_of_the_two_may_have_no_series
        test_a_further_child_sa_waits_for_the_peers_series_of_the_ike_sa test_what_one_identity_has_no_other_gets
        test_a_peer_that_begins_again_has_one_series_for_a_child_sa
        test_all_that_is_configured_is_offered_to_a_peer_that_no_longer_takes_it test_a_peer_that_wants_another_group_gets_it
        test_all_that_is_configured_is_offered_for_a_child_sa_that_the_peer_no_longer_takes
        test_a_suite_that_is_configured_no_longer_makes_no_child_sa test_selectors_that_are_configured_no_longer_make_no_child_sa
    """,
    LOOKED_AT: """
        test_what_came_for_a_request_that_was_answered_is_forgotten test_a_name_that_changes_while_the_tunnel_is_up_ends_nothing
    """,
    BEHIND: "test_a_rekey_of_what_the_peer_does_not_have_ends_it_here_too test_a_second_ike_sa_replaces_the_first",
    BUDGET: "test_who_is_nobody_is_not_told_of_from_elsewhere",
    LONG: "test_proxy_ids_with_a_peer_that_takes_one_pair_come_up_are_rekeyed_and_authenticated_anew",
}
NEVER_CARRIED = {name for names in LEFT_OUT.values() for name in names.split()}


def keys_of(sad: Any) -> Any:
    """The data plane's part, of a `FakeSad`."""

    def keys(spi: int) -> tuple[bytes, bytes]:
        for child, inbound in sad.inbound.items():
            if inbound.spi == spi:
                out = sad.outbound.get(child)
                return bytes(inbound.keymat), b"" if out is None else bytes(out.keymat)
        return b"", b""

    return keys


class OneManager:
    """A ladder's manager as the core that is carried."""

    def __init__(self, manager: IkeManager) -> None:
        self.ikev2, self.ikev1 = manager, None
        self.choices: dict[str, Any] = {}
        self.unfinished = manager.unfinished

    def with_ikev1(self) -> Any:
        raise AssertionError("nothing here speaks IKEv1")


def as_core(core: Any) -> Any:
    return core if isinstance(core, IkeVersions) else OneManager(core)


def fresh(site: Any) -> Any:
    """A core that knows the peers alone, and a watcher that knows nothing; making it draws nothing from the site's randomness."""
    environment = site.core.environment
    site.watcher = NotingWatcher()
    made = type(site.core)(replace(environment, rng=bytes, watcher=site.watcher), peers_of(site))
    for one in (made, *((made.ikev2, made.ikev1) if isinstance(made, IkeVersions) else ())):
        if one is not None:
            getattr(one, "gateway", one).environment = replace(environment, watcher=site.watcher)
    return made


def peers_of(site: Any) -> list[Any]:
    """What the site's tunnels say now."""
    core = as_core(site.core)
    of_ikev1 = [] if core.ikev1 is None else [core.ikev1.peer(one.tunnel) for one in site.peers if one.version == 1]
    found = [core.ikev2.peer(one.tunnel) for one in site.peers if one.version != 1] + of_ikev1
    return [one for one in found if one is not None]


def admitted(exported: Any) -> Callable[[Serials], None]:
    """It is the last export there was."""
    last = LastExport()
    last.note(exported.serials)
    return last.admit


def carry(site: Any, now: float, *, stride: int | None = None) -> Any:
    """Out of the site's core, into another that takes its place; what was carried."""
    exported = export_ike(as_core(site.core), now, keys_of(site.sad), stride=stride)
    site.core = fresh(site)
    imported = import_ike(as_core(site.core), exported.octets, now, admitted(exported))
    assert not any(exported.octets)
    check(site, imported)
    return imported


def check(site: Any, imported: Any) -> None:
    """What the data plane is to have is what it has."""
    installs = [one for one in imported.actions if isinstance(one, act.InstallInbound)]
    assert {one.child: _known(one) for one in installs} == {child: _known(one) for child, one in site.sad.inbound.items()}
    outbound = [one for one in imported.actions if isinstance(one, act.InstallOutbound)]
    assert {one.child: _known(one) for one in outbound} == {child: _known(one) for child, one in site.sad.outbound.items()}
    sends = sorted(one.child for one in imported.actions if isinstance(one, act.SwitchOutbound))
    assert sends == sorted(site.sad.sending)
    reserved = sorted(spi for _, spi in imported.reserved)
    assert reserved == sorted(site.sad.reserved), f"{reserved} of {site.sad.reserved}"


def _known(install: Any) -> Any:
    """But for the path, which may have moved since."""
    return replace(install, path=None, keymat=bytearray(install.keymat))


@contextmanager
def carried_at_every_step(monkeypatch: Any, sites: str) -> Iterator[list[int]]:
    """After everything that one of `sites` does, while nothing there is half-open; how often."""
    do, times = v2.Site.do, [0]

    def doing(site: Any, actions: Any) -> None:
        do(site, actions)
        now = site.clock()
        if site.name in sites and as_core(site.core).ikev2.last_number and not site.core.unfinished() and not half_open(site.core):
            carry(site, now)
            times[0] += 1

    monkeypatch.setattr(v2.Site, "do", doing)
    yield times


def half_open(core: Any) -> bool:
    """Whether anything is there that is not carried."""
    ikev2 = as_core(core).ikev2
    ours, _ = ikev2.carried()
    ikev1 = as_core(core).ikev1
    return any(not one.authenticated for one in (*ours, *ikev2.strangers())) or (ikev1 is not None and bool(ikev1.carried()[1]))


def ladders_of(*ladders: str) -> dict[str, Any]:
    """The tests of modules `test_ladder_NAME`, or `v1.test_ikev1_NAME`, by names that say of which."""
    modules = {name: vars(import_module(f"{PACKAGE}.{_file(name)}")) for name in ladders}
    return {
        f"{test}_in_{name}": function
        for name, module in modules.items()
        for test, function in module.items()
        if test.startswith("test_") and test not in NEVER_CARRIED and function.__module__ == module["__name__"]
    }


def _file(name: str) -> str:
    return f"v1.test_{name}" if name.startswith("ikev1_") else f"test_ladder_{name}"


# ---- exports and imports by hand


def up(make: Any = v2.Ladder, of: Any = v2.peer, **changes: Any) -> Any:
    """A ladder that is up."""
    ladder = make([of("a", **changes)], [of("b", **changes)])
    ladder.initiate("a")
    ladder.settle()
    return ladder


def exported(site: Any, stride: int | None = None) -> Any:
    return export_ike(as_core(site.core), site.clock(), keys_of(site.sad), stride=stride)


def taken(site: Any, octets: bytearray, admit: Any = None) -> Any:
    """A fresh core that has it, and what is said of that."""
    core = fresh(site)
    return core, import_ike(as_core(core), octets, site.clock(), admit)


def refused(site: Any, octets: Any, admit: Any = None) -> str:
    """Why; and the manager is as it was, the octets are gone."""
    core, octets = fresh(site), bytearray(octets)
    with pytest.raises(CarriedStateError) as error:
        import_ike(as_core(core), octets, site.clock(), admit)
    assert as_core(core).ikev2.empty
    assert core.counters().sessions == 0
    assert not any(octets)
    return str(error.value)
