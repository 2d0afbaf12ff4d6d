"""`status --check`: one line and an exit status, as monitoring plugins have them (0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN)."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from ipsec_dp.util.text import named, shown

if TYPE_CHECKING:
    from ipsec_dp.gateway.status import GatewayStatus, TunnelStatus

NAMED: Final = 3  # tunnels that a line names


class Level(IntEnum):
    """Exit statuses."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


LEVELS: Final = {
    "up": Level.OK,
    "rekeying": Level.OK,
    "waiting": Level.OK,  # as it is configured to; a WARNING where something went wrong before
    "partial": Level.WARNING,
    "negotiating": Level.WARNING,
    "down": Level.CRITICAL,
    "failed": Level.CRITICAL,
}
_WORST_LAST: Final = (Level.OK, Level.UNKNOWN, Level.WARNING, Level.CRITICAL)


def line(level: Level, text: str) -> str:
    """ "CRITICAL: …", in which no "|" begins performance data before its place."""
    return shown(f"{level.name}: {text.replace('|', '/')}")


def check(answer: GatewayStatus) -> tuple[Level, str]:
    """Of the tunnels in the answer: the worst of them, and what is wrong with each of the first that are not well."""
    levels = {tunnel.name: _level(tunnel) for tunnel in answer.tunnels}
    wrong = sorted((one for one in answer.tunnels if levels[one.name]), key=lambda one: -_WORST_LAST.index(levels[one.name]))
    worst = max([*levels.values(), Level.WARNING if answer.warnings else Level.OK], key=_WORST_LAST.index)
    counts = Counter(tunnel.state for tunnel in answer.tunnels)
    parts = [
        f"{answer.gateway}: {', '.join(f'{count} {state}' for state, count in counts.most_common()) or 'no tunnels'}",
        *([named([_said(one) for one in wrong], NAMED, "; ")] if wrong else []),
        *([f"warnings: {named(answer.warnings, NAMED, '; ')}"] if answer.warnings else []),
    ]
    data = " ".join(f"{state}={counts[state]}" for state in LEVELS)
    return worst, f"{line(worst, '; '.join(parts))} | {data}"


def _level(tunnel: TunnelStatus) -> Level:
    level = LEVELS.get(tunnel.state, Level.UNKNOWN)
    unwell = tunnel.state == "waiting" and tunnel.last_error is not None
    if level is Level.OK and (unwell or (tunnel.monitor is not None and tunnel.monitor.state == "down")):
        return Level.WARNING
    return level


def _said(tunnel: TunnelStatus) -> str:
    why = tunnel.last_error or (tunnel.state_text if tunnel.state_text != tunnel.state else "")
    return f"{tunnel.name} {tunnel.state}" + (f" ({why})" if why else "")
