"""What the control plane knows of an SA and of a CHILD_SA; no key is in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.dataplane import SaFlag

if TYPE_CHECKING:
    from ipsec_dp.dataplane import Direction, Limits, OuterPath, SaHandle
    from ipsec_dp.ipsec.selectors import SelectorPair
    from ipsec_dp.ipsec.suites import Suite


@dataclass(slots=True)
class SaRecord:
    """One SA as it was installed; no key is in it."""

    handle: SaHandle
    direction: Direction
    spi: int
    tunnel: int
    suite: Suite
    selectors: tuple[SelectorPair, ...]
    limits: Limits
    installed: float  # seconds of the monotonic clock
    path: OuterPath | None = None  # outbound: where its packets go
    reported: SaFlag = field(default=SaFlag(0))  # conditions that `events` or `rescan` gave already
    replay_window: int | None = None  # inbound: packets
    fragments_also: bool = False
    resource: int = 0  # as `SaParams`
    worker: int = 0  # the one that has it


class SelectorTexts(NamedTuple):
    """Of our side and of the peer's, each text once."""

    local: tuple[str, ...]
    remote: tuple[str, ...]


@dataclass(slots=True)
class ChildSa:
    """A CHILD_SA: negotiated selectors, the SA it sends by, and the newest it receives by."""

    number: int
    tunnel: int
    selectors: tuple[SelectorPair, ...]
    inbound: SaHandle | None = None
    outbound: SaHandle | None = None
    _texts: SelectorTexts | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def selector_texts(self) -> SelectorTexts:
        """The selectors as `status` prints them; made once, since they stay and are asked for again and again."""
        if self._texts is None:
            sides = (
                tuple(dict.fromkeys(pair.local_text for pair in self.selectors)),
                tuple(dict.fromkeys(pair.remote_text for pair in self.selectors)),
            )
            self._texts = SelectorTexts(*sides)
        return self._texts
