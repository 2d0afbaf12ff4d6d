"""Carries a site of a ladder to a fresh manager after everything that it does: whatever a test does to it, another goes on."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.carried.carry import export_ike, import_ike
from ipsec_dp.ike.manager import IkeManager
from tests.ike import ladder as v2
from tests.ike.watcher import NotingWatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = v2.__name__.rpartition(".")[0]

# Test -> why nobody can be carried in the middle of it.
LEFT_OUT = {
    "test_a_rekey_of_what_the_peer_does_not_have_ends_it_here_too": "it takes a CHILD_SA out of the table behind the data plane",
}


def keys_of(sad: Any) -> Any:
    """The data plane's part, of a `FakeSad`."""

    def keys(spi: int) -> tuple[bytes, bytes]:
        for child, inbound in sad.inbound.items():
            if inbound.spi == spi:
                out = sad.outbound.get(child)
                return bytes(inbound.keymat), b"" if out is None else bytes(out.keymat)
        return b"", b""

    return keys


def fresh(core: Any, peers: Any) -> Any:
    """A manager that knows the peers alone; making it draws nothing from the randomness of the site."""
    environment = core.environment
    made = IkeManager(replace(environment, rng=bytes, watcher=NotingWatcher()), peers)
    made.environment = environment
    return made


def carry(site: Any, now: float, *, stride: int | None = None) -> Any:
    """Out of the site's manager, into another that takes its place; what was carried."""
    exported = export_ike(site.core, now, keys_of(site.sad), stride=stride)
    site.core = fresh(site.core, site.peers)
    imported = import_ike(site.core, exported.octets, now)
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
    assert {spi for _, spi in imported.reserved} == site.sad.reserved


def _known(install: Any) -> Any:
    """But for the path, which may have moved since."""
    return replace(install, path=None, keymat=bytearray(install.keymat))


@contextmanager
def carried_at_every_step(monkeypatch: Any, sites: str) -> Iterator[list[int]]:
    """After everything that one of `sites` does, while nothing there is half-open; how often."""
    do, made, times = v2.Site.do, v2.Site.__init__, [0]

    def noting(site: Any, name: str, wire: Any, clock: Any, peers: Any, *more: Any) -> None:
        made(site, name, wire, clock, peers, *more)
        site.peers = peers

    def doing(site: Any, actions: Any) -> None:
        do(site, actions)
        now = site.clock()
        if site.name in sites and site.core.last_number and not site.core.unfinished() and not half_open(site.core):
            carry(site, now)
            times[0] += 1

    monkeypatch.setattr(v2.Site, "__init__", noting)
    monkeypatch.setattr(v2.Site, "do", doing)
    yield times


def half_open(core: Any) -> bool:
    ours, _ = core.carried()
    return any(not one.authenticated for one in (*ours, *core.strangers()))


def ladders_of(*ladders: str) -> dict[str, Any]:
    """The tests of modules `test_ladder_NAME`, by names that say of which."""
    modules = {name: vars(import_module(f"{PACKAGE}.test_ladder_{name}")) for name in ladders}
    return {
        f"{test}_in_{name}": function
        for name, module in modules.items()
        for test, function in module.items()
        if test.startswith("test_") and test not in LEFT_OUT and function.__module__ == module["__name__"]
    }
