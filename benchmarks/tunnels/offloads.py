"""Offloads of interfaces, and back as they were: every one off, and what forwards UDP in super-packets on."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import Namespace, TwoSites

# The features of `ethtool -k` that ethtool can switch by these names; those marked [fixed] are left alone.
FEATURES = (
    "rx-checksumming tx-checksumming scatter-gather tcp-segmentation-offload generic-segmentation-offload generic-receive-offload "
    "tx-udp-segmentation rx-udp-gro-forwarding rx-gro-list"
).split()


GRO_FORWARDING = "rx-udp-gro-forwarding"  # off unless asked for; without it UDP that is forwarded is not aggregated


class OffloadError(Exception):
    """An interface keeps an offload that was switched off."""


def switched_on(listing: str) -> list[str]:
    """Which of FEATURES are on and not fixed, by what `ethtool -k` printed."""
    rows = (line.strip().partition(": ") for line in listing.splitlines())
    on = {name for name, _, state in rows if state == "on"}
    return [name for name in FEATURES if name in on]


def _interfaces(namespace: Namespace) -> list[str]:
    links = json.loads(namespace.run("ip", "-j", "link", "show", "up").stdout)
    return [link["ifname"] for link in links if link["ifname"] != "lo"]


def _set(namespace: Namespace, interface: str, features: list[str], state: str) -> None:
    if features:
        settings = [word for name in features for word in (name, state)]
        namespace.run("ethtool", "-K", interface, *settings, check=False)


@contextlib.contextmanager
def all_off(sites: TwoSites) -> Iterator[None]:
    """Within it no interface of the four namespaces, tunnels included, has an offload. OffloadError when one keeps it."""
    switched: list[tuple[Namespace, str, list[str]]] = []
    try:
        for namespace in (sites.host_a, sites.gw_a, sites.gw_b, sites.host_b):
            for interface in _interfaces(namespace):
                features = switched_on(namespace.run("ethtool", "-k", interface).stdout)
                switched.append((namespace, interface, features))
                _set(namespace, interface, features, "off")
                if left := switched_on(namespace.run("ethtool", "-k", interface).stdout):
                    raise OffloadError(f"{namespace.label}: {interface} keeps {', '.join(left)}")
        yield
    finally:
        for namespace, interface, features in switched:
            _set(namespace, interface, features, "on")


@contextlib.contextmanager
def gro_forwarding(sites: TwoSites) -> Iterator[None]:
    """Within it the gateways' interfaces, tunnels included, aggregate UDP that they forward, where the driver can."""
    switched: list[tuple[Namespace, str]] = []
    try:
        for gateway in (sites.gw_a, sites.gw_b):
            for interface in _interfaces(gateway):
                if GRO_FORWARDING not in switched_on(gateway.run("ethtool", "-k", interface).stdout):
                    switched.append((gateway, interface))
                    _set(gateway, interface, [GRO_FORWARDING], "on")
        yield
    finally:
        for gateway, interface in switched:
            _set(gateway, interface, [GRO_FORWARDING], "off")
