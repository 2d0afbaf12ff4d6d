"""A reload: what is asked of which part in which order, and what runs when something fails in between."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
from ipaddress import ip_address

import msgspec
import pytest

from ipsec_dp.config import difference
from ipsec_dp.databases import pad
from ipsec_dp.gateway import reload_peers
from ipsec_dp.gateway.reload import UPGRADED, ReloadFailedError
from ipsec_dp.ike.effect import Effect
from tests.unit.gateway_doubles import TEXT

from .reload_site import MORE, WITHOUT_BY_HAND, WITHOUT_UP, Site


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(difference, "ask", difference.answer)  # starts no process
    return Site(tmp_path)


# ---- one that succeeds -----------------------------------------------------------------------------------------------------------


def test_a_tunnel_more_is_begun_and_nothing_else(site):
    result = site.reload(TEXT + MORE)
    assert (result.added, result.removed, result.changed, result.kept) == (("more",), (), (), 3)
    assert site.host.interfaces.mtus == {"by-hand": 1400, "up": 1400, "waiting": 1400, "more": 1380}
    assert site.host.routes.asked == [ip_address("192.0.2.9")], "where others are called is known"
    assert site.asked("ike.listen") == [("ike.listen", ip_address("192.0.2.1"))]
    ((_, tunnels, peers, effects),) = site.asked("ike.reconfigure")
    assert ([tunnel.name for tunnel in tunnels], list(peers), effects) == (["more"], ["more"], {})
    assert "more" in site.spd.tunnel_numbers


def test_the_guard_is_closed_for_both_first_and_for_the_new_one_last(site):
    site.reload(WITHOUT_BY_HAND + MORE)
    assert site.names == [
        "sad.reclaim",
        "host verified",
        "guard widened",
        "interfaces reconfigured",
        "plane.attach_memory_tun",
        "interface ipsec2 made",
        "ike.listen",
        "plane.install_policy",
        "manual.remove",
        "ike.reconfigure",
        "manual.install",
        "observer.reconfigure",
        "zones applied",
        "before routes",
        "routes known",
        "services.apply",
        "guard settled",
        "plane.detach_tun",
        "interface ipsec0 removed",
        "plane.forget_tunnel",
        "host verified",
    ]
    assert [config.has_tunnel("more") for config in site.host.guard.closed_for] == [True]


def test_the_new_configuration_is_in_force_for_everybody(site):
    site.reload(TEXT + MORE)
    (config,) = site.in_force
    assert config.has_tunnel("more")
    assert site.asked("observer.reconfigure") == [("observer.reconfigure", config)]
    assert site.asked("services.apply") == [("services.apply", config)]
    assert site.reload(TEXT + MORE).kept == 4, "the next one is compared with it"


def test_nothing_waits_for_the_garbage_collector_while_it_is_taken_over(site):
    """A full collection looks through all that thousands of tunnels are made of."""
    gc.collect()
    before, threshold = gc.get_freeze_count(), gc.get_threshold()
    site.reload(TEXT + MORE)
    assert gc.get_freeze_count() > before, "it is kept out of later ones too"
    assert gc.get_threshold() == threshold
    gc.unfreeze()


def test_a_tunnel_less_is_ended_and_its_number_is_free(site):
    number = site.spd.tunnel_numbers["up"]
    result = site.reload(WITHOUT_UP)
    assert (result.added, result.removed, result.kept) == ((), ("up",), 2)
    assert site.asked("ike.reconfigure")[0][1:] == ([], {}, {"up": Effect.RESTART})
    assert site.asked("plane.forget_tunnel") == [("plane.forget_tunnel", number)]
    assert "up" not in site.spd.tunnel_numbers


def test_a_changed_tunnel_keeps_what_its_effect_lets_it_keep(site):
    result = site.reload(TEXT.replace('name = "waiting"\nremote = "any"', 'name = "waiting"\nremote = "192.0.2.4"'))
    (change,) = result.changed
    assert (change.name, change.keys) == ("waiting", ("remotes",))
    ((_, tunnels, peers, effects),) = site.asked("ike.reconfigure")
    assert [tunnel.name for tunnel in tunnels] == list(peers) == list(effects) == ["waiting"]
    assert effects["waiting"].text == change.effect


def test_a_manual_tunnel_with_other_keys_begins_anew(site):
    site.reload(TEXT.replace("0x2001", "0x2002"))
    ((_, ended),) = site.asked("manual.remove")
    ((_, begun, paths),) = site.asked("manual.install")
    assert (ended.manual.spi_out, [tunnel.manual.spi_out for tunnel in begun]) == (0x2001, [0x2002])
    assert list(paths) == ["by-hand"]
    assert site.names.index("manual.remove") < site.names.index("ike.reconfigure") < site.names.index("manual.install")


def test_the_answer_is_the_one_that_programs_know(site, caplog):
    caplog.set_level(logging.INFO, "ipsec_dp")
    result = site.reload(TEXT.replace("0x2001", "0x2002") + MORE)
    findings = [{key: getattr(finding, key) for key in finding.__slots__} for finding in result.findings]
    assert {finding["severity"] for finding in findings} == {"warning"}
    assert json.dumps(msgspec.to_builtins(result)) == json.dumps(
        {
            "schema": 1,
            "applied": True,
            "file": str(site.directory / "a.toml"),
            "added": ["more"],
            "removed": [],
            "changed": [{"name": "by-hand", "keys": ["manual.spi_out"], "effect": Effect.RESTART.text}],
            "kept": 2,
            "findings": findings,
            "read_s": 0.0,
            "applied_s": 0.0,
        }
    )
    assert "1 added, 0 removed, 1 changed, 2 kept; read in 0.0 s, applied in 0.0 s" in caplog.text


# ---- one that is refused ---------------------------------------------------------------------------------------------------------


def refused(site, text):
    """The findings; nothing was asked of any part."""
    refusal = site.reload(text)
    assert (refusal.applied, site.calls, site.in_force) == (False, [], [])
    return [(finding.where, finding.key) for finding in refusal.findings if finding.severity == "error"]


def test_a_file_that_is_wrong_changes_nothing(site):
    assert refused(site, TEXT + MORE.replace("192.0.2.9", "192.0.2")) == [('tunnel "more"', "remote")]


@pytest.mark.parametrize("line", ['name = "b"', "workers = 2", 'offloads = { tun_tso = "off" }'])
def test_what_the_process_was_made_with_cannot_be_changed(site, line):
    text = TEXT.replace('name = "a"', 'name = "a"\n' + line if line != 'name = "b"' else line, 1)
    assert refused(site, text) == [("gateway", line.split()[0])]


def places(refusal):
    return [(finding.key, finding.line, finding.column) for finding in refusal.findings if finding.severity == "error"]


def test_what_cannot_be_changed_is_said_with_its_place(site):
    text = TEXT.replace('name = "a"', 'name = "a"\n  workers = 2', 1)
    line = text[: text.index("workers")].count("\n") + 1
    assert places(site.reload(text)) == [("workers", line, 3)]


def test_a_secret_that_is_gone_after_the_check_is_said_with_the_place_of_its_table(site, monkeypatch):
    def answer_and_lose(request):
        made = difference.answer(request)
        (site.directory / "all.psk").unlink()
        return made

    monkeypatch.setattr(difference, "ask", answer_and_lose)
    refusal = site.reload(TEXT + MORE)
    assert places(refusal) == [("auth", (TEXT + MORE)[: (TEXT + MORE).rindex("[tunnel.auth]")].count("\n") + 1, 3)]
    assert (refusal.applied, site.calls, site.in_force) == (False, [], [])


def test_a_refusal_has_the_keys_that_programs_know(site):
    refusal = msgspec.to_builtins(site.reload(TEXT.replace('name = "a"', 'name = "b"', 1)))
    assert list(refusal) == ["schema", "applied", "file", "findings"]
    assert list(refusal["findings"][0]) == ["severity", "file", "where", "key", "wrong", "right", "line", "column"]


# ---- one that fails --------------------------------------------------------------------------------------------------------------


def broken(site, text, said):
    """A reload to `text` breaks off before anything of the former configuration is changed."""
    with pytest.raises(ReloadFailedError, match=f"{said}; nothing was changed"):
        site.reload(text)
    assert [name for name in site.names if name.startswith("guard")][-1] == "guard narrowed"
    assert (site.host.guard.closed_for, list(site.host.interfaces.numbers)) == ([site.config], ["ipsec0", "ipsec1"])
    assert (site.in_force, site.asked("ike.reconfigure"), site.asked("manual.remove")) == ([], [], [])
    assert "more" not in site.spd.tunnel_numbers


def test_a_guard_that_cannot_be_widened_leaves_everything_as_it_was(site):
    site.host.fails = "guard widened"
    broken(site, TEXT + MORE, "guard widened: the kernel refuses")


def test_a_way_that_is_missing_leaves_everything_as_it_was(site):
    """The interface that was made goes again."""
    site.host.routes.refused.add(ip_address("192.0.2.2"))
    broken(site, TEXT.replace("0x2001", "0x2002") + MORE, 'tunnel "by-hand": no route to 192.0.2.2')
    what_it_made = "interface ipsec2 made", "guard narrowed", "interface ipsec2 removed"
    assert site.asked(*what_it_made) == list(what_it_made), "no name is free while it is exempt"


def test_afterwards_the_guard_stays_closed_for_both_and_the_next_one_completes_it(site):
    site.host.fails = "routes known"
    with pytest.raises(ReloadFailedError, match=r"broke off half-way: routes known: .* stays closed until a reload succeeds"):
        site.reload(TEXT + MORE)
    assert site.asked("guard settled", "guard narrowed", "services.apply") == []
    assert len(site.host.guard.closed_for) == 2
    assert [config.has_tunnel("more") for config in site.in_force] == [True], "what was changed is what runs"

    site.host.fails = None
    site.calls.clear()
    result = site.reload(TEXT + MORE)
    assert (result.added, result.kept) == ((), 4)
    assert site.asked("routes applied", "routes known") == ["routes applied"], "what the broken one left is not known"
    assert site.names[-2:] == ["guard settled", "host verified"]

    site.calls.clear()
    site.reload(TEXT + MORE)
    assert site.asked("routes applied", "routes known") == ["routes known"]


def test_what_cannot_be_made_again_at_the_end_is_told_as_that_and_the_reload_is_complete(site):
    site.host.fails, site.host.spared = "host verified", 1
    with pytest.raises(ReloadFailedError, match=r"^the configuration is complete, but host verified: the kernel refuses$"):
        site.reload(TEXT + MORE)
    assert site.names[-1] == "guard settled"
    assert [config.has_tunnel("more") for config in site.in_force] == [True]
    assert site.reloader.incomplete, "on trial it is taken back"

    site.host.fails = None
    site.calls.clear()
    site.reload(TEXT)
    assert site.asked("routes applied", "routes known") == ["routes applied"], "the kernel is asked what it has"


def test_what_an_upgrade_could_not_make_a_reload_does(site):
    site.host.conditions.begin(UPGRADED, "routes", "after an upgrade, routes: full")
    site.reloader.make_all()
    assert site.reloader.incomplete
    site.calls.clear()
    site.reload(TEXT)
    assert site.asked("routes applied", "routes known") == ["routes applied"]
    assert site.host.conditions.texts == []
    assert not site.reloader.incomplete


def test_a_number_is_given_again_only_when_no_loop_holds_an_sa_of_its_former_owner(site):
    """A loop could take the next tunnel of this number for the one that went."""
    freed = site.spd.tunnel_numbers["up"]
    site.spd.tunnels.capacity = len(site.config.tunnels)  # no number was never used
    site.reload(WITHOUT_UP)
    site.waiting = 1
    with pytest.raises(ReloadFailedError, match="nothing was changed"):
        site.reload(WITHOUT_UP + MORE)
    site.waiting = 0
    site.reload(WITHOUT_UP + MORE)
    assert site.spd.tunnel_numbers["more"] == freed


def test_reloads_are_carried_out_one_after_the_other(site):
    """Two that are asked for at once do not mix."""
    (site.directory / "a.toml").write_text(TEXT + MORE)

    async def both():
        path = site.directory / "a.toml"
        return await asyncio.gather(site.reloader.reload(path), site.reloader.reload(path))

    assert [result.added for result in asyncio.run(both())] == [("more",), ()]


def test_a_secret_that_is_slow_to_be_read_holds_nobody_up(site, monkeypatch):
    """Whoever opens files for a gateway that is not root may hang."""
    begun, goes_on, really = threading.Event(), threading.Event(), pad.peer_of

    def peer_of(tunnel, **read):
        begun.set()
        assert goes_on.wait(10), "the event loop turns meanwhile"
        return really(tunnel, **read)

    monkeypatch.setattr(reload_peers, "peer_of", peer_of)
    (site.directory / "a.toml").write_text(TEXT + MORE)

    async def both():
        reloading = asyncio.ensure_future(site.reloader.reload(site.directory / "a.toml"))
        await asyncio.to_thread(begun.wait, 10)
        goes_on.set()
        return await reloading

    assert asyncio.run(both()).applied
