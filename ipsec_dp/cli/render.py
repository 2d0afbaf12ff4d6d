"""The answer to `status` as a person reads it: tunnels, their CHILD_SAs, what was dropped and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

Status = dict[str, Any]

STATE_STYLES = {"up": "green", "rekeying": "green", "waiting": "cyan", "negotiating": "yellow", "down": "red", "failed": "bold red"}
EXPLAINED_MOST = 20  # tunnels whose state is said in words too
VERDICT_STYLES = {"protect": "green", "bypass": "yellow", "accept": "yellow", "clear": "yellow", "allow": "green"} | dict.fromkeys(
    ("discard", "drop", "deny"), "red"
)
_SECONDS = (("d", 86400), ("h", 3600), ("m", 60))


def duration(seconds: float | None) -> str:
    """ "1h 02m", "3m 20s", "12s"; a dash for None."""
    if seconds is None:
        return "-"
    left = int(seconds)
    for index, (letter, unit) in enumerate(_SECONDS):
        if left >= unit:
            smaller, smaller_unit = (*_SECONDS, ("s", 1))[index + 1]
            return f"{left // unit}{letter} {left % unit // smaller_unit:02}{smaller}"
    return f"{left}s"


def octets(count: int) -> str:
    """ "17.2 MB", in powers of ten as the configuration's sizes."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.95 or unit == "TB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit holds every count")


def _cell(value: object) -> str:
    return "-" if value is None else escape(str(value))


def summary(tunnels: list[Status]) -> str:
    """ "10001 tunnels: 1 up, 10000 waiting"."""
    states = Counter(str(tunnel.get("state", "?")) for tunnel in tunnels)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return f"{len(tunnels)} tunnel{'' if len(tunnels) == 1 else 's'}" + (f": {counts}" if counts else "")


def tunnel_table(tunnels: list[Status]) -> Table:
    table = Table(title="Tunnels", title_justify="left", show_edge=False, pad_edge=False)
    monitored = any(tunnel.get("monitor") for tunnel in tunnels)
    for column in ("tunnel", "state", "peer", "NAT", "MTU", "IKE", "rekey in", *(["monitor"] if monitored else [])):
        table.add_column(column)
    for tunnel in tunnels:
        ike = tunnel.get("ike")
        state = str(tunnel.get("state", "?"))
        table.add_row(
            _cell(tunnel.get("name")),
            Text(state, style=STATE_STYLES.get(state, "")),
            _cell(tunnel.get("remote")),
            _cell(tunnel.get("nat")),
            _mtu(tunnel),
            "-" if ike is None else f"{_cell(ike.get('role'))}, {_cell(ike.get('proposal'))}",
            "-" if ike is None else duration(ike.get("rekey_in_s")),
            *([_monitor(tunnel.get("monitor"))] if monitored else []),
        )
    return table


def _mtu(tunnel: Status) -> str:
    """ "1438 of 1500": the largest inner packet, and the largest outer one; the first alone while there is no peer."""
    inner, path = _cell(tunnel.get("mtu")), tunnel.get("path_mtu")
    return inner if path is None else f"{inner} of {path}"


def _monitor(monitor: Status | None) -> Text:
    """ "up, 1.2 ms", "down, 7 lost in a row"."""
    if monitor is None:
        return Text("-")
    state, rtt = str(monitor.get("state")), monitor.get("rtt_ms")
    if state == "down":
        return Text(f"down, {monitor.get('lost_in_a_row')} lost in a row", style="red")
    return Text(f"{state}, {'no answer yet' if rtt is None else f'{rtt} ms'}", style="green")


def child_table(tunnels: list[Status]) -> Table:
    table = Table(title="CHILD_SAs", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("tunnel", "SPI in / out", "suite", "local <-> remote"):
        table.add_column(column)
    for column in ("in", "out", "age", "rekey in"):
        table.add_column(column, justify="right")
    for tunnel in tunnels:
        for child in tunnel.get("children", ()):
            local, remote = (", ".join(map(str, child.get(side, ()))) for side in ("local_ts", "remote_ts"))
            suite = f"{child.get('suite')}-esn" if child.get("esn") else child.get("suite")
            table.add_row(
                _cell(tunnel.get("name")),
                escape(f"{child.get('spi_in')} / {child.get('spi_out')}"),
                _cell(suite),
                escape(f"{local} <-> {remote}"),
                *(f"{child.get(f'packets_{way}', 0)} ({octets(child.get(f'octets_{way}', 0))})" for way in ("in", "out")),
                duration(child.get("age_s")),
                duration(child.get("rekey_in_s")),
            )
    return table


def drop_table(drops: dict[str, int], sentences: dict[str, str]) -> Table:
    """Reasons that occurred, most frequent first, each with its sentence."""
    table = Table(title="Dropped", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("packets", justify="right")
    table.add_column("reason")
    table.add_column("meaning")
    for reason, count in sorted(drops.items(), key=lambda item: (-item[1], item[0])):
        if count > 0:
            table.add_row(str(count), escape(reason), escape(sentences.get(reason, "")))
    return table


def zone_table(zones: Status) -> Table:
    """What each zone_rule held, in their order, and last what no rule let through."""
    table = Table(title="Zones", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("zone_rule", "from", "to", "action"):
        table.add_column(column)
    table.add_column("packets", justify="right")
    for number, rule in enumerate(zones.get("rules", ()), 1):
        action = str(rule.get("action"))
        count = f"{rule.get('packets', 0)} ({octets(rule.get('octets', 0))})"
        cells = (f"#{number}", _cell(rule.get("from")), _cell(rule.get("to")))
        table.add_row(*cells, Text(action, style=VERDICT_STYLES.get(action, "")), count)
    denied = zones.get("denied", 0)
    table.add_row("none", "", "", Text("deny", style=VERDICT_STYLES["deny"] if denied else ""), str(denied))
    return table


def view(answer: Status) -> RenderableType:
    """All of it, parts without content left out."""
    tunnels = answer.get("tunnels", [])
    offloads = ", ".join(name for name, on in sorted(answer.get("offloads", {}).items()) if on is True) or "none"
    head = Text.assemble(
        ("gateway ", "dim"),
        str(answer.get("gateway", "?")),
        ("  provider ", "dim"),
        str(answer.get("provider", "?")),
        ("  offloads ", "dim"),
    )
    head.append(offloads)
    parts: list[RenderableType] = [head]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in answer.get("warnings", ())]
    parts += ["", Text(summary(tunnels)), tunnel_table(tunnels)]
    for tunnel in tunnels:
        # Of many tunnels the table tells enough; what went wrong is always told.
        for key, style in (("state_text", ""), ("last_error", "red"))[len(tunnels) > EXPLAINED_MOST :]:
            if tunnel.get(key):
                parts.append(Text(f"{tunnel.get('name')}: {tunnel[key]}", style=style))
    if any(tunnel.get("children") for tunnel in tunnels):
        parts += ["", child_table(tunnels)]
    if answer.get("zones"):
        parts += ["", zone_table(answer["zones"])]
    drops = answer.get("drops", {})
    if any(count > 0 for count in drops.values()):
        parts += ["", drop_table(drops, answer.get("drop_sentences", {}))]
    return Group(*parts)


def reload_table(answer: dict[str, Any]) -> Table:
    """What a reload did, tunnel by tunnel."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("tunnel", "what", "keys", "by"):
        table.add_column(column)
    for what, style in (("added", "green"), ("removed", "red")):
        for name in answer[what]:
            table.add_row(_cell(name), Text(what, style=style), "", "")
    for change in answer["changed"]:
        table.add_row(_cell(change["name"]), Text("changed", style="yellow"), _cell(", ".join(change["keys"])), change["effect"])
    return table


def print_reload(answer: dict[str, Any], console: Console | None = None) -> None:
    """Writes what a reload did."""
    console = console or Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 240
    if answer["added"] or answer["removed"] or answer["changed"]:
        console.print(reload_table(answer))
    console.print(f"{answer['kept']} kept as they are; read in {answer['read_s']:g} s, applied in {answer['applied_s']:g} s")


def print_status(answer: Status, console: Console | None = None) -> None:
    """Writes the tables; where no terminal is, as wide as they need, so that nothing a program greps for is cut."""
    console = console or Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 240
    console.print(view(answer))


def explanation(answer: dict[str, Any]) -> RenderableType:
    """The answer to `policy explain`: the verdict, then the steps that led to it."""
    packet, verdict = answer.get("packet", {}), str(answer.get("verdict", "?"))
    head = Text.assemble(
        f"{packet.get('source')} -> {packet.get('destination')} ({answer.get('direction')}): ",
        (verdict, VERDICT_STYLES.get(verdict, "")),
        f": {answer.get('text', '')}",
    )
    table = Table(show_edge=False, pad_edge=False)
    for column in ("step", "verdict", "why"):
        table.add_column(column)
    for step in answer.get("steps", ()):
        table.add_row(*(_cell(step.get(key)) for key in ("what", "verdict", "why")))
    return Group(head, "", table)


def print_explanation(answer: dict[str, Any], console: Console | None = None) -> None:
    """Writes it; where no terminal is, as wide as it needs."""
    console = console or Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 240
    console.print(explanation(answer))


def watch(fetch: Callable[[], Status], sleep: Callable[[float], None], interval_s: float, console: Console | None = None) -> None:
    """Shows `fetch()` over and over, `interval_s` seconds apart, until it raises or the person presses Ctrl-C."""
    try:
        with Live(view(fetch()), console=console, screen=False, auto_refresh=False) as live:
            while True:
                sleep(interval_s)
                live.update(view(fetch()), refresh=True)
    except KeyboardInterrupt:
        return
