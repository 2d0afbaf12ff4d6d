"""`ipsec-dp top`: what it counts, what it shows in 80 columns, what keys do, and the terminal afterwards."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from ipsec_dp.cli import main
from ipsec_dp.cli.terminal import keys_of
from ipsec_dp.cli.top_rates import BARS, SORTS, Rate, Rates, next_rekey, ordered, short, sparkline
from ipsec_dp.cli.top_view import Screen, TopView, lines
from ipsec_dp.gateway.control import ControlServer, Verb
from ipsec_dp.gateway.messages import StatusRequest
from ipsec_dp.gateway.status import ChildSaStatus, GatewayStatus, TunnelStatus, TunnelTotals
from ipsec_dp.keying.status import IkeSaStatus
from ipsec_dp.services.monitor_health import MonitorStatus
from tests.doubles.loop_thread import running

LONG = "a-tunnel-with-a-rather-long-name-from-berlin-to-frankfurt"
CHILD = ChildSaStatus(
    spi_in="0xc0000001", spi_out="0xc0000002", suite="aes256gcm16", esn=True, local_ts=("10.1.0.0/16",), remote_ts=("10.2.0.0/16",),
    age_s=61.0, rekey_in_s=600.0, packets_in=12, octets_in=3400, sequence_in=4711, last_in_s=2.0, first_in_s=60.0, window=1024,
    drops={"replay": 3}, last_error="the last packet received that it dropped: replay (sequence number was already received)",
)  # fmt: skip


def tunnel(name: str, state: str = "up", octets: int = 0, drops: int = 0, **fields: Any) -> TunnelStatus:
    totals = TunnelTotals(packets_in=octets // 100, octets_in=octets, packets_out=octets // 200, octets_out=octets // 2)
    if drops:
        totals = TunnelTotals(octets_in=octets, drops={"replay": drops})
    return TunnelStatus(name=name, state=state, remote="192.0.2.2", totals=totals, **fields)


def answer(*tunnels: TunnelStatus, **fields: Any) -> GatewayStatus:
    sentences = {"replay": "sequence number was already received"}
    return GatewayStatus(gateway="site-a", tunnels=tunnels, drop_sentences=sentences, **fields)


def shown(of: GatewayStatus, view: TopView | None = None, width: int = 80, height: int = 24, rates: Rates | None = None, **fields):
    """The lines as text; none is wider than the terminal, and they are not more than it has."""
    made = [line.plain for line in lines(Screen(of, rates or Rates(), view or TopView(), width, height, 2.0, **fields))]
    assert len(made) <= height
    assert max(map(cell_len, made)) <= width
    return made


# ---- what it counts --------------------------------------------------------------------------------------------------------------


def test_rates_are_those_between_two_answers():
    rates = Rates()
    rates.take(answer(tunnel("t", octets=1000)), 10.0)
    assert rates.of("t") == Rate(), "nothing is known of the time before"
    rates.take(answer(tunnel("t", octets=3000)), 12.0)
    assert rates.of("t") == Rate(10.0, 8000.0, 5.0, 4000.0, 0.0)
    assert rates.total(["t", "gone"]) == rates.of("t")
    assert len(rates.history("t")) == 1


def test_counters_that_go_back_are_of_another_gateway():
    rates = Rates()
    for at, octets in enumerate((5000, 9000, 100, 200)):
        rates.take(answer(tunnel("t", octets=octets)), float(at))
    assert [rate.bits_in for rate in rates.history("t")] == [32000.0, 800.0]
    rates.take(answer(), 9.0)
    assert rates.history("t") == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.04, "<0.1"), (0.4, "0.4"), (3, "3"), (12.4, "12"), (999.4, "999"), (999.6, "1.0k"), (9940, "9.9k"),
     (123e6, "123M"), (2e15, "2000T")],
)  # fmt: skip
def test_a_rate_has_five_characters_at_the_most(value, text):
    assert short(value) == text
    assert len(text) <= 5


def test_sparkline():
    assert sparkline([0, 1, 50, 100], 6) == f"  {BARS[0]}{BARS[1]}{BARS[4]}{BARS[8]}"
    assert sparkline([1, 2, 4], 2, " .#") == ".#"
    assert sparkline([], 3) == sparkline([0, 0], 3) == "   "


def test_the_next_rekey_is_the_first_of_all_sas():
    assert next_rekey(tunnel("t", ike=IkeSaStatus(rekey_in_s=900.0), children=(CHILD,))) == 600.0
    assert next_rekey(tunnel("t", ike=IkeSaStatus(rekey_in_s=90.0), children=(CHILD,))) == 90.0
    assert next_rekey(tunnel("t")) is None


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("name", ["a", "b", "c"]),
        ("state", ["b", "a", "c"]),
        ("in", ["c", "a", "b"]),
        ("out", ["c", "a", "b"]),
        ("drops", ["a", "b", "c"]),
        ("rekey", ["c", "a", "b"]),
    ],
)
def test_order(sort, names):
    rates = Rates()
    for at in (0, 1):
        children = (CHILD,)
        found = (tunnel("a", octets=1000 * at, drops=at), tunnel("b", "failed"), tunnel("c", octets=9000 * at, children=children))
        rates.take(answer(*found), float(at))
    assert [each.name for each in ordered(found, rates, sort, reverse=False, wanted="")] == names
    assert sort in SORTS


@pytest.mark.parametrize(
    ("wanted", "names"), [("", ["a", "bb"]), ("B", ["bb"]), ("fail", ["bb"]), ("192.0.2.2", ["a", "bb"]), ("x", [])]
)
def test_filter(wanted, names):
    found = (tunnel("bb", "failed"), tunnel("a"))
    assert [each.name for each in ordered(found, Rates(), "name", reverse=False, wanted=wanted)] == names


# ---- what it shows ---------------------------------------------------------------------------------------------------------------


def test_all_tunnels_in_80_columns():
    rates = Rates()
    for at in range(9):
        many = answer(
            tunnel(LONG, octets=100_000 * at * at), *(tunnel(f"to-{n}", "failed") for n in range(40)), warnings=("w" * 99, "x")
        )
        rates.take(many, float(at))
    made = shown(many, rates=rates)
    assert made[0] == "ipsec-dp top  site-a  41 tunnels: 40 failed, 1 up"
    assert made[1].startswith("in 15k p/s 12Mb/s  out 7.5k p/s 6.0Mb/s  dropped 0/s")
    assert made[2].startswith("warning 1 of 2: www")
    assert made[2].endswith("w…")
    assert re.fullmatch(r">a-tunnel-with-a-ra… up +15k +12M +7\.5k +6\.0M +0 +- ▁▂▃▄▅▆▇█", made[5]), made[5]
    assert re.fullmatch(r" to-0 +failed +0 +0 +0 +0 +0 +- +", made[6])
    assert len(made) == 24
    assert made[-1].startswith("by name  q quit")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (40, 5), (20, 3), (1, 1)])
def test_it_fits_any_terminal(width, height):
    of = answer(tunnel(LONG, "failed", last_error="no " * 200, children=(CHILD,)), tunnel("ü日本"), warnings=("日本" * 60,))
    shown(of, width=width, height=height)
    shown(of, TopView(selected=LONG, in_depth=True), width, height, trouble="the gateway did not answer " * 9)


def test_without_bars_where_the_terminal_has_none():
    rates = Rates()
    for at in range(4):
        rates.take(of := answer(tunnel("t", octets=1000 * at * at)), float(at))
    assert all(line.isascii() for line in shown(of, rates=rates, ascii_only=True))


def test_one_tunnel_in_depth():
    ike = IkeSaStatus(
        role="initiator", proposal="aes256gcm16-prfsha384-ecp384", remote_id="b.example", age_s=5.0, rekey_in_s=9000.0
    )
    one = tunnel(
        "to-b", "partial", drops=7, ike=ike, children=(CHILD,), state_text="lacks 10.9.0.0/16", last_error="TS_UNACCEPTABLE",
        mtu=1422, path_mtu=1500, monitor=MonitorStatus(state="up", target="10.2.0.9", rtt_ms=1.25, sent=9, lost=2),
    )  # fmt: skip
    text = "\n".join(shown(answer(one), TopView(selected="to-b", in_depth=True)))
    for part in (
        "to-b  partial",
        "last error: TS_UNACCEPTABLE",
        "MTU 1422 of 1500",
        "lacks 10.9.0.0/16",
        "IKEv2 initiator, aes256gcm16-prfsha384-ecp384, b.example",
        "monitor up, 10.2.0.9: 1.25 ms, 2 of 9 lost",
        "CHILD_SA 0xc0000001 / 0xc0000002",
        "10.1.0.0/16 <-> 10.2.0.0/16",
        "12 packets  3.4 kB  last 2s ago, first 1m 00s ago  window 1024 up to",
        "not used yet",
        "dropped: replay 3",
        "the last packet received that it dropped: replay",
        "7  replay: sequence number was already received",
    ):
        assert part in text, part


def test_keys_of_a_terminal():
    assert keys_of("q\x1b[A\x1bOBx\x1b[5~\x1b\r\x7f\x1a") == [
        "q",
        "up",
        "down",
        "x",
        "page up",
        "escape",
        "enter",
        "backspace",
        "suspend",
    ]
    assert keys_of("\x1b[200~\x1b[99;1Q\x01\x1b[") == [], "what is no key of ours is nothing"


def test_what_keys_do():
    view, names = TopView(), ["a", "b", "c"]

    def press(*keys: str) -> TopView:
        for key in keys:
            view.press(key, names, 2)
        return view

    assert press("down").selected == "b"
    assert press("down", "down", "down").selected == "c"
    assert press("home").selected == "a"
    assert press("page down").selected == "c"
    assert press("enter").in_depth
    assert press("down", "down").offset == 2
    assert not press("escape").in_depth
    assert press("s").sort == "state"
    assert press("r").reverse
    assert press("/", "q", "b", "backspace", "enter").wanted == "q"
    assert not view.ended, "a letter of the filter"
    assert press("escape").wanted == ""
    assert press("q").ended


# ---- as a process in a terminal --------------------------------------------------------------------------------------------------


@contextmanager
def gateway():
    """The socket of one that has a tunnel."""

    async def status(_: StatusRequest) -> GatewayStatus:
        return answer(tunnel("to-b"))

    with tempfile.TemporaryDirectory() as directory:
        path, loop = Path(directory) / "a.sock", asyncio.new_event_loop()
        server = ControlServer(path, [Verb(StatusRequest, status)])
        loop.run_until_complete(server.start())
        with running(loop, server.close):
            yield path


def read_until(terminal: int, text: bytes, got: bytes = b"") -> bytes:
    ends = time.monotonic() + 60
    while text not in got and time.monotonic() < ends:
        if select.select([terminal], [], [], 1)[0]:
            got += os.read(terminal, 65536)
    assert text in got, got
    return got


ENTERS, LEAVES = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.mark.parametrize(
    ("how", "status"), [(b"q", 0), (b"\x03", 0), (signal.SIGTERM, 143), ("gone", 3)], ids=["q", "C-c", "TERM", "gone"]
)
def test_however_it_ends_the_terminal_is_as_before(how, status):
    terminal, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(side)

    with gateway() as path:
        command = ["setsid", "--ctty", sys.executable, "-m", "ipsec_dp", "top", "--interval", "0.5", "--control", str(path)]
        environment = os.environ | {"TERM": "xterm", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=environment)
        try:
            got = read_until(terminal, b"to-b")
            assert ENTERS in got
            assert termios.tcgetattr(side) != before, "keys come one by one"
            if isinstance(how, bytes):
                os.write(terminal, how)
            elif how == "gone":
                path.unlink()
            else:
                process.send_signal(how)
            got = read_until(terminal, LEAVES, got)
            assert process.wait(30) == status
        finally:
            process.kill()
            process.wait()
    assert termios.tcgetattr(side) == before
    assert got.rfind(LEAVES) > got.rfind(ENTERS)
    assert b"\x1b[?25h" in got, "the cursor is there again"
    os.close(terminal)
    os.close(side)


def test_it_wants_a_terminal(capsys):
    assert main(["top"]) == 2
    assert "top draws on a terminal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "asked", "seconds"),
    [
        (["--watch"], {}, 1.0),
        (["--watch", "5"], {}, 5.0),
        (["--watch", "0.5s", "to-b"], {"name": "to-b"}, 0.5),
        (["--watch", "to-b"], {"name": "to-b"}, 1.0),
        (["to-b", "--watch"], {"name": "to-b"}, 1.0),
        (["to-b", "--watch=7"], {"name": "to-b"}, 7.0),
    ],
)
def test_watch_takes_seconds_and_still_a_name(monkeypatch, arguments, asked, seconds):
    from ipsec_dp.cli import render
    from ipsec_dp.gateway import control

    found: list[Any] = []

    def answered(_path: Path, message: dict[str, str]) -> dict[str, str]:
        found.append(message)
        return {}

    def watched(fetch: Any, _sleep: object, interval_s: float) -> None:
        fetch()
        found.append(interval_s)

    monkeypatch.setattr(control, "request", answered)
    monkeypatch.setattr(render, "watch", watched)
    assert main(["status", *arguments, "--control", "/tmp/x.sock"]) == 0
    assert found == [{"verb": "status"} | asked, seconds]


@pytest.mark.parametrize("seconds", ["0", "0.1", "99999"])
def test_watch_has_its_limits(seconds):
    assert main(["status", "--watch", seconds]) == 2


def test_of_a_gateway_of_another_version_it_shows_what_it_can():
    assert shown(GatewayStatus())[0] == "ipsec-dp top  ?  0 tunnels"
