"""The lines of `--trace-ike` in the log: none unless asked for, and few whatever arrives."""

from __future__ import annotations

import logging

import pytest

from ipsec_dp.databases.sad_events import IkeDatagram
from ipsec_dp.dataplane import Endpoint
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.keying.ike_trace import LINES_A_SECOND, CookieLines, TraceLog, ike_trace
from ipsec_dp.util.faults import TRACE_LOG
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import tunnel
from tests.unit.ike_driver_site import LOCAL, ON_DEMAND, PATH, Double, Site


@pytest.fixture
def traced(caplog):
    """The trace is on, as `--trace-ike` has it."""
    caplog.set_level(logging.DEBUG, TRACE_LOG)
    return caplog


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == TRACE_LOG]


class TracedSite(Site):
    trace = Double()


def test_it_begins_and_ends_between_any_two_messages(caplog):
    """Of a message that came while it was off nothing is said later, nor of what one of ours held that was made meanwhile."""
    trace, seen = ike_trace(FakeClock()), []
    for level in (logging.INFO, logging.DEBUG, logging.INFO, logging.DEBUG):
        caplog.set_level(level, TRACE_LOG)
        for message in (b"one", b"another"):
            trace.arrived(message, PATH)
            trace.handled()
        trace.described(b"of ours", lambda: "in words", proven=True)
        trace.left(b"of ours", PATH)
        seen.append(len(lines(caplog)))
    assert seen == [0, 3, 3, 6]
    assert not any("again" in line for line in lines(caplog))
    trace.arrived(b"before", PATH)
    caplog.set_level(logging.INFO, TRACE_LOG)
    trace.handled()
    caplog.set_level(logging.DEBUG, TRACE_LOG)
    trace.handled()
    assert len(lines(caplog)) == 6


def test_what_the_data_plane_answers_by_itself_is_counted_while_it_is_on(caplog):
    sent = [5]
    cookies = CookieLines(lambda: sent[0])
    for level, now in ((logging.INFO, 7), (logging.DEBUG, 9), (logging.DEBUG, 9), (logging.DEBUG, 12), (logging.DEBUG, 13)):
        caplog.set_level(level, TRACE_LOG)
        sent[0] = now
        cookies.look()
    assert lines(caplog) == [
        "out the data plane answered 3 IKE_SA_INIT requests with COOKIE",
        "out the data plane answered 1 IKE_SA_INIT request with COOKIE",
    ]


def test_each_datagram_that_comes_and_goes_is_seen(tmp_path):
    """In this order; those too that lead to nothing, or to a fault of ours."""
    site = TracedSite(tmp_path, tunnel("to-b", ON_DEMAND))
    seen = site.trace.calls

    async def life():
        site.hand(act.Send(b"answer", PATH))
        await settle()
        assert [call[:2] for call in seen] == [("arrived", b"message"), ("handled",), ("left", b"answer")]
        site.core.answers["receive"] = RuntimeError("a fault")
        end = Endpoint(LOCAL, 4500)
        site.driver.datagram(IkeDatagram(0, end, end, b"another"))
        await settle()
        assert [call[:2] for call in seen[3:]] == [("arrived", b"another"), ("handled",)]

    site.run(life)


def test_a_flood_of_strangers_leaves_few_lines_and_none_of_a_peers_out(traced):
    clock = FakeClock()
    log = TraceLog(clock)
    for number in range(10_000):
        log.write(f"stranger {number}", proven=False)
    log.write("peer", proven=True)
    assert len(lines(traced)) == LIMITS.trace_a_second + 2
    assert lines(traced)[-2:] == [f"{10_000 - LIMITS.trace_a_second:g} messages were left out of this trace", "peer"]


def test_a_peer_that_floods_leaves_few_too(traced):
    log = TraceLog(FakeClock())
    for number in range(10_000):
        log.write(f"peer {number}", proven=True)
    assert len(lines(traced)) == LINES_A_SECOND
