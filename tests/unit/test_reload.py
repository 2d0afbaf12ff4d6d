"""A reload: what is asked of which part in which order, and what runs when something fails in between.

The file is read in this process; the host is in memory, the data plane and what makes SAs are lists of calls.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
from contextlib import AsyncExitStack
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from ipsec_dp.config import difference
from ipsec_dp.databases import pad
from ipsec_dp.databases.spd import Spd
from ipsec_dp.gateway import reload_peers
from ipsec_dp.gateway.confirmation import Confirmation
from ipsec_dp.gateway.messages import ConfirmRequest
from ipsec_dp.gateway.reload import UPGRADED, Reloader, ReloadFailedError, ReloadParts
from ipsec_dp.gateway.verbs import GatewayVerbs
from ipsec_dp.host import HostError
from ipsec_dp.ike.effect import Effect
from tests.doubles.clock import FakeClock
from tests.doubles.host import MemoryHost
from tests.unit.gateway_doubles import TEXT, Calls, config_of

MORE = """
[[tunnel]]
name = "more"
remote = "192.0.2.9"
interface = "ipsec2"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/16"
  remote = "10.9.0.0/16"
  [tunnel.auth]
  psk_file = "all.psk"
  remote_id = "more.example"
"""
WITHOUT_BY_HAND = TEXT[: TEXT.index("[[tunnel]]")] + TEXT[TEXT.index('[[tunnel]]\nname = "up"') :]
WITHOUT_UP = TEXT[: TEXT.index('[[tunnel]]\nname = "up"')] + TEXT[TEXT.index('[[tunnel]]\nname = "waiting"') :]


class Host(MemoryHost):
    """One that nobody else changes meanwhile. `fails`: what the kernel refuses."""

    fails: str | None = None
    spared = 0  # times that it does not yet

    def note(self, what: str) -> None:
        assert self.changing.locked(), "others change the host meanwhile"
        if what == self.fails and self.spared:
            self.spared -= 1
        elif what == self.fails:
            raise HostError(f"{what}: the kernel refuses")
        super().note(what)


class Plane(Calls):
    """A data plane with one worker, as a list of calls."""

    workers = 1


class Site:
    """A gateway with TEXT in force. `calls` is what was asked of its parts, in order; of the host, what the double notes."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.config = config_of(directory)
        self.in_force: list[Any] = []
        self.waiting = 0  # removed SAs that a loop still holds
        self.spd = Spd(self.config)
        self.clock = clock = FakeClock()
        self.host = Host(self.config, clock)
        self.calls: list[Any] = self.host.calls
        self.plane = cast("Any", Plane("plane", self.calls))
        self.service = Calls("services", self.calls, apply=self._applied)
        self.observer = Calls("observer", self.calls)
        parts = ReloadParts(
            self.spd,
            self.host,
            self.plane,
            cast("Any", Calls("sad", self.calls, reclaim=lambda: self.waiting)),
            cast("Any", Calls("links", [], link=0)),
            cast("Any", Calls("manual", self.calls)),
            cast("Any", Calls("ike", self.calls, peer=lambda name: f"the peer of {name}", reconfigure=self._applied)),
            cast("Any", self.service),
            (cast("Any", self.observer),),
            self._first_mtu,
            self._before_routes,
        )
        self.slow: threading.Event | None = None  # for which whoever opens files waits
        self.helper_fails: HostError | None = None
        self.needed: list[list[list[str]]] = []  # after each step, of which configurations files may be read: their tunnels
        self.reloader = Reloader(self.config, parts, self._reconfigured, clock, in_force=self._told_needed)
        asyncio.run(self._start())

    async def _start(self):
        async with self.host.changing:
            await self.host.interfaces.make(AsyncExitStack(), self.plane, self.spd)
            await self.host.interfaces.set_mtus({tunnel.name: 1400 for tunnel in self.config.tunnels})
            self.host.start_workers(self.plane)
        self.calls.clear()

    async def _applied(self, *_arguments): ...

    def _told_needed(self, configs):
        if self.slow is not None:
            assert self.slow.wait(10)
        if self.helper_fails is not None:
            raise self.helper_fails
        self.needed.append([[tunnel.name for tunnel in config.tunnels] for config in configs])

    async def _reconfigured(self, config):
        self.in_force.append(config)

    async def _before_routes(self, config):
        self.calls.append(("before routes", config))

    async def _first_mtu(self, _tunnel):
        return 1380

    def reload(self, text, **how):
        (self.directory / "a.toml").write_text(text)
        return asyncio.run(self.reloader.reload(self.directory / "a.toml", **how))

    def confirmed(self):
        async def life():
            self.reloader.forget_former()
            await others()

        asyncio.run(life())

    @property
    def names(self):
        return [call if isinstance(call, str) else call[0] for call in self.calls]

    def asked(self, *names):
        """Those of the calls, in order."""
        return [call for call, name in zip(self.calls, self.names, strict=True) if name in names]


async def others():
    """Until every other task is at its end."""
    await asyncio.wait(asyncio.all_tasks() - {cast("Any", asyncio.current_task())})


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


# ---- back again ------------------------------------------------------------------------------------------------------------------


def test_going_back_takes_away_what_came_and_brings_back_what_went(site):
    site.reload(WITHOUT_UP + MORE, on_trial=True)
    former = site.in_force[0]
    site.calls.clear()
    asyncio.run(site.reloader.go_back())
    assert former is not site.in_force[-1]
    assert site.in_force[-1] == site.config
    assert "more" not in site.spd.tunnel_numbers
    ((_, tunnels, peers, effects),) = site.asked("ike.reconfigure")
    assert [tunnel.name for tunnel in tunnels] == ["up"]
    assert peers == {"up": "the peer of up"}, "with the secret that it had"
    assert effects == {"more": Effect.RESTART}
    assert site.names[:3] == ["sad.reclaim", "host verified", "guard widened"]
    assert "guard settled" in site.names


def test_there_is_nothing_to_go_back_to_before_a_reload_and_after_going_back(site):
    with pytest.raises(ReloadFailedError, match="no former configuration"):
        asyncio.run(site.reloader.go_back())
    site.reload(TEXT + MORE, on_trial=True)
    asyncio.run(site.reloader.go_back())
    with pytest.raises(ReloadFailedError, match="no former configuration"):
        asyncio.run(site.reloader.go_back())


def test_a_reload_that_changed_nothing_leaves_the_way_back_as_it_was(site):
    site.reload(TEXT + MORE, on_trial=True)
    assert not site.reload("nonsense = 1").applied
    site.host.fails = "guard widened"
    with pytest.raises(ReloadFailedError, match="nothing was changed"):
        site.reload(TEXT)
    site.host.fails = None
    asyncio.run(site.reloader.go_back())
    assert site.in_force[-1] == site.config


def test_going_back_that_is_refused_says_what_is_in_force(site):
    """Not the former configuration, nor after a trial that broke off half-way all of any."""
    site.reload(TEXT + MORE, on_trial=True)
    site.host.fails = "guard widened"
    with pytest.raises(ReloadFailedError, match=r"; nothing was changed, the configuration on trial runs on$"):
        asyncio.run(site.reloader.go_back())
    site.host.fails = "zones applied"
    with pytest.raises(ReloadFailedError, match="broke off half-way"):
        site.reload(TEXT, on_trial=True)
    site.host.fails = "guard widened"
    with pytest.raises(ReloadFailedError, match="nothing more was changed: the reload before broke off half-way"):
        asyncio.run(site.reloader.go_back())


@pytest.mark.parametrize("how", ["not on trial", "confirmed"])
def test_secrets_that_are_not_in_force_are_kept_for_a_trial_alone(site, how):
    site.reload(TEXT + MORE, on_trial=how == "confirmed")
    site.confirmed()
    with pytest.raises(ReloadFailedError, match="no former configuration"):
        asyncio.run(site.reloader.go_back())


def test_whoever_opens_files_is_told_what_is_in_force_and_what_may_come_back(site):
    before = [tunnel.name for tunnel in site.config.tunnels]
    after = [*before, "more"]
    site.reload(TEXT + MORE)
    assert site.needed == [[after]], "what went is not to be read any more"
    assert not site.reload("nonsense = 1").applied
    asyncio.run(site.reloader.preview(site.directory / "a.toml"))
    assert site.needed[1:] == [[after], [after]], "nor what a file names that is not taken over"
    site.reload(TEXT, on_trial=True)
    assert site.needed[3:] == [[before, after]]
    asyncio.run(site.reloader.go_back())
    assert site.needed[4:] == [[after]]
    site.reload(TEXT, on_trial=True)
    site.confirmed()
    assert site.needed[6:] == [[before]]


class ReadingSlowly:
    """The configuration is read again, which takes until `goes_on`."""

    def __init__(self, monkeypatch) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()
        monkeypatch.setattr(difference, "ask", self._ask)

    def _ask(self, request):
        self.begun.set()
        assert self.goes_on.wait(10)
        return difference.answer(request)


def test_who_confirms_is_answered_while_a_reload_is_looked_at_and_while_the_helper_is_slow(site, monkeypatch):
    """The clock has stopped by then, and nothing goes back: what waits is to be known before a connection breaks."""
    before = [tunnel.name for tunnel in site.config.tunnels]
    site.reload(TEXT + MORE, on_trial=True)
    reading, helper_goes_on = ReadingSlowly(monkeypatch), threading.Event()
    site.slow = helper_goes_on

    async def life() -> None:
        confirmation = Confirmation(site.host.conditions, site.clock)
        confirmation.expect("a", "the reload", 60, "it goes back", lambda: None)
        parts = SimpleNamespace(config=site.config, confirmation=confirmation, engine=SimpleNamespace(reloader=site.reloader))
        verbs = GatewayVerbs(cast("Any", parts), cast("Any", None))
        looking = asyncio.create_task(site.reloader.preview(site.directory / "a.toml"))
        await asyncio.to_thread(reading.begun.wait, 10)
        async with asyncio.timeout(5):
            answer = await verbs.confirm(ConfirmRequest())
        assert (answer.confirmed, confirmation.waits_for, site.host.conditions.texts) == ("the reload", None, [])
        assert len(site.needed) == 1, "nobody has told the helper yet"
        reading.goes_on.set()
        helper_goes_on.set()
        await looking
        await others()

    asyncio.run(life())
    assert site.needed[1:] == [[[*before, "more"]], [[*before, "more"]]]


def test_a_helper_that_refuses_does_not_undo_what_was_confirmed(site):
    site.reload(TEXT + MORE, on_trial=True)
    site.helper_fails = HostError("the helper that stays root refuses: No space left on device")
    site.confirmed()
    (text,) = site.host.conditions.texts
    assert text.startswith("files that no configuration in force names can still be opened: the helper that stays root refuses")
    with pytest.raises(ReloadFailedError, match="no former configuration"):
        asyncio.run(site.reloader.go_back())
    assert site.reload(TEXT + MORE).applied, "and a reload that was done is no failure for it"
    site.helper_fails = None
    site.reload(TEXT + MORE)
    assert site.host.conditions.texts == []


def test_a_gateway_that_stops_waits_for_nobody_who_is_to_be_told(site, monkeypatch):
    site.reload(TEXT + MORE, on_trial=True)
    reading = ReadingSlowly(monkeypatch)

    async def life() -> None:
        looking = asyncio.create_task(site.reloader.preview(site.directory / "a.toml"))
        await asyncio.to_thread(reading.begun.wait, 10)
        site.reloader.forget_former()
        async with asyncio.timeout(5):
            await site.reloader.close()
        assert asyncio.all_tasks() == {asyncio.current_task(), looking}
        reading.goes_on.set()
        await looking

    asyncio.run(life())


def test_after_a_reload_that_broke_off_half_way_all_of_it_may_be_read(site):
    site.host.fails = "zones applied"
    with pytest.raises(ReloadFailedError, match="broke off half-way"):
        site.reload(TEXT + MORE)
    assert site.needed == []
    site.host.fails = None
    site.reload(TEXT)
    assert len(site.needed) == 1


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
