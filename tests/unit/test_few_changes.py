"""What came into a long list and went from it, by identity."""

from __future__ import annotations

from ipsec_dp.util.few_changes import FEW, few_changes, in_order


def test_what_came_and_went_is_told_by_identity_while_it_is_little():
    one, two, three = [1], [1], [1]
    assert few_changes([one, two], [one, three, two]) == ([three], [])
    found = few_changes([one, two], [one, three])
    assert found is not None
    assert (found.added[0] is three, found.removed[0] is two) == (True, True)
    assert few_changes([one, one, two], [one, one, one]) is None
    many = [[number] for number in range(FEW + 1)]
    assert few_changes([], many) is None
    assert few_changes(many, []) is None
    assert few_changes(many, many[1:]) == ([], [[0]])


def test_the_order_is_that_of_what_stays_wherever_others_came_and_went():
    one, two, three, four = [1], [1], [1], [1]
    before = [one, two, three]
    for now, same in (
        ([one, two, three], True),
        ([four, one, three], True),
        ([one, three, four], True),
        ([three, one, two], False),
        ([one, four, three, two], False),
        ([three, four, one], False),
    ):
        changes = few_changes(before, now)
        assert changes is not None
        assert in_order(before, now, changes) is same
