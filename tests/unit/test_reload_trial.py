"""A reload on trial: what is gone back to, and whose secrets and files are kept for that, until somebody confirms it."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.config import difference
from ipsec_dp.gateway.confirmation import Confirmation
from ipsec_dp.gateway.messages import ConfirmRequest
from ipsec_dp.gateway.reload import ReloadFailedError
from ipsec_dp.gateway.verbs import GatewayVerbs
from ipsec_dp.host import HostError
from ipsec_dp.ike.effect import Effect
from tests.unit.gateway_doubles import TEXT

from .reload_site import MORE, WITHOUT_UP, Site, others


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(difference, "ask", difference.answer)  # starts no process
    return Site(tmp_path)


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


# ---- which files may be opened ---------------------------------------------------------------------------------------------------


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
