"""What somebody who wants to harm whoever reads it would write, and what must have become of it."""

from __future__ import annotations

import unicodedata

from ipsec_dp.util.text import MARKS_MOST

TEXTS = (
    "up\n2026-01-01 00:00:00 ERROR all is lost",
    "\r\x1b[2K\x1b[1Aall is well",
    "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "a\0b\x08\x7f\x85\x0b\x0c",
    "user\u202egnp.exe \u2066x\u2069 \u200e\u200f\u061c",
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u115f\u3164\u2800\ufe0f\U000e0041",
    "Z" + "\u0301\u0489" * 200,
    "\u0301at the beginning",
    "\u2028\u2029\u00a0\u3000",
    "\udc80\ud800\udfff",
    b"\xff\xfe caf\xe9".decode(errors="surrogateescape"),
    "[bold red]marked up[/bold red] [/] [link=https://evil.example]here[/link]",
    "x" * 65536,
    "\u202e" * 65536,
)


def is_harmless(text: str, longest: int) -> bool:
    """One line, visible, of bounded length, and no pile of marks."""
    marks = most = 0
    for each in text:
        marks = marks + 1 if unicodedata.category(each) in ("Mn", "Me") else 0
        most = max(most, marks)
    return text.isprintable() and len(text) <= longest and most <= MARKS_MOST
