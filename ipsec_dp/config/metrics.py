"""[metrics]: where Prometheus reads what runs."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from ipsec_dp.config import model, tables
from ipsec_dp.config.read import read_table
from ipsec_dp.errors import BadValueError

if TYPE_CHECKING:
    from ipsec_dp.config.findings import Findings

_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


def parse_listen(text: str) -> model.MetricsListen:
    """ "127.0.0.1:9551" or "[::1]:9551". Raises BadValueError."""
    right = 'write address:port, e.g. "127.0.0.1:9551" or "[::1]:9551"'
    match = _LISTEN.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        address = ipaddress.ip_address(match[1] or match[2])
    except ValueError:
        raise BadValueError(f"{text!r} is no address with a port", right) from None
    if not 1 <= int(match[3]) <= 65535:
        raise BadValueError(f"{match[3]} is no TCP port", "write a number from 1 to 65535")
    if address.is_multicast:
        raise BadValueError(f"{address} is no address of one host", right)
    return model.MetricsListen(address=address, port=int(match[3]))


def resolve_metrics(document: dict[str, Any], findings: Findings) -> model.MetricsListen | None:
    """None: nothing listens, or what is written cannot be read."""
    if "metrics" not in document:
        return None
    place = findings.at("metrics")
    table = read_table(tables.Metrics, document["metrics"], place)
    listen = None if table is None else place.optional("listen", parse_listen, table.listen)
    if listen is not None and not listen.address.is_loopback:
        place.warn(
            "listen",
            f"whoever reaches {listen} reads the names of all tunnels and what they carry, unencrypted",
            f'write "127.0.0.1:{listen.port}", or let the host\'s filter admit none but the Prometheus server',
        )
    return listen
