"""What the tests in real namespaces share: a picture of the kernel's network state to compare, and small things to send."""

from __future__ import annotations

import json
import os
import subprocess

# Per kind of state, the program that lists it. Each row of its answer becomes one line of the picture.
LISTINGS: dict[str, tuple[str, ...]] = {
    "links": ("ip", "-j", "link", "show"),
    "addresses": ("ip", "-j", "address", "show"),
    "routes": ("ip", "-j", "route", "show", "table", "all"),
    "routes6": ("ip", "-6", "-j", "route", "show", "table", "all"),
    "rules": ("ip", "-j", "rule", "show"),
    "rules6": ("ip", "-6", "-j", "rule", "show"),
}
# What changes by itself: router advertisements count down, counters and queues move.
VOLATILE = ("expires", "valid_life_time", "preferred_life_time", "operstate", "flags", "pref")

ENVIRONMENT = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}


def _listing(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True, env=ENVIRONMENT).stdout


def picture() -> dict[str, list[str]]:
    """Links, addresses, routes of all tables, rules and nftables of the namespace that the calling thread is in."""
    state: dict[str, list[str]] = {}
    for name, argv in LISTINGS.items():
        rows = json.loads(_listing(*argv) or "[]")
        state[name] = sorted(json.dumps(_steady(row), sort_keys=True) for row in rows)
    state["nft"] = sorted(_listing("nft", "list", "tables").splitlines())
    return state


def _steady(row: object) -> object:
    if isinstance(row, dict):
        return {key: _steady(value) for key, value in row.items() if key not in VOLATILE}
    return [_steady(value) for value in row] if isinstance(row, list) else row


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """What came (+) and went (-), one line each; empty when nothing did."""
    came = [f"+ {name}: {row}" for name in after for row in after[name] if row not in before[name]]
    return came + [f"- {name}: {row}" for name in before for row in before[name] if row not in after[name]]
