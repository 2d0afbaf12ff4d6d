"""The table of several workers: medians, and ratios to one worker within each round."""

from __future__ import annotations

from benchmarks.workers import Figures, kinds, table


def test_how_many_child_sas_a_kind_has():
    assert [(kind.workers, kind.children) for kind in kinds(3)] == [((1, 1), 1), ((3, 1), 1), ((3, 3), 3)]


def test_ratios_are_taken_within_a_round():
    one, single, each = kinds(2)
    found = {
        one: Figures([1.0, 4.0, 2.0], [2.0, 1.0, 1.0]),
        single: Figures([1.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
        each: Figures([2.0, 4.0, 6.0], [1.0, 1.0, 1.0]),
    }
    _, *rows = table(found).splitlines()
    assert [row.split() for row in rows] == [
        "one worker 2.00 1.00 (1.00 to 1.00) 1.00 1.00 (1.00 to 1.00)".split(),
        "2 workers, one SA 2.00 1.00 (0.50 to 1.00) 2.00 2.00 (1.00 to 2.00)".split(),
        "2 workers, 2 SAs 4.00 2.00 (1.00 to 3.00) 1.00 1.00 (0.50 to 1.00)".split(),
    ]
