"""What a gateway knows beside its SAs, in another process: each part goes on where it was; and what a successor refuses to be."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from ipsec_dp.config.difference import ReadError
from ipsec_dp.errors import DataPlaneError, IpsecDpError
from ipsec_dp.gateway.control import Answer, ControlServer, Verb
from ipsec_dp.gateway.control_rights import Client
from ipsec_dp.gateway.ike_counts import IkeCounts
from ipsec_dp.gateway.messages import UpgradeRequest
from ipsec_dp.gateway.privileges import Privileges
from ipsec_dp.gateway.reload import UPGRADED
from ipsec_dp.gateway.upgrade.settling import read_ike, settled, without
from ipsec_dp.host import HostError
from ipsec_dp.host.service_manager import ServiceManager
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.keying.initiation import Intent
from ipsec_dp.network.inheritance import Descriptors
from ipsec_dp.services.monitor_health import Health
from ipsec_dp.services.path_mtu_state import Intervals, PathMtu
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.served_root import place_below, served
from tests.unit.test_intent import NOW, event, intent, up

LATER = NOW + 5.0


# ---- tunnels that are wanted


def resumed(one: Intent, *, has_ike_sa: bool, start: str = "start") -> Intent:
    made = intent(start)
    made.resume(one.export(), LATER, has_ike_sa=has_ike_sa)
    return made


def test_a_tunnel_that_is_up_stays_up_and_is_not_called():
    one = resumed(up(intent()), has_ike_sa=True)
    assert (one.state, one.next_attempt, one.came_up_at, one.up_at) == ("up", None, NOW, NOW)
    assert one.export() == up(intent()).export()


def test_a_pause_after_a_failure_goes_on():
    before = intent()
    before.asked(NOW)
    before.attempt(NOW)
    before.event(event(Kind.IKE_FAILED), NOW)
    one = resumed(before, has_ike_sa=False)
    assert (one.state, one.next_attempt, one.last_error) == ("failed", before.next_attempt, "why")
    assert one.tally == before.tally


@pytest.mark.parametrize(("start", "next_attempt"), [("start", LATER), ("on-demand", None), ("respond", None)])
def test_a_tunnel_whose_ike_sa_was_not_carried_begins_anew(start, next_attempt):
    one = resumed(up(intent(start)), has_ike_sa=False, start=start)
    assert (one.state, one.next_attempt, one.came_up_at) == ("waiting", next_attempt, float("-inf"))


def test_one_that_was_stopped_by_hand_stays_stopped():
    before = up(intent())
    before.event(event(Kind.IKE_DOWN, Cause.LOCAL), NOW)
    one = resumed(before, has_ike_sa=False)
    assert (one.state, one.next_attempt) == ("down", None)


# ---- paths, monitors, counts


def test_what_is_known_of_a_path_goes_on():
    path = PathMtu(4, 1500, Intervals(), NOW)
    assert path.reported(1400, NOW)
    one = PathMtu.resumed(4, path.export(), Intervals(), LATER)
    assert (one.outer, one.link, one.due) == (1400, 1500, path.due)
    assert one.next_probe(LATER, active=True) == 1500  # whether the message was true is still to be found out
    assert one.export() == path.export()


@pytest.mark.parametrize("change", [{"outer": 100}, {"outer": 9000}, {"asking": "NOTHING"}])
def test_a_path_that_cannot_be_is_refused(change):
    state = msgspec.structs.replace(PathMtu(4, 1500, Intervals(), NOW).export(), **change)
    with pytest.raises((ValueError, KeyError)):
        PathMtu.resumed(4, state, Intervals(), NOW)


def test_a_monitor_goes_on_counting_and_stays_down():
    before = Health(2)
    for second in range(4):
        before.ask(float(second))
    assert not before.up
    one = Health(2)
    one.resume(before.export())
    assert (one.up, one.asked, one.lost, one.lost_in_a_row) == (False, 4, 3, 3)
    assert one.ask(5.0) == (5, False)
    assert one.lost == 3  # the answer to the last one before is not counted against anybody


def test_what_ike_counted_goes_on():
    before = IkeCounts(cast("Any", None))
    before.rekeys["child", "lifetime", "done"] = 3
    before.failures["ike", "timeout", "ours"] = 2
    before.handshakes["initiator"].add(0.3)
    one = IkeCounts(cast("Any", None))
    one.take(before.export())
    assert (one.rekeys, one.failures) == (before.rekeys, before.failures)
    assert vars(one.handshakes["initiator"]) == vars(before.handshakes["initiator"])


# ---- descriptors


def test_a_descriptor_is_taken_once_and_what_nobody_took_is_closed():
    closed: list[int] = []
    given = Descriptors([7, 8, 9], closed.append)
    assert given.take(1) == 8
    for place in (1, 3, -1):
        with pytest.raises(IpsecDpError, match="did not come, or twice"):
            given.take(place)
    given.close()
    assert closed == [7, 9]


# ---- the helper that stays root, the service manager, who may ask


def test_the_helper_goes_on_with_whoever_has_its_channel(tmp_path):
    place = place_below(tmp_path)
    with served(place) as helper:
        one = type(helper).inherited(helper.stay(), helper.process)
        helper.leave()
        os.close(one.open(str(place / "t.psk"), os.O_RDONLY))
        one.leave()


def test_a_helper_of_another_version_reads_no_configuration_again():
    one = Privileges.inherited(cast("Any", Asked()), "0.0.9", {})
    with pytest.raises(ReadError, match=r"of version 0\.0\.9.*restart it"):
        asyncio.run(cast("Any", one.reread(cast("Any", None)))(Nothing(), os.devnull))
    one.leave()


class Asked:
    open = open_ahead = None

    def leave(self):
        pass


class Nothing:
    tunnels = ()


def test_the_service_manager_is_told_who_goes_on_and_nothing_more(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(str(tmp_path / "notify"))
        hears.settimeout(0.2)
        manager = ServiceManager.of({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        manager.hand_over(4711)
        manager.stopping()
        assert hears.recv(64) == b"MAINPID=4711"
        with pytest.raises(TimeoutError):
            hears.recv(64)


def test_nobody_but_root_may_have_it_start_a_program(tmp_path, monkeypatch):
    """Not even the user that the gateway runs as."""

    async def upgraded(_request):
        return UpgradeRequest()

    server = ControlServer(tmp_path / "a.sock", [Verb(UpgradeRequest, upgraded, roots=True)])

    def says(uid):
        answer = asyncio.run(server.answer(b'{"verb": "upgrade"}', Client(uid)))
        assert isinstance(answer, Answer)
        return answer.ok, answer.error

    monkeypatch.setattr(os, "geteuid", lambda: 65526)
    assert Client(65526).may_change
    assert says(65526) == (False, "user 65526 may not: `upgrade` takes root")
    assert says(0)[0]


# ---- when nobody else is left


def failing(error):
    async def step():
        raise error

    return step


def test_after_the_hand_over_each_step_is_done_whatever_becomes_of_the_others():
    """And after each it is said that this process lives."""
    conditions, done = Conditions(FakeClock()), []

    async def services():
        done.append("services")

    def lives(seconds):
        done.append(f"{seconds:g} s for the next")

    steps = {"rules": failing(HostError("no")), "routes": failing(IpsecDpError("full")), "services": services}
    asyncio.run(settled(conditions, cast("Any", SimpleNamespace(make_all=lambda: done.append("all at the next"))), steps, lives))
    assert done == [*["all at the next", "60 s for the next"] * 2, "services", "60 s for the next"]
    assert conditions.texts == [
        "after an upgrade, rules: no; `ipsec-dp reload` tries again",
        "after an upgrade, routes: full; `ipsec-dp reload` tries again",
    ]


def test_where_nothing_can_read_ike_packets_pass_and_it_is_told():
    """For want of a thread."""
    conditions = Conditions(FakeClock())

    def fails():
        raise DataPlaneError(errno.EAGAIN, "starting the thread of port 500")

    read_ike(cast("Any", SimpleNamespace(start_ike=fails)), conditions)
    (text,) = conditions.texts
    assert text.startswith("since an upgrade IKE is not read at port 500: starting the thread of port 500")
    assert text.endswith("; restart the gateway")
    conditions.become(UPGRADED, {})  # as a reload does, which starts none
    assert conditions.texts == [text]


@pytest.mark.parametrize("error", [KeyError("ipsec0"), ValueError("buckets"), DataPlaneError(22, "counters")])
def test_what_does_not_come_along_ends_nothing(caplog, error):
    def step():
        raise error

    assert without("counters", step) is None
    assert "counters did not come along" in caplog.text
