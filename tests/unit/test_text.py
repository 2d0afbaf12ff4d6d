"""Text from outside is one line of printable characters, whatever was in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.util.text import LONGEST, named, shown

PACKAGE = Path(__file__).resolve().parents[2] / "ipsec_dp"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gw.example", "gw.example"),
        ("Zoë Ağa 東京", "Zoë Ağa 東京"),
        ("up\n2026-01-01 ERROR all is lost", "up\\n2026-01-01 ERROR all is lost"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("\u200b\ufeff\x85\u2028", "\\u200b\\ufeff\\x85\\u2028"),
        ("\udc80", "\\udc80"),
        ("nai\u0308ve", "nai\u0308ve"),
        ("a" + "\u0301" * 4, "a" + "\u0301" * 3 + "\\u0301"),
        ("\u0301a", "\\u0301a"),
        ("a\u115f\ufe0fb", "a\\u115f\\ufe0fb"),
        ("", ""),
    ],
)
def test_what_is_no_letter_is_escaped(text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("items", "expected"), [([], ""), ([1], "1"), ([1, 2], "1, 2"), ([1, 2, 3], "1, 2 and 1 more"), (range(9), "0, 1 and 7 more")]
)
def test_of_many_the_first_are_named_and_the_rest_is_counted(items, expected):
    assert named(items, 2) == expected


def test_only_what_is_named_is_made_a_text():
    """A peer can send thousands."""
    made: list[int] = []

    def text(item: int) -> str:
        made.append(item)
        return f"#{item}"

    assert named(range(1000), 2, "/", text=text) == "#0/#1 and 998 more"
    assert made == [0, 1]


def test_how_many_more_there_are_is_said_in_one_place():
    found = [path.name for path in PACKAGE.rglob("*.py") if re.search(r"\band \{[^\n]*\} more\b", path.read_text())]
    assert sorted(found) == ["fragments.py", "life.py", "route_checks.py", "text.py"], (
        "those three name nothing before it, or a line each"
    )


def test_what_is_long_is_cut():
    assert shown("x" * 65536) == "x" * (LONGEST - 1) + "…"
    assert shown("x" * 5, 4) == "xxx…"
    assert shown("\x1b" * 65536, 20) == "\\x1b" * 4 + "…", "what is escaped is longer, and counts as it is shown"


@given(st.text(st.characters(codec=None), max_size=2000))
def test_whatever_comes(text):
    assert shown(text).isprintable()


def test_every_event_of_ike_goes_through_it():
    """What a peer says of itself is part of many of them."""
    made = [
        (path.name, ast.unparse(argument))
        for path in (PACKAGE / "ike").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Event"
        for argument in node.args
        if "text" in ast.unparse(argument)
    ]
    assert made
    assert {argument for _, argument in made} == {"shown(text)"}


def test_what_a_long_text_costs_grows_no_faster_than_it_is_shown():
    """Each character of it is looked at once, and what follows the cut never."""

    class Counted(str):
        __slots__ = ("looked_at",)

        def __iter__(self):
            self.looked_at = 0
            for each in str(self):
                self.looked_at += 1
                yield each

    text = Counted("\u202e" * 100_000)
    assert shown(text, 600) == "\\u202e" * 99 + "…"
    assert text.looked_at == 101
