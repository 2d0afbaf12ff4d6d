"""What was added to a long list, by identity."""

from __future__ import annotations

from ipsec_dp.util.additions import FEW, additions


def test_what_came_is_told_by_identity_while_it_is_little():
    one, two, three = [1], [1], [1]
    assert additions([one, two], [one, three, two]) == [three]
    assert additions([one, two], [one, three]) is None
    assert additions([one, one, two], [one, one, one]) is None
    assert additions([], [[number] for number in range(FEW + 1)]) is None
