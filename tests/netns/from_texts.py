"""gwA and gwB by what their files say."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ipsec_dp.rig.process import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ipsec_dp.rig.netns import TwoSites


def gateways_of(sites: TwoSites, directory: Path, texts: Iterable[str], keys: Iterable[str]) -> list[GatewayProcess]:
    """Both, not started. `keys`: files that they share, each with a secret of its own."""
    for key in keys:
        (directory / key).touch(mode=0o600)
        (directory / key).write_text(secrets.token_hex(32))
    made = []
    for name, namespace, text in zip(("gwA", "gwB"), (sites.gw_a, sites.gw_b), texts, strict=True):
        (directory / f"{name}.toml").write_text(text)
        made.append(GatewayProcess(namespace, directory / f"{name}.toml"))
    return made


def negotiate(gateways: Iterable[GatewayProcess]) -> None:
    """Starts them together, until each has every tunnel up."""
    for gateway in gateways:
        gateway.start()
    for gateway in gateways:
        gateway.wait_up()
    for gateway in gateways:
        gateway.wait_negotiated()
