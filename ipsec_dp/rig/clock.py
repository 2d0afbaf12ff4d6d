"""A clock that moves only when it is advanced, so that hours pass at once for whatever takes `now`."""

from __future__ import annotations

NS_PER_S = 1_000_000_000


class Clock:
    """Monotonic time for a rig. Called, it gives seconds, as `time.monotonic` does; the data plane takes `ns`."""

    def __init__(self, seconds: float = 1000.0) -> None:
        """`seconds`: where it starts. Not at 0 by default, since 0 means "never" in an SA's times."""
        self.ns: int = round(seconds * NS_PER_S)

    def __call__(self) -> float:
        return self.seconds

    @property
    def seconds(self) -> float:
        return self.ns / NS_PER_S

    def advance(self, seconds: float) -> int:
        """Moves on by `seconds` and returns the new time in nanoseconds. Raises ValueError for a step back."""
        if seconds < 0:
            raise ValueError(f"time does not go back by {-seconds} s")
        self.ns += round(seconds * NS_PER_S)
        return self.ns
