"""What `top` shows, line by line, for a terminal of any size: all tunnels, or one in depth."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ipsec_dp.cli.encapsulation_words import outside
from ipsec_dp.cli.render import STATE_STYLES, duration, octets, summary
from ipsec_dp.cli.top_rates import ASCII_BARS, BARS, SORTS, next_rekey, ordered, short, sparkline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipsec_dp.cli.top_rates import Rate, Rates
    from ipsec_dp.gateway.status import ChildSaStatus, GatewayStatus, TunnelStatus

LEAST_WIDTH: Final = 40
NUMBER: Final = 5  # characters of a rate
STATE: Final = 11
REKEY: Final = 7
# Marker, state, five rates, rekey, and a blank between each two columns.
FIXED: Final = 1 + (1 + STATE) + 5 * (1 + NUMBER) + (1 + REKEY) + 2
NAME_LEAST, SPARK_LEAST, SPARK_MOST = 12, 8, 60
HELP: Final = "q quit  up/down move  enter in depth  s sort  r reverse  / filter"
HELP_IN_DEPTH: Final = "q quit  esc back  up/down scroll"
WRAPPED_MOST: Final = 4  # lines of one text


@dataclass
class TopView:
    """What was chosen by keys. `selected`: a tunnel's name; `offset`: lines of one in depth that are above the screen."""

    sort: str = "name"
    reverse: bool = False
    wanted: str = ""
    editing: bool = False
    selected: str | None = None
    in_depth: bool = False
    offset: int = 0
    ended: bool = False

    def press(self, key: str, names: Sequence[str], page: int) -> None:
        """One key; `names`: the tunnels that are shown, in their order."""
        if self.editing:
            self._edit(key)
        elif key == "q":
            self.ended = True
        elif self.in_depth:
            self._scroll(key, page)
        else:
            self._choose(key, names, page)

    def _edit(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.editing = False
            self.wanted = "" if key == "escape" else self.wanted
        elif key == "backspace":
            self.wanted = self.wanted[:-1]
        elif len(key) == 1:
            self.wanted += key

    def _scroll(self, key: str, page: int) -> None:
        if key in ("escape", "left", "backspace", "enter", "h"):
            self.in_depth, self.offset = False, 0
        else:
            self.offset = max(0, self.offset + _steps(page, self.offset).get(key, 0))

    def _choose(self, key: str, names: Sequence[str], page: int) -> None:
        at = names.index(self.selected) if self.selected in names else 0
        if key == "s":
            sorts = list(SORTS)
            self.sort = sorts[(sorts.index(self.sort) + 1) % len(sorts)]
        elif key == "r":
            self.reverse = not self.reverse
        elif key == "/":
            self.editing, self.wanted = True, ""
        elif key == "escape":
            self.wanted = ""
        elif key in ("enter", "right", "l") and names:
            self.selected, self.in_depth, self.offset = names[at], True, 0
        elif key in (steps := _steps(page, len(names))) and names:
            self.selected = names[min(max(0, at + steps[key]), len(names) - 1)]


def _steps(page: int, all_of_them: int) -> Mapping[str, int]:
    return {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -page, "page down": page, "home": -all_of_them, "end": all_of_them}


@dataclass(frozen=True, slots=True)
class Screen:
    """`trouble`: why there is no newer answer."""

    answer: GatewayStatus
    rates: Rates
    view: TopView
    width: int
    height: int
    interval_s: float
    ascii_only: bool = False
    trouble: str = ""

    @property
    def shown(self) -> list[TunnelStatus]:
        view = self.view
        return ordered(self.answer.tunnels, self.rates, view.sort, reverse=view.reverse, wanted=view.wanted)

    @property
    def page(self) -> int:
        """Tunnels that have room."""
        return max(1, self.height - len(_head(self)) - 2)

    @property
    def bars(self) -> str:
        return ASCII_BARS if self.ascii_only else BARS


def lines(screen: Screen) -> list[Text]:
    """At most `height` of them, none wider than `width`."""
    view = screen.view
    tunnel = next((each for each in screen.answer.tunnels if each.name == view.selected), None)
    made = _depth(screen, tunnel) if view.in_depth and tunnel is not None else _list(screen)
    for line in made:
        line.truncate(screen.width)
        line.no_wrap = True
    return made[: screen.height]


# ---- all tunnels -----------------------------------------------------------------------------------------------------------------


def _head(screen: Screen) -> list[Text]:
    answer, total = screen.answer, screen.rates.total(each.name for each in screen.answer.tunnels)
    made = [
        Text.assemble(("ipsec-dp top  ", "bold"), f"{answer.gateway}  {summary(answer.tunnels)}"),
        Text(f"{_rates(total)}  every {screen.interval_s:g} s"),
    ]
    if screen.trouble:
        made.append(Text(screen.trouble, style="red"))
    if answer.warnings:
        several = f" 1 of {len(answer.warnings)}" if len(answer.warnings) > 1 else ""
        made.append(Text(_cut(f"warning{several}: {answer.warnings[0]}", screen.width).rstrip(), style="yellow"))
    return made


def _rates(rate: Rate) -> str:
    return (
        f"in {short(rate.packets_in)} p/s {short(rate.bits_in)}b/s  out {short(rate.packets_out)} p/s {short(rate.bits_out)}b/s"
        f"  dropped {short(rate.drops)}/s"
    )


def _widths(screen: Screen) -> tuple[int, int]:
    """Of the name and of the sparkline: names as long as they are, then the rest."""
    room = max(NAME_LEAST + SPARK_LEAST, screen.width - FIXED)
    longest = max((cell_len(each.name) for each in screen.answer.tunnels), default=0)
    name = min(max(longest, NAME_LEAST), room - SPARK_LEAST)
    return name, min(room - name, SPARK_MOST)


def _list(screen: Screen) -> list[Text]:
    view, shown, head = screen.view, screen.shown, _head(screen)
    name, spark = _widths(screen)
    columns = " ".join(f"{title[:NUMBER]:>{NUMBER}}" for title in ("p/s", "b/s", "p/s", "b/s", "p/s"))
    groups = f"{'in':>{2 * NUMBER + 1}} {'out':>{2 * NUMBER + 1}} {'drop':>{NUMBER}}"
    above = Text(f" {'':{name}} {'':{STATE}} {groups}", style="dim")
    title = Text(f" {'tunnel':{name}} {'state':{STATE}} {columns} {'rekey':>{REKEY}} {'in + out':>{spark}}", style="bold")
    room = max(1, screen.height - len(head) - 3)
    names = [each.name for each in shown]
    at = names.index(view.selected) if view.selected in names else 0
    first = max(0, min(at - room // 2, len(shown) - room))
    rows = [_row(screen, each, name, spark, chosen=number == at) for number, each in enumerate(shown[first : first + room], first)]
    if not shown:
        rows = [Text("no tunnel" + (f" has {view.wanted!r} in its name, state or peer" if view.wanted else ""))]
    return [*head, above, title, *rows, _foot(view, len(shown), len(screen.answer.tunnels))]


def _row(screen: Screen, tunnel: TunnelStatus, name: int, spark: int, *, chosen: bool) -> Text:
    rate = screen.rates.of(tunnel.name)
    figures = (rate.packets_in, rate.bits_in, rate.packets_out, rate.bits_out, rate.drops)
    bars = sparkline([each.bits for each in screen.rates.history(tunnel.name)], spark, screen.bars)
    row = Text.assemble(
        ">" if chosen else " ",
        f"{_cut(tunnel.name, name)} ",
        (f"{_cut(tunnel.state, STATE)} ", STATE_STYLES.get(tunnel.state, "")),
        " ".join(f"{short(figure):>{NUMBER}}" for figure in figures[:-1]),
        (f" {short(rate.drops):>{NUMBER}}", "red" if rate.drops else ""),
        f" {duration(next_rekey(tunnel)):>{REKEY}} ",
        (bars, "cyan"),
    )
    if chosen:
        row.stylize("reverse", 0, name + 1)
    return row


def _cut(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def _foot(view: TopView, shown: int, there: int) -> Text:
    if view.editing:
        return Text.assemble(("filter: ", "bold"), f"{view.wanted}_")
    order = f"by {view.sort}{' reversed' if view.reverse else ''}"
    held = f"  {view.wanted!r}: {shown} of {there}" if view.wanted else ""
    return Text(f"{order}{held}  {HELP}", style="dim")


# ---- one tunnel ------------------------------------------------------------------------------------------------------------------


def _depth(screen: Screen, tunnel: TunnelStatus) -> list[Text]:
    head = Text.assemble(
        ("ipsec-dp top  ", "bold"),
        f"{screen.answer.gateway}  ",
        (tunnel.name, "bold"),
        "  ",
        (tunnel.state, STATE_STYLES.get(tunnel.state, "")),
    )
    body = [
        *_facts(screen, tunnel),
        *(line for child in tunnel.children for line in _child(screen, child)),
        *_dropped(screen, tunnel),
    ]
    room = max(1, screen.height - 2 - bool(screen.trouble))
    screen.view.offset = first = min(screen.view.offset, max(0, len(body) - room))
    below = f"  lines {first + 1}-{min(first + room, len(body))} of {len(body)}" if len(body) > room else ""
    trouble = [Text(screen.trouble, style="red")] if screen.trouble else []
    return [head, *trouble, *body[first : first + room], Text(f"{HELP_IN_DEPTH}{below}", style="dim")]


def _facts(screen: Screen, tunnel: TunnelStatus) -> list[Text]:
    rate, history = screen.rates.of(tunnel.name), screen.rates.history(tunnel.name)
    mtu = "-" if tunnel.mtu is None else f"{tunnel.mtu}" + ("" if tunnel.path_mtu is None else f" of {tunnel.path_mtu}")
    facts = [f"peer {tunnel.remote or '-'}  outside {outside(tunnel)}  MTU {mtu}"]
    if tunnel.state_text not in ("", tunnel.state):
        facts.append(tunnel.state_text)
    if (ike := tunnel.ike) is not None:
        facts.append(f"IKEv{ike.version} {ike.role}, {ike.proposal}, {ike.remote_id}")
        facts.append(f"     age {duration(ike.age_s)}, rekey in {duration(ike.rekey_in_s)}, post-quantum {ike.post_quantum.ike}")
    if (monitor := tunnel.monitor) is not None:
        answers = "no answer yet" if monitor.rtt_ms is None else f"{monitor.rtt_ms:g} ms"
        facts.append(f"monitor {monitor.state}, {monitor.target}: {answers}, {monitor.lost} of {monitor.sent} lost")
    counted = f"{tunnel.attempts} attempts, {tunnel.failures} failures, {tunnel.flaps} flaps"
    facts.append(f"since the start: {counted}, {tunnel.retransmissions} retransmissions")
    made = [line for fact in facts for line in _wrapped(screen, fact)]
    if tunnel.last_error:
        made[1:1] = _wrapped(screen, f"last error: {tunnel.last_error}", "red")
    made.append(Text(_rates(rate)))
    room = max(SPARK_LEAST, screen.width - 5)
    for name, values in (("in", [each.bits_in for each in history]), ("out", [each.bits_out for each in history])):
        made.append(Text.assemble(f"{name:4}", (sparkline(values, room, screen.bars).strip(), "cyan")))
    return made


def _child(screen: Screen, child: ChildSaStatus) -> list[Text]:
    suite = "-" if child.suite is None else f"{child.suite}-esn" if child.esn else child.suite
    keys = f"{suite}  age {duration(child.age_s)}  rekey in {duration(child.rekey_in_s)}  post-quantum {child.post_quantum.child}"
    window = "" if child.window is None else f"  window {child.window} up to {child.sequence_in}"
    received = f"{child.packets_in} packets  {octets(child.octets_in)}  {_used(child.first_in_s, child.last_in_s)}{window}"
    sent = f"{child.packets_out} packets  {octets(child.octets_out)}  {_used(child.first_out_s, child.last_out_s)}"
    made = [
        Text(f"CHILD_SA {child.spi_in} / {child.spi_out}", style="bold"),
        *_wrapped(screen, f"  {keys}"),
        *_wrapped(screen, f"  {', '.join(child.local_ts)} <-> {', '.join(child.remote_ts)}"),
        *_wrapped(screen, f"  in   {received}"),
        *_wrapped(screen, f"  out  {sent}"),
    ]
    if child.drops:
        made += _wrapped(screen, f"  dropped: {_by_reason(child.drops)}", "red")
    if child.last_error:
        made += _wrapped(screen, f"  {child.last_error}", "red")
    return made


def _used(first_s: float | None, last_s: float | None) -> str:
    if last_s is None:
        return "not used yet"
    return f"last {duration(last_s)} ago" + ("" if first_s is None else f", first {duration(first_s)} ago")


def _by_reason(drops: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(drops.items(), key=lambda each: (-each[1], each[0])))


def _dropped(screen: Screen, tunnel: TunnelStatus) -> Iterable[Text]:
    """By all its SAs since the start, with what the reasons mean."""
    drops = {reason: count for reason, count in tunnel.totals.drops.items() if count}
    if not drops:
        return
    yield Text("dropped since the start", style="bold")
    for reason, count in sorted(drops.items(), key=lambda each: (-each[1], each[0])):
        yield from _wrapped(screen, f"  {count}  {reason}: {screen.answer.drop_sentences.get(reason, '')}")


def _wrapped(screen: Screen, text: str, style: str = "") -> list[Text]:
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    found = wrap(text, max(LEAST_WIDTH, screen.width), subsequent_indent=indent, max_lines=WRAPPED_MOST, placeholder=" …")
    return [Text(line, style=style) for line in found] or [Text("")]
