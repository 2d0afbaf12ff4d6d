"""What is made of the times of many round trips."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TIME = re.compile(r" time=([0-9.]+) ms")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all values do not exceed (nearest rank). ValueError without values or outside 0–100."""
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"no {percent}th percentile of {len(values)} values")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def times_us(output: str) -> list[float]:
    """The round-trip times in what ping printed, in µs."""
    return [float(found) * 1000 for found in TIME.findall(output)]
