"""`ipsec-dp` with one fault in how it takes another process's place (`main(FAULT)`), or in how it hands itself over, or with less
patience: `python -m tests.netns.upgrade_faults FAULT -- up …`."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import time
from functools import partial, wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ipsec_dp.cli import main as program
from ipsec_dp.databases.sad import Sad
from ipsec_dp.databases.sad_shape import StandingSad
from ipsec_dp.dataplane import DataPlane, process
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.upgrade import entry, executable, giving, messages, stream, taking
from ipsec_dp.gateway.upgrade.messages import GoesOn, MessageKind
from ipsec_dp.host import HostError, drop
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.keying import ike_driver
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.network.interfaces import LinuxInterfaces
from ipsec_dp.network.outer_sockets import SocketLinks

if TYPE_CHECKING:
    from collections.abc import Callable

IMPATIENT = {giving: {"READY_S": 25.0, "GOES_ON_S": 3.0, "PIECE_S": 3.0}}  # a program starts in two seconds, or ten
WAITS_LITTLE = {taking: {"IKE_S": 1.0, "GONE_S": 1.0}}
SOUND = "has no fault"
LOCKS_ALL = "may lock all memory"
IPC_LOCK = 14  # <linux/capability.h>
HANGS = "it hangs as it was told to"


def die(*_arguments, **_named):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(*_arguments, **_named):
    print(HANGS, file=sys.stderr, flush=True)
    signal.pause()


def stand_still(*_arguments, **_named):
    """Until it is told to go on (SIGCONT)."""
    os.kill(os.getpid(), signal.SIGSTOP)


def refuse(*_arguments, **_named):
    raise HostError("it was told to refuse")


def unreadable(*_arguments, **_named):
    raise CarriedStateError("it was told to find it unreadable")


def no_keys(*_arguments, **_named):
    raise DataPlaneError(errno.EINVAL, "it was told to take none")


def before(where, name, fault):
    setattr(where, name, fault)


def after(where, name, fault):
    made = getattr(where, name)

    @wraps(made)
    def then(*arguments, **named):
        given = made(*arguments, **named)
        fault()
        return given

    setattr(where, name, then)


def spoil(kind):
    """Its messages of one kind are changed on their way."""
    head_for = stream.head_for

    def spoiled(each, body, descriptors=0):
        head = bytearray(head_for(each, body, descriptors))
        head[-1] ^= each == kind
        return bytes(head)

    before(stream, "head_for", spoiled)


def few_descriptors():
    if "--take-over" in sys.argv:
        resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))


def lock_all():
    """As where nothing limits how much memory may be locked: CAP_IPC_LOCK does the same in the kernel, and can be had where
    CAP_SYS_RESOURCE, which raises the limit, cannot."""
    before(drop, "NEEDED", (*drop.NEEDED, IPC_LOCK))
    no_limit = {"RLIMIT_MEMLOCK": resource.RLIMIT_MEMLOCK, "RLIM_INFINITY": resource.RLIM_INFINITY}
    before(process, "resource", SimpleNamespace(getrlimit=lambda _: (resource.RLIM_INFINITY,) * 2, **no_limit))


def shorten(limits):
    for module, of in limits.items():
        for limit, seconds in of.items():
            assert hasattr(module, limit)
            setattr(module, limit, seconds)


def send(fault, kind):
    sending = stream.HandOverChannel.send

    def sent(self, each, *arguments, **named):
        if each == kind:
            fault()
        sending(self, each, *arguments, **named)

    before(stream.HandOverChannel, "send", sent)


def cut(kind):
    """It dies in the middle of a message."""
    sending = stream.HandOverChannel.send

    def sent(self, each, body, *arguments, **named):
        if each == kind:
            self._send_all(stream.head_for(kind, body) + bytes(body[: len(body) // 2]), time.monotonic() + 1.0)
            die()
        sending(self, each, body, *arguments, **named)

    before(stream.HandOverChannel, "send", sent)


def hear(fault, message):
    """Before it hears it, when it is there to be heard."""
    hearing = messages.heard

    def heard(channel, seconds, expected):
        if expected is message:
            fault()
        return hearing(channel, seconds, expected)

    before(giving, "heard", heard)


# Where a successor that is not ready may end, or hang.
POINTS = {
    "before it protects itself": lambda fault: before(entry, "protect_process", fault),
    "when it is asked its version": lambda fault: before(executable, "understood", fault),
    "before it has the offer": lambda fault: before(taking.Successor, "receive", fault),
    "with the offer": lambda fault: after(taking.Successor, "receive", fault),
    "with its privileges": lambda fault: after(taking.Successor, "privileges", fault),
    "with its configuration": lambda fault: after(taking.Successor, "config", fault),
    "with the interfaces": lambda fault: after(LinuxInterfaces, "attach_taken", fault),
    "with the policy": lambda fault: after(DataPlane, "install_policy", fault),
    "with IKE": lambda fault: after(IkeDriver, "__init__", fault),
}
KILLED = {f"is killed {where}": partial(into, die) for where, into in POINTS.items()}
HUNG = {f"hangs {where}": partial(into, hang) for where, into in POINTS.items()}
POINTED = KILLED.keys() | HUNG.keys()
# The other process goes on.
BEFORE: dict[str, Callable[[], object]] = {
    **KILLED,
    **HUNG,
    "is older": lambda: before(executable, "understood", dict),
    "is newer": lambda: before(executable, "understood", lambda: {"model": 99, "form": 1}),
    "ends at once": lambda: before(stream.HandOverChannel, "receive", lambda *_, **__: sys.exit(3)),
    "finds its descriptor table full": few_descriptors,
    "refuses its configuration": lambda: before(taking.Successor, "config", refuse),
    "hangs before it is ready": lambda: send(hang, MessageKind.READY),
    "is killed with the sockets": lambda: after(SocketLinks, "open_taken", die),
    "is killed before it is ready": lambda: send(die, MessageKind.READY),
    "hangs with the sockets": lambda: after(SocketLinks, "open_taken", hang),
    "is killed with the SAs that are to wait": lambda: after(StandingSad, "take", die),
    "cannot make an SA": lambda: before(StandingSad, "take", lambda *_: ["no"]),
    "says what is spoiled": lambda: spoil(MessageKind.READY),
    "speaks out of turn": lambda: before(taking, "Ready", lambda _: messages.UpgradeRefused("no")),
}
# It is gone, and what is protected stays closed.
AFTER = {
    "is killed with the keys": lambda: before(taking.Successor, "_forward", die),
    "is killed with the state": lambda: before(taking.Successor, "go_on", die),
    "is killed with the IKE SAs": lambda: after(IkeDriver, "take", die),
    "is killed when it is to forward": lambda: before(DataPlane, "resume_receiving", die),
    "is killed before it says so": lambda: send(die, MessageKind.GOES_ON),
    "hangs with the keys": lambda: before(taking.Successor, "_forward", hang),
    "hangs with the state": lambda: before(taking.Successor, "go_on", hang),
    "is killed between packets and IKE": lambda: before(taking.Successor, "heard", die),
    "hangs between packets and IKE": lambda: before(taking.Successor, "heard", hang),
    "is killed in the middle of IKE": lambda: before(ike_driver, "import_ike", die),
    "hangs in the middle of IKE": lambda: before(ike_driver, "import_ike", hang),
}
# Of all these faults, those beside which others show nearly the same.
SLOW = {
    "hangs between packets and IKE",
    "hangs in the middle of IKE",
    "is killed with IKE exported",
    "is killed before it sends its SAs",
}
# The one before it has gone by then.
LATE = {
    "is killed once it has said so": lambda: before(taking.Successor, "_settle", die),
    "hangs once it has said so": lambda: before(taking.Successor, "_settle", hang),
}
# It goes on alone, and negotiates anew.
ALONE = {
    "cannot read IKE": lambda: before(ike_driver, "import_ike", unreadable),
    "gets no IKE": lambda: before(taking.Successor, "heard", lambda *_: "it did not come"),
    "gets no key": lambda: before(Sad, "import_all", no_keys),
}


# Of the process before it. Its successor ends with it.
NEITHER = {
    "is killed before it sends its SAs": lambda: send(die, MessageKind.SAS),
    "is killed in the middle of its SAs": lambda: cut(MessageKind.SAS),
    "sends SAs that are spoiled": lambda: spoil(MessageKind.SAS),
}
# Its successor goes on without IKE, and negotiates anew.
LEFT = {
    "is killed when the other forwards": lambda: before(IkeDriver, "export", die),
    "is killed with IKE exported": lambda: send(die, MessageKind.IKE),
    "is killed in the middle of IKE": lambda: cut(MessageKind.IKE),
}
# Its successor has everything.
UNHEARD = "is killed before it hears that the other goes on"
STANDS_STILL = "stands still when the other forwards"
GIVING = {
    **NEITHER,
    **LEFT,
    UNHEARD: lambda: hear(die, GoesOn),
    STANDS_STILL: lambda: before(IkeDriver, "export", stand_still),
    "impatient": lambda: shorten(IMPATIENT),
    LOCKS_ALL: lock_all,
}
TAKING = {
    **BEFORE,
    **AFTER,
    **LATE,
    **ALONE,
    SOUND: lambda: None,
    LOCKS_ALL: lock_all,
    "waits little": lambda: shorten(WAITS_LITTLE),
}


def of(fault: str) -> tuple[str, ...]:
    """How a gateway is started that has it when it hands itself over."""
    return (sys.executable, "-m", __name__, fault, "--")


def main(fault: str) -> int:
    TAKING[fault]()
    return program()


if __name__ == "__main__":
    GIVING[sys.argv[1]]()
    sys.argv[1:3] = []
    sys.exit(program())
