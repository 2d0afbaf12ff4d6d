"""What the log says of a start that calls many peers."""

from __future__ import annotations

import logging

from ipsec_dp.gateway.bring_up import BETWEEN_S, MANY, STILL_S, BringUp


class Start:
    """`at`: seconds since the start, with so many tunnels up; what the log says then."""

    def __init__(self, called, caplog):
        self.now, self.up, self._caplog = 100.0, 0, caplog
        caplog.set_level(logging.INFO, "ipsec_dp")
        self.bring_up = BringUp(called, lambda: self.up, lambda: self.now)

    def at(self, seconds, up):
        self.now, self.up = 100.0 + seconds, up
        self._caplog.clear()
        self.bring_up.look()
        return [record.getMessage() for record in self._caplog.records]


def test_it_says_how_far_it_is_now_and_then(caplog):
    start = Start(1000, caplog)
    assert start.at(1, 30) == []
    assert start.at(BETWEEN_S, 340) == ["340 of 1000 tunnels that are called at start are up, 5 s after the start"]
    assert start.at(BETWEEN_S + 1, 400) == []
    assert start.at(15, 1000) == ["all 1000 tunnels that are called at start are up, 15 s after the start"]
    assert start.at(30, 1000) == []


def test_it_gives_up_where_nothing_more_comes(caplog):
    start = Start(1000, caplog)
    start.at(8, 988)
    how_many = f"988 of 1000 tunnels that are called at start are up, {8 + STILL_S:.0f} s after the start"
    assert start.at(8 + STILL_S, 988) == [f"{how_many}; `ipsec-dp status --state failed` says why others are not"]
    assert start.at(300, 1000) == []


def test_few_tell_by_themselves(caplog):
    start = Start(MANY - 1, caplog)
    assert start.at(BETWEEN_S, 3) == []
    assert start.at(STILL_S * 2, MANY - 1) == []
