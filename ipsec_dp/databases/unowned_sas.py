"""SAs that came from another process, and the CHILD_SAs by them, until IKE goes on with them here."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.databases.sad_records import SaRecord
    from ipsec_dp.dataplane import SaHandle, SaParams


class Unowned:
    """SAs that are there and wait for whoever installs them; each once. `children`: the numbers of CHILD_SAs that were taken."""

    def __init__(self, records: Iterable[SaRecord]) -> None:
        self.children: set[int] = set()
        self._there: dict[tuple[int, int, str, int], list[SaRecord]] = {}
        for each in records:
            self._there.setdefault((each.direction, each.spi, str(each.suite), each.tunnel), []).append(each)

    @property
    def rest(self) -> list[SaHandle]:
        """Those that nobody has taken."""
        return [each.handle for there in self._there.values() for each in there]

    def take(self, params: SaParams) -> SaHandle:
        """Raises DataPlaneError (ENOKEY) when there is none, or several that cannot be told from each other."""
        there = self._there.get((params.direction, params.spi, str(params.suite), params.tunnel), [])
        same = [each for each in there if each.path == params.path] if len(there) > 1 else there
        if len(same) != 1:
            raise DataPlaneError(errno.ENOKEY, f"no {params.direction.name.lower()} SA {spi_text(params.spi)} came along")
        there.remove(found := same[0])
        return found.handle
