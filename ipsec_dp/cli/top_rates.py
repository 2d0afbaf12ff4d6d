"""What `top` counts: how fast the tunnels carry and drop, from one answer to `status` to the next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ipsec_dp.gateway.status import GatewayStatus, TunnelStatus, TunnelTotals

REMEMBERED: Final = 120  # rates of a tunnel, for its sparkline
BARS: Final = " ▁▂▃▄▅▆▇█"
ASCII_BARS: Final = " .:-=+*#@"
OCTET_BITS: Final = 8
WORST_FIRST: Final = ("failed", "down", "partial", "negotiating", "waiting", "rekeying", "up")


@dataclass(frozen=True, slots=True)
class Rate:
    """A second; octets are inner ones."""

    packets_in: float = 0.0
    bits_in: float = 0.0
    packets_out: float = 0.0
    bits_out: float = 0.0
    drops: float = 0.0

    @property
    def bits(self) -> float:
        return self.bits_in + self.bits_out


NO_RATE: Final = Rate()


def _counts(totals: TunnelTotals) -> tuple[int, ...]:
    octets_in, octets_out = totals.octets_in * OCTET_BITS, totals.octets_out * OCTET_BITS
    return totals.packets_in, octets_in, totals.packets_out, octets_out, sum(totals.drops.values())


class Rates:
    """Of all tunnels of one gateway. `take` each answer, with the seconds of a clock at which it came."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._counts: dict[str, tuple[int, ...]] = {}
        self._history: dict[str, deque[Rate]] = {}

    def take(self, answer: GatewayStatus, at: float) -> None:
        """Counters that went back are those of another gateway: nothing is known of its rate yet."""
        seconds = 0.0 if self._at is None else at - self._at
        counts = {tunnel.name: _counts(tunnel.totals) for tunnel in answer.tunnels}
        for name, now in counts.items():
            history = self._history.setdefault(name, deque(maxlen=REMEMBERED))
            before = self._counts.get(name)
            if before is not None and seconds > 0 and all(new >= old for new, old in zip(now, before, strict=True)):
                history.append(Rate(*((new - old) / seconds for new, old in zip(now, before, strict=True))))
        for gone in self._history.keys() - counts.keys():
            del self._history[gone]
        self._at, self._counts = at, counts

    def of(self, name: str) -> Rate:
        history = self._history.get(name)
        return history[-1] if history else NO_RATE

    def history(self, name: str) -> Sequence[Rate]:
        """Oldest first."""
        return tuple(self._history.get(name, ()))

    def total(self, names: Iterable[str]) -> Rate:
        rates = [self.of(name) for name in names]
        fields = ("packets_in", "bits_in", "packets_out", "bits_out", "drops")
        return Rate(*(sum(getattr(rate, field) for rate in rates) for field in fields))


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> str:
    """The last `width` of them, as high as they are beside the greatest; what carries anything at all has a bar."""
    kept = values[-width:] if width > 0 else ()
    most = max(kept, default=0.0)
    if most <= 0:
        return " " * max(width, 0)
    steps = len(bars) - 1
    return "".join(bars[0 if value <= 0 else max(1, round(value / most * steps))] for value in kept).rjust(width)


def short(value: float) -> str:
    """At most five characters: "0", "12", "0.4", "1.2k", "123M"."""
    for unit in ("", "k", "M", "G", "T"):
        if value < 9.95 and (unit or 0 < value < 9.95):
            text = f"{value:.1f}".removesuffix(".0") if not unit else f"{value:.1f}"
            return ("<0.1" if text == "0" else text) + unit
        if value < 999.5 or unit == "T":
            return f"{value:.0f}{unit}"
        value /= 1000
    raise AssertionError("the last unit holds every value")


def next_rekey(tunnel: TunnelStatus) -> float | None:
    """Seconds until the first of its SAs is rekeyed, of the IKE SA or of a CHILD_SA."""
    known = [child.rekey_in_s for child in tunnel.children] + [None if tunnel.ike is None else tunnel.ike.rekey_in_s]
    return min((each for each in known if each is not None), default=None)


def _state_rank(tunnel: TunnelStatus) -> int:
    return WORST_FIRST.index(tunnel.state) if tunnel.state in WORST_FIRST else len(WORST_FIRST)


SORTS: Final[Mapping[str, Callable[[TunnelStatus, Rate], float]]] = {
    "name": lambda _tunnel, _rate: 0,
    "state": lambda tunnel, _rate: _state_rank(tunnel),
    "in": lambda _tunnel, rate: -rate.bits_in,
    "out": lambda _tunnel, rate: -rate.bits_out,
    "drops": lambda _tunnel, rate: -rate.drops,
    "rekey": lambda tunnel, _rate: inf if (seconds := next_rekey(tunnel)) is None else seconds,
}


def ordered(tunnels: Iterable[TunnelStatus], rates: Rates, sort: str, *, reverse: bool, wanted: str) -> list[TunnelStatus]:
    """Those whose name, state or peer has the text `wanted` in it, by `sort` of SORTS and then by name."""
    word, key = wanted.lower(), SORTS[sort]
    held = [each for each in tunnels if any(word in (part or "").lower() for part in (each.name, each.state, each.remote))]
    held.sort(key=lambda each: each.name, reverse=reverse)
    return sorted(held, key=lambda each: key(each, rates.of(each.name)), reverse=reverse)
