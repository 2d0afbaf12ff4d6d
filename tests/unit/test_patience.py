"""What a person sees while a command takes long."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from ipsec_dp.cli.patience import patience


class Screen(io.StringIO):
    """`drawn` is set when something is written."""

    def __init__(self):
        super().__init__()
        self.drawn = threading.Event()

    def write(self, text):
        written = super().write(text)
        if "stopping" in self.getvalue():
            self.drawn.set()
        return written


def console(file, *, terminal):
    return Console(file=file, force_terminal=terminal, width=80, color_system=None)


def test_a_terminal_shows_what_is_waited_for():
    screen = Screen()
    with patience("stopping", console(screen, terminal=True), after_s=0.0):
        assert screen.drawn.wait(10)
    assert "0:00:0" in screen.getvalue()


def test_the_words_may_change():
    screen = Screen()
    with patience("one", console(screen, terminal=True), after_s=0.0) as tell:
        tell("stopping \x1b[31mred")
        assert screen.drawn.wait(10)
    assert "\x1b[31m" not in screen.getvalue()


def test_what_is_soon_done_shows_nothing():
    screen = Screen()
    with patience("stopping", console(screen, terminal=True), after_s=60.0):
        pass
    assert "stopping" not in screen.getvalue()


def test_where_no_terminal_is_nothing_is_written():
    screen = Screen()
    with patience("stopping", console(screen, terminal=False), after_s=0.0) as tell:
        tell("stopping")
    assert screen.getvalue() == ""
