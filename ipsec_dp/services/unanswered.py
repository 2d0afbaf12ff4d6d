"""Traffic that goes one way alone: a tunnel that is up, and over which what wants an answer gets none.

A flow may go one way by its nature (a stream, syslog), so only packets count that every receiver answers: echo requests, DNS
queries, first segments of TCP connections, and data that TCP sends again since it was not acknowledged (`native/traffic.h`). They
are evidence as long as nothing at all comes the other way over the tunnel, by any of its SAs, whatever flow it is of. None, where
the tunnel's monitor has answers, or where nothing ever came and TCP connections go on all the same: then the answers take another
way (another tunnel), which is for the routes to say.

The data plane counts (`DataPlane.unanswered`), and names of all tunnels only those of which that is so. It is told; and where
nothing came since the tunnel is up, ESP goes another way if there is one (`keying.encapsulations`).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.dataplane import Direction
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.dataplane import Unanswered
    from ipsec_dp.keying.status import KeyingStatus
    from ipsec_dp.services.monitor_health import MonitorStatus
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

SOURCE: Final = "unanswered"  # of conditions
WAIT_S: Final = 10.0  # of silence
PATIENCE_S: Final = (
    14.0  # in which it must show whether IKE passes: the peer is asked after 10 s of silence, and told of 2.8 s later
)
LEAST_EVER: Final = 4  # questions, where nothing ever came: one TCP connection that is tried has asked so often by then
LEAST: Final = 6  # where something came before: one TCP connection that hangs has sent its data again so often after 12.6 s
NAMED: Final = 16  # tunnels with a warning of their own
NS_PER_S: Final = 1e9

HERE: Final = (
    "does this host forward (sysctl net.ipv4.ip_forward, net.ipv6.conf.all.forwarding), does its filter let them pass, has the host"
    " that is asked a route back through here, and does it answer? `ipsec-dp policy explain SRC DST --inbound` shows what decides"
)


class _Way(NamedTuple):
    tunnel: int
    direction: Direction


class _Tried(NamedTuple):
    """When another way was last tried, and how many questions there were before."""

    at: float = -inf
    asked: int = 0


class UnansweredTraffic:
    """Of one gateway. `look` is called each second. `names`: of the tunnels by number."""

    def __init__(
        self,
        scan: Callable[[], Iterable[Unanswered]],
        name: Callable[[int], str | None],
        keying: Callable[[str], KeyingStatus | None],
        monitor: Callable[[str], MonitorStatus | None],
        conditions: Conditions,
        clock: Clock,
        another_way: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`scan`: the ways that have no answer now; `name`: of the tunnel with this number, None: it is gone; `keying`: None: IKE
        knows nothing of it; `another_way`: tries one for a tunnel over which nothing ever came, if there is any."""
        self._another_way = another_way
        self._scan, self._name, self._keying, self._monitor = scan, name, keying, monitor
        self._conditions, self._clock = conditions, clock
        self._since: dict[_Way, float] = {}
        self._tried: dict[_Way, _Tried] = {}
        self._told: dict[_Way, tuple[str, str]] = {}  # name and text
        self._trouble: dict[str, str] = {}  # the same by name

    def look(self) -> None:
        now = self._clock.now()
        found = {_Way(each.tunnel, each.direction): each for each in self._scan()}
        self._since = {way: self._since.get(way, now) for way in found}
        self._tried = {way: tried for way, tried in self._tried.items() if way in found}
        told = {way: text for way, text in self._told.items() if way in found}
        for way, each in found.items():
            if way not in told and (said := self._judge(each, now - self._since[way], now)) is not None:
                told[way] = said
            self._go_round(way, each, now)
        if told != self._told:
            self._told, self._trouble = told, dict(told.values())
            self._conditions.become(SOURCE, self._warnings())

    def trouble(self, tunnel: str) -> str | None:
        """What is wrong with a tunnel, None: nothing that shows here."""
        return self._trouble.get(tunnel)

    def _warnings(self) -> dict[str, str]:
        texts = [(f"{name} {way.direction}", f'tunnel "{name}": {text}') for way, (name, text) in self._told.items()]
        found = dict(texts[:NAMED])
        if more := [name for name, _ in list(self._told.values())[NAMED:]]:
            found["more"] = f"over further tunnels packets that want an answer get none: {named(more, NAMED)}"
        return found

    def _judge(self, each: Unanswered, silence_s: float, now: float) -> tuple[str, str] | None:
        """The tunnel's name and what to say of it; None: nothing yet."""
        ever = each.last > 0
        if silence_s < WAIT_S or each.asked < (LEAST if ever else LEAST_EVER) or (each.goes_on and not ever):
            return None
        name = self._name(each.tunnel)
        if name is None or self._has_answers(name):
            return None
        keying = self._keying(name)
        if keying is not None and keying.silent:  # that is told already, and explains this
            return None
        passes = keying is not None and keying.heard_at >= now - silence_s
        if each.direction is Direction.OUTBOUND and keying is not None and not passes and silence_s < PATIENCE_S:
            return None
        asked = f"{each.asked} packets that want an answer" + (f" (of {each.packets})" if each.packets > each.asked else "")
        before = f"the last one {now - each.last / NS_PER_S:.0f} s ago" if ever else "nor ever before"
        if each.direction is Direction.INBOUND:
            return name, f"nothing goes back: {asked} came in within {silence_s:.0f} s, and none was sealed, {before}: {HERE}"
        text = f"nothing comes back: {asked} were sealed within {silence_s:.0f} s, and none came in, {before}"
        return name, f"{text}: {_there(keying, ever=ever, passes=passes)}"

    def _go_round(self, way: _Way, each: Unanswered, now: float) -> None:
        """Where nothing came since a tunnel is up, though IKE passes: another way, if there is one. Questions of before the last
        try say nothing of that one."""
        tried, name = self._tried.get(way, _Tried()), self._name(each.tunnel)
        silence_s = now - max(self._since[way], tried.at)
        if way.direction is Direction.INBOUND or silence_s < WAIT_S or each.asked - tried.asked < LEAST_EVER or each.goes_on:
            return
        keying = None if name is None or self._has_answers(name) else self._keying(name)
        if name is None or keying is None or keying.silent or keying.heard_at < now - silence_s:
            return
        if each.last / NS_PER_S < keying.came_up_at and self._another_way(name):
            self._tried[way] = _Tried(now, each.asked)

    def _has_answers(self, name: str) -> bool:
        monitor = self._monitor(name)
        return monitor is not None and monitor.state == "up" and monitor.rtt_ms is not None


def _there(keying: KeyingStatus | None, *, ever: bool, passes: bool) -> str:
    """What may be the cause at the peer or on the way to it, the likeliest first."""
    far = "the peer has no policy or route for the way back, or the host that is asked does not answer"
    if keying is None or keying.encapsulation is None:
        return far
    if keying.encapsulation == "udp":
        port = "; UDP as such passes, since IKE does on the same port" if passes else ""
        return f"{far}{port}"
    esp = "IP protocol 50 (ESP) is blocked on the way" + (", while IKE passes" if passes else "")
    remedy = 'let it pass, or try encapsulation = "udp" here'
    return f"{far}; or {esp}: {remedy}" if ever else f"{esp}: {remedy}; or {far}"
