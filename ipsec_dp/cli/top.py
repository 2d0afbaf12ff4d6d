"""`ipsec-dp top`: the tunnels of a gateway while one looks, with what they carry and drop."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console, Group
from rich.live import Live

from ipsec_dp.cli.asking import ask, read
from ipsec_dp.cli.options import IntervalType, control_option, examples
from ipsec_dp.cli.terminal import KeyTerminal
from ipsec_dp.cli.top_rates import SORTS, Rates
from ipsec_dp.cli.top_view import Screen, TopView, lines
from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.messages import StatusRequest
from ipsec_dp.gateway.status import GatewayStatus

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_S: Final = 2.0


class Top:
    """Asks by `fetch` each `interval_s` seconds and draws on `console`, until a key ends it."""

    def __init__(self, fetch: Callable[[], GatewayStatus], view: TopView, console: Console, interval_s: float) -> None:
        self._fetch, self._view, self._console, self._interval_s = fetch, view, console, interval_s
        self._rates, self._trouble = Rates(), ""
        self._answer = GatewayStatus()
        self._at = 0.0
        self.refresh()

    def refresh(self) -> None:
        """Asks again. Raises NoDaemonError; what a gateway that is there refuses is shown."""
        self._at = time.monotonic()
        try:
            self._answer, self._trouble = self._fetch(), ""
            self._rates.take(self._answer, time.monotonic())
        except ControlError as error:
            self._trouble = str(error)

    @property
    def screen(self) -> Screen:
        size = self._console.size
        ascii_only = self._console.options.ascii_only
        return Screen(self._answer, self._rates, self._view, size.width, size.height, self._interval_s, ascii_only, self._trouble)

    @property
    def drawn(self) -> Group:
        return Group(*lines(self.screen))

    def turn(self, terminal: KeyTerminal) -> bool:
        """Waits for keys or the next answer. Whether Ctrl-Z was pressed."""
        for key in terminal.keys(self._at + self._interval_s - time.monotonic()):
            if key == "suspend":
                return True
            screen = self.screen
            self._view.press(key, [each.name for each in screen.shown], screen.page)
        if time.monotonic() >= self._at + self._interval_s:
            self.refresh()
        return False

    def run(self, terminal: KeyTerminal) -> None:
        """Until it is ended. On a terminal that cannot be drawn on, each answer stands below the one before."""
        while not self._view.ended:
            if self._console.is_dumb_terminal:
                self._console.print(self.drawn)
                suspend = self.turn(terminal)
            else:
                suspend = self._draw(terminal)
            if suspend:
                terminal.suspend()

    def _draw(self, terminal: KeyTerminal) -> bool:
        with Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
            while not self._view.ended:
                live.update(self.drawn, refresh=True)
                if self.turn(terminal):
                    return True
        return False


@click.command(
    epilog=examples(
        "ipsec-dp top",
        "ipsec-dp top to-b                 one tunnel in depth",
        "ipsec-dp top --sort drops --filter failed --interval 5",
    )
)
@click.argument("name", required=False)
@click.option("--sort", type=click.Choice(tuple(SORTS)), default="name", show_default=True, help="What comes first.")
@click.option("--filter", "wanted", default="", metavar="TEXT", help="Tunnels with this in their name, state or peer.")
@click.option(
    "--interval", type=IntervalType(), default=INTERVAL_S, show_default=True, metavar="SECONDS", help="Between two looks."
)
@control_option
def top(name: str | None, sort: str, wanted: str, interval: float, control: Path | None) -> int:
    """Watch tunnels: state, rates, drops, next rekey.

    Keys: q ends it; up and down choose a tunnel, enter shows it in depth, esc goes back; s sorts by the next column, r the other
    way round; / filters by name, state or peer. Rates are inner packets and bits a second by direction.
    NAME: this tunnel in depth at once.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        raise click.UsageError("top draws on a terminal; for files and programs there are status --follow and status --json")

    def fetch() -> GatewayStatus:
        return read(ask(control, StatusRequest()), GatewayStatus)

    view = TopView(sort=sort, wanted=wanted, selected=name, in_depth=name is not None)
    if name is not None:
        ask(control, StatusRequest(name=name))  # whether there is such a one
    try:
        with KeyTerminal() as terminal:
            Top(fetch, view, console, interval).run(terminal)
    except KeyboardInterrupt:
        pass
    sys.stdout.flush()
    return 0
