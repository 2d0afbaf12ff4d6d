"""What others do to the TUN interfaces and outer sockets of a running gateway: noticed, named, undone.

The kernel reports what happens to an interface at once; a slow sweep finds what no report told, and looks at the sockets. All of
this closes nothing: an interface that was renamed, moved or deleted is exempt from the guard no longer, since that goes by name
and number, and behind its routes stand unreachable ones. So in a fight it may be slowed, and is.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Final

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.host.tun import Fault, Trouble
from ipsec_dp.network.restorer import MERGE_S
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.rest import Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.config import Config
    from ipsec_dp.network.host import Closable, Host, OuterLinks
    from ipsec_dp.util.clock import Clock

SOURCE: Final = "devices"  # of conditions, those of interfaces
SOCKETS: Final = "outer sockets"  # the others
REST = 5.0  # pause, in times of what the last repair took
SWEEP_S = 10.0
RETRY_S = 0.5  # while a socket cannot be opened
SWEEP_REST = 1000.0  # and no less than that many times what a sweep takes, as far as `rest` goes
SETTLED_S = 3.0  # without another fault, after which one is over
# What a device that is down or gone answers; `troubles` sees that better. Anything else means that it cannot be read any more.
EXPLAINED = (errno.EIO, errno.EBADFD, errno.ENODEV, errno.ENETDOWN)


class DeviceWatch:
    """A service. `links` gives the outer sockets, once there are; `restored` hears of each interface that was made anew."""

    name = "devices"

    def __init__(self, host: Host, links: Callable[[], OuterLinks | None], restored: Callable[[str], None], clock: Clock) -> None:
        self._host, self._links, self._restored, self._clock = host, links, restored, clock
        self._rounds, self._sweeps = (Rounds(what, host.conditions, clock) for what in ("devices", "all devices"))
        self._reports: Closable | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._suspected = asyncio.Event()
        self._suspects: set[str] = set()
        self._failed: dict[str, str] = {}  # interfaces that cannot be read, and why
        self._lasting: set[str] = set()  # those that could not be restored
        self._times: dict[str, int] = {}  # how often each was restored
        self._unrouted = False  # routes into a restored one are still to be made
        self._rest, self._sweep_rest = Rest(clock, REST, MERGE_S), Rest(clock, SWEEP_REST)
        self._good = True  # the sockets, at the last sweep

    async def apply(self, config: Config) -> None:
        """Watches from the first call on; which interfaces there are is asked when something happens."""
        del config
        if self._reports is None:
            self._reports = self._host.reports.interface_changes(self._changed)
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._rounds.run(self._watch)), loop.create_task(self._sweeps.run(self._sweep))]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._reports is not None:
            self._reports.close()
        self._tasks, self._reports = [], None

    def failed(self, interface: str, error: int) -> None:
        """The data plane could not read or write an interface (errno)."""
        if error not in EXPLAINED:
            self._failed[interface] = os.strerror(error)
        self._suspect((interface,))

    def _changed(self, numbers: set[int] | None) -> None:
        """Interfaces with these numbers changed. Where one of ours waits for its name, any other may have had it."""
        indices = self._host.interfaces.indices
        self._suspect([name for name, index in indices.items() if numbers is None or index in numbers])
        self._suspect(self._lasting)

    def _suspect(self, names: Iterable[str]) -> None:
        self._suspects.update(names)
        if self._suspects or self._unrouted:
            self._suspected.set()

    async def _watch(self) -> None:
        await self._suspected.wait()
        self._suspected.clear()
        with self._rounds.told():  # the sweep looks again
            async with self._host.changing:
                with self._rest.work():
                    names, self._suspects = self._suspects, set()
                    await self._look(names)
        await self._clock.sleep(self._rest.seconds)

    async def _look(self, names: set[str]) -> None:
        """Restores what is not as it was made."""
        found = await self._host.interfaces.troubles(names)
        for name in names & self._failed.keys():
            found.setdefault(name, Trouble(Fault.FAILED, self._failed.pop(name)))
        mended = [name for name, trouble in found.items() if await self._mend(name, trouble)]
        for name in mended:
            self._restored(name)
        self._unrouted |= bool(mended)
        if self._unrouted:
            await self._host.routing.apply()
            self._unrouted = False
        for name in self._lasting - found.keys():
            self._end(name)

    async def _mend(self, name: str, trouble: Trouble) -> bool:
        try:
            await self._host.interfaces.restore(name, trouble)
        except IpsecDpError as error:
            self._lasting.add(name)
            text = f"interface {name} {trouble}; it cannot be restored, and what it carried is dropped: {error}"
            self._host.conditions.begin(SOURCE, name, text)
            return False
        self._lasting.discard(name)
        self._times[name] = times = self._times.get(name, 0) + 1
        often = 1 << (times.bit_length() - 1)  # each doubling is news
        again = f", {often} times until now" if often > 1 else ""
        self._host.conditions.begin(SOURCE, name, f"interface {name} {trouble}; it is restored{again}")
        self._clock.call_at(self._clock.now() + SETTLED_S, self._settle, name, times)
        return True

    def _settle(self, name: str, times: int) -> None:
        if times == self._times.get(name) and name not in self._lasting:
            self._host.conditions.end(SOURCE, name)

    def _end(self, name: str) -> None:
        self._lasting.discard(name)
        self._host.conditions.end(SOURCE, name)

    async def _sweep(self) -> None:
        await self._clock.pause(max(SWEEP_S if self._good else RETRY_S, self._sweep_rest.seconds))
        with self._sweeps.told(SOCKETS):
            self._good = self._look_at_sockets()
        with self._sweeps.told():
            async with self._host.changing:
                with self._sweep_rest.work():
                    self._suspect(await self._host.interfaces.troubles())

    def _look_at_sockets(self) -> bool:
        """Whether all of them do their work now."""
        links = self._links()
        if links is None:
            return True
        good = True
        found = {}
        for what, wrong in links.broken().items():
            found[what] = f"the outer socket {what} {wrong}; it is opened anew"
            try:
                links.reopen(what)
            except IpsecDpError as error:
                good = False
                found[what] = f"the outer socket {what} {wrong}, and cannot be opened anew: {error}"
        self._host.conditions.become(SOCKETS, found)
        return good
