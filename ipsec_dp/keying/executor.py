"""Carries out what the IKE core wants, in order and at once: sends, changes the SAD, hands reports on; and tells it what is due."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.errors import DataPlaneError
from ipsec_dp.host import HostError
from ipsec_dp.ike import actions as act
from ipsec_dp.keying.child_installer import outer_endpoint
from ipsec_dp.keying.unmade import Unmade
from ipsec_dp.util.slices import Slice
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.ike.actions import Action, Event
    from ipsec_dp.ike.environment import Trace
    from ipsec_dp.ike.interface import IkeCore
    from ipsec_dp.keying.child_installer import IkeChildren
    from ipsec_dp.network.host import OuterLinks
    from ipsec_dp.util.clock import Clock, Timer

log = logging.getLogger(__name__)


class Executor:
    """Of one core. `changed`, `probed`: as `IkeDriver`. `report` hears of each event, in its place among the actions, `unmade` of a
    tunnel that lacks a CHILD_SA which this host could not install, and why."""

    def __init__(
        self,
        core: IkeCore,
        children: IkeChildren,
        links: OuterLinks,
        clock: Clock,
        trace: Trace,
        *,
        changed: Callable[[str], None],
        probed: Callable[[act.ProbeResult], None],
        report: Callable[[Event], None],
        unmade: Callable[[str, str], None],
    ) -> None:
        self._core, self._children, self._links, self._clock, self._trace = core, children, links, clock, trace
        self._changed, self._probed, self._report, self._unmade = changed, probed, report, unmade
        self._timer: Timer | None = None
        self._timer_at = 0.0

    def carry_out(self, actions: Iterable[Action]) -> None:
        """What a call of the core returned."""
        self._do_all(actions)
        self._schedule()

    def finish(self) -> None:
        """What was begun with many tunnels at once is over on return."""
        while self._core.unfinished():
            self.due()

    async def close(self) -> None:
        """Every IKE SA is deleted at the peer too, as far as one message can; others have their turn meanwhile."""
        self.carry_out(self._core.close(self._clock.now()))
        while self._core.unfinished():
            self.due()
            await asyncio.sleep(0)
        self.stop()

    def stop(self) -> None:
        """Nothing comes due from now on."""
        if self._timer is not None:
            self._timer.cancel()

    # ---- actions

    def _do_all(self, actions: Iterable[Action]) -> None:
        ending: list[tuple[str, int, str]] = []
        try:
            self._do_each(actions, ending)
        finally:
            for tunnel, child, why in ending:  # last: the peer knows no such SA before the answer that is among these actions
                self._do_all(self._core.delete_child(tunnel, child, self._clock.now()))
                self._unmade(tunnel, why)

    def _do_each(self, actions: Iterable[Action], ending: list[tuple[str, int, str]]) -> None:
        """`ending`: CHILD_SAs that cannot be carried, with their tunnels and why."""
        unmade = Unmade()
        for action in actions:
            if unmade.passes_over(action):
                continue
            try:
                self._do(action)
            except (DataPlaneError, HostError) as error:
                log.error(
                    "%s: %s", type(action).__name__, error, extra=told("action_failed", tunnel=getattr(action, "tunnel", None))
                )
                child, tunnel = getattr(action, "child", None), getattr(action, "tunnel", None)
                if child is not None and tunnel is not None:
                    unmade.add(child)
                    ending.append((tunnel, child, str(error)))

    def _do(self, action: Action) -> None:
        match action:
            case act.Send():
                self._send(action)
            case act.SendKeepalive():
                self._links.send_keepalive(action.path.local.address, outer_endpoint(action.path.remote))
            case act.ProbeResult():
                self._probed(action)
            case act.Report():
                self._report(action.event)
            case _:
                self._do_in_sad(action)

    def _send(self, action: act.Send) -> None:
        self._trace.left(action.datagram, action.path)
        local, remote, natt = action.path.local.address, outer_endpoint(action.path.remote), action.path.natt
        refused = self._links.send_ike(local, remote, action.datagram, natt=natt, whole=action.whole)
        if refused is not None:
            self._do_all(self._core.unsent(action.datagram, refused, self._clock.now()))

    def _do_in_sad(self, action: Action) -> None:
        match action:
            case act.ExpectInbound():
                self._children.expect(action)
            case act.InstallInbound():
                self._children.install_inbound(action)
            case act.InstallOutbound():
                self._children.install_outbound(action)
            case act.SwitchOutbound():
                self._children.switch(action)
                self._changed(action.tunnel)
            case act.RemoveOutbound():
                self._children.remove_outbound(action.child)
            case act.RemoveChild():
                self._children.remove(action.child)
                self._changed(action.tunnel)
            case act.ReleaseSpi():
                self._children.release_spi(action.spi)
            case act.MovePath():
                self._children.move(action)

    # ---- timers

    def _schedule(self) -> None:
        """Asks for the next timer of the core. One that is due already stays: it would never have its turn if each datagram put it
        off to the next one."""
        due = self._core.next_timeout()
        if self._timer is not None:
            if due == self._timer_at or self._timer_at <= self._clock.now():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer, self._timer_at = self._clock.call_at(due, self.due), due

    def due(self) -> None:
        """What is due by now, as far as a slice goes."""
        self._timer = None
        now, time = self._clock.now(), Slice()
        self._do_all(self._core.timer(now))
        while not time.over and (due := self._core.next_timeout()) is not None and due <= now:
            self._do_all(self._core.timer(now))
        self._schedule()
