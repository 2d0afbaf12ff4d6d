"""Medians over rounds, spread, and the ratios that the bars are about. Pure functions on plain dictionaries."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.tunnels.names import MEASURES, OURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Rounds: TypeAlias = "Mapping[str, Mapping[str, Sequence[float]]]"  # measure -> contender -> one value a round
Table: TypeAlias = "dict[str, dict[str, float]]"  # measure -> contender -> value


def medians(rounds: Rounds) -> Table:
    """The median over the rounds of each measure and contender."""
    return {measure: {name: statistics.median(values) for name, values in row.items() if values} for measure, row in rounds.items()}


def spread(rounds: Rounds) -> Table:
    """(largest − smallest) ÷ median over the rounds; 0 for one round, and where the median is 0."""
    result: Table = {}
    for measure, row in rounds.items():
        result[measure] = {}
        for name, values in row.items():
            if values:
                middle = statistics.median(values)
                result[measure][name] = (max(values) - min(values)) / abs(middle) if middle else 0.0
    return result


def ratios(of: Table) -> Table:
    """How many times better ours is than each contender: ours ÷ theirs for rates, theirs ÷ ours for times and costs.

    A pair of which one is 0 or negative has no ratio and is left out.
    """
    result: Table = {}
    for measure, row in of.items():
        ours = row.get(OURS, 0.0)
        others = {name: value for name, value in row.items() if name != OURS and value > 0 and ours > 0}
        larger = MEASURES[measure].larger_is_better
        result[measure] = {name: ours / value if larger else value / ours for name, value in others.items()}
    return result
