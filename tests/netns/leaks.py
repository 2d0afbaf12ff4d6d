"""Does what the tunnel protects cross the outer link in clear? By capture, with the control that the same capture can see it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from ipsec_dp.rig import capture
from tests.netns import harness
from tests.netns.traffic import EVERY_KIND, kinds_between_sites, stream, until_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipsec_dp.rig.netns import TwoSites

GUARD = "table inet ipsec_dp_gwA"

T = TypeVar("T")


@contextmanager
def watched(sites: TwoSites, tmp_path: Path, name: str = "wan") -> Iterator[Callable[..., set[str]]]:
    """Captures both sides of gwA; yields a function that ends it and gives what crossed in clear outside since a time.

    The positive control is in it: the inner side of the same moments shows every kind of packet, with the marker.
    """
    files = [tmp_path / f"{name}-{side}.pcapng" for side in ("inner", "outer")]
    with capture.Capture(sites.gw_a, "lan", files[0]) as inner, capture.Capture(sites.gw_a, "wan", files[1]) as outer:

        def seen(since: int = 0) -> set[str]:
            until_sent(sites.host_a, 100)  # fifty more of each kind
            assert outer.stop().lost == inner.stop().lost == 0
            assert kinds_between_sites(files[0], since) >= EVERY_KIND
            assert capture.scan(files[0]).marked > 0
            return kinds_between_sites(files[1], since)

        yield seen


def guarded(sites: TwoSites) -> bool:
    return GUARD in sites.gw_a.run("nft", "list", "tables").stdout


def leaks_without_us(sites: TwoSites, tmp_path: Path) -> bool:
    with watched(sites, tmp_path, "control") as crossed:
        kinds = crossed()
    print(f"in clear without a gateway: {sorted(kinds)}")
    return kinds == EVERY_KIND


@contextmanager
def nothing_in_clear(sites: TwoSites, directory: Path, begin: Callable[[], T]) -> Iterator[T]:
    """From when `begin` has returned until the block has ended, while all is sent that without us leaves so."""
    with stream(sites.host_a, harness.BOTH):
        assert leaks_without_us(sites, directory)
        begun = begin()
        with watched(sites, directory) as crossed:
            since = time.time_ns()
            yield begun
            assert crossed(since) == set()
