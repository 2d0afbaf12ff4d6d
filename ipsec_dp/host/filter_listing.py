"""The host's packet filter, listed: nftables as JSON, and the older iptables, where it is in use, in the same shape."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ipsec_dp.host import HostError, nft
from ipsec_dp.host.filters import Filter

LEGACY_SECONDS = 10.0
LEGACY = {4: ("ip", "iptables-legacy", "ip_tables_names"), 6: ("ip6", "ip6tables-legacy", "ip6_tables_names")}
LEGACY_TABLE = "filter (iptables-legacy)"
# An option of iptables, and what nft's JSON compares for it.
OPTIONS: dict[str, dict[str, Any]] = {
    "-i": {"meta": {"key": "iifname"}},
    "-o": {"meta": {"key": "oifname"}},
    "-p": {"meta": {"key": "l4proto"}},
    "--sport": {"payload": {"protocol": "th", "field": "sport"}},
    "--dport": {"payload": {"protocol": "th", "field": "dport"}},
}
VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "RETURN": "return"}


async def host_filter() -> Filter:
    """What the packet filter of this network namespace is now. HostError."""
    found = await nft.ruleset()
    for version in LEGACY:
        found += legacy_filter(version)
    return Filter(found)


def legacy_filter(version: int, proc: Path = Path("/proc")) -> list[dict[str, Any]]:
    """The filter table of iptables-legacy, as nft's JSON has it; empty where it is not in use."""
    family, name, table = LEGACY[version]
    try:
        if "filter" not in (proc / "thread-self/net" / table).read_text().split():
            return []
    except OSError:
        return []
    program = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if program is None:
        raise HostError(f"{name} is not installed, and tables of it are loaded: what they drop cannot be told")
    try:
        done = subprocess.run([program, "-S"], capture_output=True, text=True, timeout=LEGACY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{name} -S: {error}") from error
    return legacy_objects(family, done.stdout)


def legacy_objects(family: str, listing: str) -> list[dict[str, Any]]:
    """From what `iptables -S` prints."""
    found: list[dict[str, Any]] = []
    common = {"family": family, "table": LEGACY_TABLE}
    for line in listing.splitlines():
        words = shlex.split(line)
        if words[:1] == ["-P"] and len(words) >= 3:
            hook = words[1].lower()
            found.append({"chain": {**common, "name": words[1], "type": "filter", "hook": hook, "policy": words[2].lower()}})
        elif words[:1] == ["-A"]:
            found.append({"rule": {**common, "chain": words[1], "expr": _expressions(words[2:])}})
    return found


def _expressions(words: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    rest, operator = iter(words), "=="
    for word in rest:
        if word == "!":
            operator = "!="
            continue
        value = next(rest, "")
        if word in ("-j", "-g"):  # what follows is about the target
            kind = "goto" if word == "-g" else VERDICTS.get(value, "jump")
            return [*found, {kind: {"target": value} if kind in ("jump", "goto") else None}]
        if word in OPTIONS:
            found.append({"match": {"op": operator, "left": OPTIONS[word], "right": _value(value)}})
        elif (word, value) not in (("-m", "udp"), ("-m", "tcp"), ("-m", "comment")):
            found.append({"unknown": word})
        operator = "=="
    return found


def _value(text: str) -> Any:
    if text.endswith("+"):
        return text[:-1] + "*"
    low, colon, high = text.partition(":")
    if colon and low.isdecimal() and high.isdecimal():
        return {"range": [int(low), int(high)]}
    return int(text) if text.isdecimal() else text
