"""Whoever does not take what a gateway says, or takes it as fast as it comes, holds the event loop up for less than 10 ms.

Followers of ten thousand events, a capture, the log, the service manager, the key log on a disk that is full.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import socket
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.dataplane.tap import RING_OCTETS, Tap
from ipsec_dp.gateway.control import ControlServer, Verb
from ipsec_dp.gateway.daemon import SWITCH_S
from ipsec_dp.gateway.event_stream import FOLLOWERS_MAX, EventStream
from ipsec_dp.gateway.following import FollowedAnswer
from ipsec_dp.gateway.live_capture import CapturedAnswer, CaptureLines, wall_offset
from ipsec_dp.gateway.log_writer import LogWriter, StreamSink
from ipsec_dp.gateway.messages import CaptureAnswer, CaptureRequest, FollowAnswer, FollowRequest
from ipsec_dp.gateway.stream_event import SCHEMA
from ipsec_dp.host.descriptors import make_room
from ipsec_dp.host.service_manager import ServiceManager
from ipsec_dp.keying.key_log import KeyLog
from ipsec_dp.rig.plane import pair
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.conditions import Conditions
from tests.unit.loop_gaps import Gaps
from tests.unit.sites import to_b
from tests.unit.test_key_log import esp

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.measure

EVENTS = 10_000
AT_ONCE = 10  # in one turn of the loop
BAR_S = 0.010
FOLLOW, CAPTURE = b'{"verb": "follow"}\n', b'{"verb": "capture", "inner": true, "outer": true}\n'


async def often(say: Callable[[int], object]) -> None:
    for number in range(EVENTS):
        say(number)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)


def directory(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


async def client(stack: ExitStack, path: Path, says: bytes) -> socket.socket:
    made = stack.enter_context(socket.socket(socket.AF_UNIX))
    made.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, str(path))
    await loop.sock_sendall(made, says)
    assert (await loop.sock_recv(made, 1 << 12)).startswith(b'{"ok": true')
    return made


async def reads_all(of: socket.socket, octets: int) -> int:
    loop, room, taken = asyncio.get_running_loop(), bytearray(1 << 17), 0
    while taken < octets:
        taken += await loop.sock_recv_into(of, room)
    return taken


def followers(stack: ExitStack, *, read: bool) -> Coroutine[Any, Any, None]:
    """As many as there may be."""
    stream, path = EventStream("a", lambda _: None, SystemClock()), directory(stack) / "a.sock"

    async def follow(asked: FollowRequest) -> FollowedAnswer:
        return FollowedAnswer(FollowAnswer(schema=SCHEMA, gateway="a"), await stream.follow([], asked.name))

    async def run() -> None:
        server = ControlServer(path, [Verb(FollowRequest, follow, reads=True)])
        await server.start()
        clients = [await client(stack, path, FOLLOW) for _ in range(FOLLOWERS_MAX)]
        reading = [asyncio.ensure_future(reads_all(each, 1 << 19)) for each in clients if read]
        await often(lambda number: stream.drops("replay", number, "x" * 200))
        stream.close()
        await asyncio.wait_for(asyncio.gather(*reading), 30)
        await server.close()

    return run()


def capture(stack: ExitStack, *, read: bool) -> Coroutine[Any, Any, None]:
    """Of a ring that is full."""
    clock, path, site = SystemClock(), directory(stack) / "a.sock", stack.enter_context(closing(pair("aes128gcm16")))
    tap = Tap(site.a.plane, inner=True, outer=True, wall_offset=wall_offset(clock))
    for _ in range(RING_OCTETS // 1400 // 16):
        site.transfer([to_b(bytes(1400))] * 8)

    async def begin(_: CaptureRequest) -> CapturedAnswer:
        return CapturedAnswer(CaptureAnswer(gateway="a"), CaptureLines(tap, {0: "ipsec0"}, clock, gateway="a", snap=0))

    async def run() -> None:
        server = ControlServer(path, [Verb(CaptureRequest, begin)])
        await server.start()
        made = await client(stack, path, CAPTURE)
        if read:
            assert await asyncio.wait_for(reads_all(made, RING_OCTETS // 2), 30)
        else:
            await often(lambda _: None)
        await server.close()

    return run()


def log(stack: ExitStack) -> Coroutine[Any, Any, None]:
    reading, writing = os.pipe()
    writer = LogWriter(StreamSink(writing, logging.Formatter("%(message)s")))
    stack.callback(writer.close)
    stack.callback(os.close, reading)

    async def run() -> None:
        record = logging.LogRecord("ipsec_dp", logging.INFO, __file__, 1, "%s", ("x" * 500,), None)
        await often(lambda number: writer.put(logging.makeLogRecord(record.__dict__ | {"msg": f"{number} %s"})))
        assert writer.trouble == "its reader does not read"

    return run()


def manager(stack: ExitStack) -> Coroutine[Any, Any, None]:
    made = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    made.bind(str(directory(stack) / "notify"))
    told = stack.enter_context(closing(ServiceManager.of({"NOTIFY_SOCKET": made.getsockname()})))
    return often(lambda number: told.status(f"{number} of {EVENTS} tunnels up"))


def keys(stack: ExitStack) -> Coroutine[Any, Any, None]:
    clock = SystemClock()
    conditions = Conditions(clock)
    made = stack.enter_context(closing(KeyLog(conditions, clock)))
    made.apply(directory(stack))

    async def run() -> None:
        await often(lambda number: made.esp(esp(spi=1 + number)))
        assert [text for text in conditions.texts if "No space left" in text]

    return run()


def full(_descriptor: int, _data: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


HUNG: dict[str, Callable[[ExitStack], Coroutine[Any, Any, None]]] = {
    "events are not read": lambda stack: followers(stack, read=False),
    "events are read by many": lambda stack: followers(stack, read=True),
    "a capture is not read": lambda stack: capture(stack, read=False),
    "a capture is read": lambda stack: capture(stack, read=True),
    "the log is not read": log,
    "the service manager does not read": manager,
    "keys for a full disk": keys,
}


@pytest.mark.parametrize("how", HUNG)
def test_the_event_loop_is_held_for_less_than_10_ms(how, monkeypatch):
    make_room()
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)  # as a gateway does
    with ExitStack() as stack:
        stack.callback(sys.setswitchinterval, switch_s)
        gc.collect()
        gc.freeze()  # as a gateway does that is up: what all the other tests made is not looked through
        stack.callback(gc.unfreeze)
        work = HUNG[how](stack)
        with monkeypatch.context() as patch:
            if HUNG[how] is keys:
                patch.setattr(os, "write", full)
            gaps = asyncio.run(Gaps().beside(work))
    print(f"{how}: {gaps.longest * 1e3:.1f} ms, then {[round(each * 1e3, 1) for each in gaps.seconds[-6:-1]]}")
    assert gaps.longest < BAR_S
