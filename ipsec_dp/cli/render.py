"""The answer to `status` as a person reads it: tunnels, their CHILD_SAs, what was dropped and why."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ipsec_dp.cli.encapsulation_words import outside, slower
from ipsec_dp.cli.fitting import Column, FittedTable, errors, folded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import RenderableType

    from ipsec_dp.gateway.explanation import ExplainAnswer
    from ipsec_dp.gateway.messages import ReloadResult
    from ipsec_dp.gateway.status import GatewayStatus, TunnelStatus, ZoneStatus
    from ipsec_dp.keying.status import IkeSaStatus
    from ipsec_dp.services.monitor_health import MonitorStatus

STATE_STYLES = {
    "up": "green",
    "rekeying": "green",
    "partial": "yellow",
    "waiting": "cyan",
    "negotiating": "yellow",
    "down": "red",
    "failed": "bold red",
}
HELD = ("half_open", "sessions")  # of the counters of IKE: what is there now
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


def _said(value: object) -> str:
    return "-" if value is None else str(value)


def _cell(value: object) -> str:
    return escape(_said(value))


def summary(tunnels: Sequence[TunnelStatus]) -> str:
    """ "10001 tunnels: 1 up, 10000 waiting"."""
    states = Counter(tunnel.state for tunnel in tunnels)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return f"{len(tunnels)} tunnel{'' if len(tunnels) == 1 else 's'}" + (f": {counts}" if counts else "")


TUNNEL_COLUMNS = (
    Column("tunnel"),
    Column("state"),
    Column("peer"),
    Column("outside", 4),
    Column("MTU", 3),
    Column("IKE", 5),
    Column("post-quantum", 6),
    Column("rekey in", 2),
)
MONITOR = Column("monitor", 1)
CHILD_COLUMNS = (
    Column("tunnel"),
    Column("SPI in / out", 5),
    Column("suite", 6),
    Column("post-quantum", 7),
    Column("local <-> remote", wraps=True),
    Column("in", 1, right=True),
    Column("out", 2, right=True),
    Column("age", 4, right=True),
    Column("rekey in", 3, right=True),
)


def tunnel_table(tunnels: Iterable[TunnelStatus]) -> FittedTable:
    monitored = any(tunnel.monitor is not None for tunnel in tunnels)
    table = FittedTable("Tunnels", (*TUNNEL_COLUMNS, *([MONITOR] if monitored else [])))
    for tunnel in tunnels:
        ike = tunnel.ike
        table.add(
            tunnel.name,
            Text(tunnel.state, style=STATE_STYLES.get(tunnel.state, "")),
            _said(tunnel.remote) + (" (not in DNS)" if tunnel.remote_in_dns is False else ""),
            outside(tunnel),
            _mtu(tunnel),
            "-" if ike is None else f"{_version(ike)}{ike.role}, {ike.proposal}",
            "-" if ike is None else ike.post_quantum.ike,
            "-" if ike is None else duration(ike.rekey_in_s),
            *([_monitor(tunnel.monitor)] if monitored else []),
        )
    return table


def _version(ike: IkeSaStatus) -> str:
    """Of IKE, where it is not the usual one."""
    return "" if ike.version == 2 else "IKEv1 " if ike.fallback is None else "IKEv1 (fallback) "


def _in_all(tunnel: TunnelStatus) -> str:
    """ "since the start 12 packets (3.4 kB) in, 10 (2.0 kB) out; 3 attempts, 1 failure"; nothing where nothing happened."""
    sums = tunnel.totals
    carried = f"{sums.packets_in} packets ({octets(sums.octets_in)}) in, {sums.packets_out} ({octets(sums.octets_out)}) out"
    counts = {
        "packet{} dropped": sum(sums.drops.values()),
        "attempt{}": tunnel.attempts,
        "failure{}": tunnel.failures,
        "flap{}": tunnel.flaps,
        "retransmission{}": tunnel.retransmissions,
    }
    happened = ", ".join(f"{count} {what.format('' if count == 1 else 's')}" for what, count in counts.items() if count)
    parts = [*([carried] if sums.packets_in or sums.packets_out else []), *([happened] if happened else [])]
    return f"since the start {'; '.join(parts)}" if parts else ""


def _vendors(tunnel: TunnelStatus) -> str:
    """ "the peer says: strongSwan, DPD, NAT-T, 2 unknown"; nothing where it says nothing, or speaks IKEv2."""
    if tunnel.ike is None or not (tunnel.ike.vendors or tunnel.ike.unknown_vendors):
        return ""
    unknown = [f"{tunnel.ike.unknown_vendors} unknown"] if tunnel.ike.unknown_vendors else []
    return f"the peer says: {', '.join([*tunnel.ike.vendors, *unknown])}"


def ike_line(counters: dict[str, int]) -> str:
    """Of the IKE datagrams that led to nothing; nothing where there were none."""
    found = [f"{count} {name.replace('_', ' ')}" for name, count in counters.items() if count and name not in HELD]
    return f"IKE since the start: {', '.join(found)}" if found else ""


def _mtu(tunnel: TunnelStatus) -> str:
    """ "1438 of 1500": the largest inner packet, and the largest outer one; the first alone while there is no peer."""
    inner = _said(tunnel.mtu)
    return inner if tunnel.path_mtu is None else f"{inner} of {tunnel.path_mtu}"


def _monitor(monitor: MonitorStatus | None) -> Text:
    """ "up, 1.2 ms", "down, 7 lost in a row"."""
    if monitor is None:
        return Text("-")
    if monitor.state == "down":
        return Text(f"down, {monitor.lost_in_a_row} lost in a row", style="red")
    return Text(f"{monitor.state}, {'no answer yet' if monitor.rtt_ms is None else f'{monitor.rtt_ms} ms'}", style="green")


def child_table(tunnels: Iterable[TunnelStatus]) -> FittedTable:
    table = FittedTable("CHILD_SAs", CHILD_COLUMNS)
    for tunnel in tunnels:
        for child in tunnel.children:
            table.add(
                tunnel.name,
                f"{child.spi_in} / {child.spi_out}",
                _said(f"{child.suite}-esn" if child.esn else child.suite),
                child.post_quantum.child,
                f"{', '.join(child.local_ts)} <-> {', '.join(child.remote_ts)}",
                f"{child.packets_in} ({octets(child.octets_in)})",
                f"{child.packets_out} ({octets(child.octets_out)})",
                duration(child.age_s),
                duration(child.rekey_in_s),
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


def drop_examples(answer: GatewayStatus) -> RenderableType:
    """The last packets of each reason, most frequent reason first, a cause that several share said once."""
    parts: list[RenderableType] = [Text("Last dropped", style="italic")]
    for reason, examples in sorted(answer.drop_examples.items(), key=lambda item: (-answer.drops.get(item[0], 0), item[0])):
        parts.append(Text(reason, style="red"))
        for cause, those in groupby(examples, key=lambda each: each.cause):
            parts += [Padding(Text(f"{duration(each.ago_s)} ago  {each.text}"), (0, 0, 0, 2), expand=False) for each in those]
            parts.append(Padding(Text(f"likely: {cause}", style="yellow"), (0, 0, 0, 4), expand=False))
    return Group(*parts)


def zone_table(zones: ZoneStatus) -> Table:
    """What each zone_rule held, in their order, and last what no rule let through."""
    table = Table(title="Zones", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("zone_rule", "from", "to", "action"):
        table.add_column(column)
    table.add_column("packets", justify="right")
    for number, rule in enumerate(zones.rules, 1):
        action = Text(rule.action, style=VERDICT_STYLES.get(rule.action, ""))
        count = f"{rule.packets} ({octets(rule.octets)})"
        table.add_row(f"#{number}", _cell(rule.from_zone), _cell(rule.to_zone), action, count)
    action = Text("deny", style=VERDICT_STYLES["deny"] if zones.denied else "")
    table.add_row("none", "", "", action, str(zones.denied))
    return table


def view(answer: GatewayStatus) -> RenderableType:
    """All of it, parts without content left out."""
    tunnels = answer.tunnels
    offloads = ", ".join(name for name, on in sorted(answer.offloads.items()) if on) or "none"
    head = Text.assemble(("gateway ", "dim"), answer.gateway, ("  provider ", "dim"), answer.provider, ("  offloads ", "dim"))
    head.append(offloads)
    if answer.offloads_given_up:
        head.append(f" (refused by the kernel: {', '.join(answer.offloads_given_up)})", style="yellow")
    parts: list[RenderableType] = [head]
    given = answer.socket_buffers
    if given is not None and min(given.receive, given.send) < given.asked:
        least = octets(min(given.receive, given.send))
        parts += [Text(f"socket buffers: {least}, though {octets(given.asked)} were asked for", style="yellow")]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in folded(answer.warnings)]
    parts += ["", Text(summary(tunnels)), tunnel_table(tunnels)]
    if len(tunnels) <= EXPLAINED_MOST:  # of many the table is enough; what went wrong is always shown
        for tunnel in tunnels:
            pinned = ["pinned to IKEv2"] if tunnel.pinned else []
            spoken = [f"by {_version(tunnel.ike).strip()}"] if tunnel.ike and _version(tunnel.ike) else []
            said = "; ".join([*([tunnel.state_text] if tunnel.state_text else []), *spoken, *pinned])
            parts += [Text(f"{tunnel.name}: {said}")] if said else []
            parts += [Text(f"{tunnel.name}: {slow}", style="dim")] if (slow := slower(tunnel)) else []
            parts += [Text(f"{tunnel.name}: {vendors}", style="dim")] if (vendors := _vendors(tunnel)) else []
            parts += [Text(f"{tunnel.name}: {in_all}", style="dim")] if (in_all := _in_all(tunnel)) else []
    wrong = [(tunnel.name, tunnel.remote, tunnel.last_error) for tunnel in tunnels if tunnel.last_error]
    parts += [Text(line, style="red") for line in errors(wrong)]
    if any(tunnel.children for tunnel in tunnels):
        parts += ["", child_table(tunnels)]
    if line := ike_line(answer.ike_counters):
        parts += ["", Text(line)]
    if answer.zones is not None:
        parts += ["", zone_table(answer.zones)]
    if any(count > 0 for count in answer.drops.values()):
        parts += ["", drop_table(answer.drops, answer.drop_sentences)]
    if answer.drop_examples:
        parts += ["", drop_examples(answer)]
    return Group(*parts)


def reload_table(answer: ReloadResult) -> Table:
    """What a reload did, or would do, tunnel by tunnel."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("tunnel", "what", "keys", "by"):
        table.add_column(column, overflow="fold", no_wrap=column == "what")
    for what, style, names in (("added", "green", answer.added), ("removed", "red", answer.removed)):
        for name in names:
            table.add_row(_cell(name), Text(what, style=style), "", "")
    for change in answer.changed:
        table.add_row(_cell(change.name), Text("changed", style="yellow"), _cell(", ".join(change.keys)), _cell(change.effect))
    return table


def print_reload(answer: ReloadResult, console: Console | None = None) -> None:
    """Writes what a reload did, or would do."""
    console = console or Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 240
    if answer.added or answer.removed or answer.changed:
        console.print(reload_table(answer))
    if answer.dry_run is True:
        console.print(f"{answer.kept} would be kept as they are; nothing was changed")
    else:
        console.print(f"{answer.kept} kept as they are; read in {answer.read_s:g} s, applied in {answer.applied_s:g} s")


def print_status(answer: GatewayStatus, console: Console | None = None) -> None:
    """Writes the tables; where no terminal is, as wide as they need, so that nothing a program greps for is cut."""
    console = console or Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 240
    console.print(view(answer))


def explanation(answer: ExplainAnswer) -> RenderableType:
    """The answer to `policy explain`: the verdict, then the steps that led to it."""
    packet, verdict = answer.packet, answer.verdict
    head = Text.assemble(
        f"{packet.source} -> {packet.destination} ({answer.direction}): ",
        (verdict, VERDICT_STYLES.get(verdict, "")),
        f": {answer.text}",
    )
    table = Table(show_edge=False, pad_edge=False)
    for column in ("step", "verdict", "why"):
        table.add_column(column)
    for step in answer.steps:
        table.add_row(_cell(step.what), _cell(step.verdict), _cell(step.why))
    return Group(head, "", table)


def print_explanation(answer: ExplainAnswer, console: Console | None = None) -> None:
    """Writes it; where no terminal is, as wide as it needs."""
    console = console or Console(soft_wrap=False)
    if not console.is_terminal:
        console.width = 240
    console.print(explanation(answer))


def watch(
    fetch: Callable[[], GatewayStatus], sleep: Callable[[float], None], interval_s: float, console: Console | None = None
) -> None:
    """Shows `fetch()` over and over, `interval_s` seconds apart, until it raises or the person presses Ctrl-C."""
    try:
        with Live(view(fetch()), console=console, screen=False, auto_refresh=False) as live:
            while True:
                sleep(interval_s)
                live.update(view(fetch()), refresh=True)
    except KeyboardInterrupt:
        return
