"""`status` in a terminal: fifty tunnels in 80 columns, every name and peer whole, what is said of many said once."""

from __future__ import annotations

import io
from itertools import takewhile

import msgspec
import pytest
from rich.console import Console

from ipsec_dp.cli import render
from ipsec_dp.cli.fitting import errors, folded
from ipsec_dp.gateway.status import GatewayStatus

PROPOSAL = "aes256gcm16-prfsha384-ecp384"
PEERS = [f"2001:db8:1234:5678::{number:x}" if number % 10 == 7 else f"198.51.100.{number}" for number in range(50)]
NAMES = [f"branch-office-{number:02}" for number in range(50)]


def tunnels():
    for number, (name, peer) in enumerate(zip(NAMES, PEERS, strict=True)):
        up = number % 3 != 0
        child = {"spi_in": "0xc0000001", "spi_out": "0xd0000001", "suite": "aes256gcm16", "local_ts": ["10.1.0.0/24"]}
        yield {
            "name": name,
            "state": "up" if up else "failed",
            "state_text": "up",
            "remote": peer,
            "nat": "none",
            "mtu": 1438,
            "path_mtu": 1500,
            "last_error": None if up else f"{peer} did not answer in 8 messages over 81 s",
            "ike": {"role": "initiator", "proposal": PROPOSAL, "rekey_in_s": 20000} if up else None,
            "children": [{**child, "remote_ts": [f"10.{number}.0.0/24", "10.200.0.0/16"], "packets_in": 12}] if up else [],
        }


def shown(answer, width=80, **how):
    file = io.StringIO()
    render.print_status(msgspec.convert(answer, GatewayStatus), Console(file=file, width=width, **({"force_terminal": True} | how)))
    return file.getvalue()


def plain(answer, width=80):
    return shown(answer, width, color_system=None)


def rows(text, title):
    """The cells of a table's rows."""
    lines = iter(text[text.index(title) :].splitlines())
    next(line for line in lines if line.startswith("━"))
    return [[cell.strip() for cell in line.split("│")] for line in takewhile(lambda line: "│" in line, lines)]


def test_fifty_tunnels_fit_80_columns_with_names_and_peers_whole():
    text = plain({"tunnels": list(tunnels())})
    assert max(map(len, text.splitlines())) <= 80
    assert [(row[0], row[2]) for row in rows(text, "Tunnels")] == list(zip(NAMES, PEERS, strict=True))
    assert "not shown: outside, IKE, post-quantum (143 columns show all, or --json)" in text


def test_children_are_shown_by_name_and_selectors_first():
    text = plain({"tunnels": list(tunnels())})
    table = rows(text, "CHILD_SAs")
    assert [row[0] for row in table if row[0]] == [name for number, name in enumerate(NAMES) if number % 3]
    words = " ".join(row[1] for row in table).split()
    assert "10.49.0.0/24," in words
    assert "12 (0 B)" in text
    assert "not shown: SPI in / out, suite, post-quantum (128 columns show all, or --json)" in text


def test_a_wide_terminal_shows_all():
    text = plain({"tunnels": list(tunnels())}, 200)
    assert "not shown" not in text
    assert f"initiator, {PROPOSAL}" in text
    assert "0xc0000001 / 0xd0000001" in text


def test_what_is_no_terminal_gets_every_column():
    text = shown({"tunnels": list(tunnels())}, 80, force_terminal=False)
    assert "not shown" not in text
    assert f"initiator, {PROPOSAL}" in text


@pytest.mark.parametrize("width", [80, 60])
def test_a_name_and_a_peer_that_do_not_fit_beside_each_other_stand_below_each_other(width):
    name, peer = "n" * 46, "2001:db8:1234:5678:9abc:def0:1234:5678"
    text = plain({"tunnels": [{"name": name, "state": "negotiating", "remote": peer}]}, width)
    assert max(map(len, text.splitlines())) <= width
    first, second = rows(text, "Tunnels")[:2]
    assert (first[:2], second[0]) == ([name, "negotiating"], peer)


# ---- lines said once -------------------------------------------------------------------------------------------------------------


def test_warnings_that_are_repeated_are_one_line_with_a_count():
    by_hand = [f'tunnel "{name}": keys are set by hand' for name in NAMES[:5]]
    assert folded([*by_hand, "a route", "a route", 'tunnel "x": another', "more"]) == [
        "5 tunnels (branch-office-00, branch-office-01, branch-office-02 and 2 more): keys are set by hand",
        "a route (2 times)",
        'tunnel "x": another',
        "more",
    ]
    text = plain({"warnings": by_hand})
    assert text.count("keys are set by hand") == 1


def test_tunnels_whose_errors_differ_in_the_peer_alone_share_a_line():
    text = " ".join(plain({"tunnels": list(tunnels())}).split())
    assert text.count("did not answer") == 1
    assert (
        "17 tunnels (branch-office-00, branch-office-03, branch-office-06 and 14 more): PEER did not answer in 8 messages" in text
    )


def test_an_address_within_another_is_not_taken_for_the_peer():
    found = [
        ("a", "10.0.0.1", "10.0.0.1 says 10.0.0.12 no."),
        ("b", "10.0.0.2", "10.0.0.2 says 10.0.0.12 no."),
        ("c", None, "else"),
    ]
    assert errors(found) == ["2 tunnels (a, b): PEER says 10.0.0.12 no.", "c: else"]
    assert errors(found[:1]) == ["a: 10.0.0.1 says 10.0.0.12 no."]
