"""What a gateway does without root once it has begun (docs/running.md): `up` of root gives it up before it touches the host.

What a gateway does while it runs takes CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE. Files of root's are opened by a helper
that stays root (`gateway.root_helper`). Whoever is not root already keeps those of his capabilities that are needed.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipsec_dp import __version__
from ipsec_dp.config.difference import ReadError, read_again
from ipsec_dp.gateway.root_grants import grants_of, named_by
from ipsec_dp.gateway.root_requests import RootHelper
from ipsec_dp.host import HostError, tun
from ipsec_dp.host.drop import INHERITED, become, capabilities_for, raise_limits
from ipsec_dp.host.offload_trial import OffloadTrial
from ipsec_dp.keying.ikev2_pins import pins_of
from ipsec_dp.util import opening, os_errors
from ipsec_dp.util.importable import keep_importable
from ipsec_dp.util.service_user import ServiceUser, service_user
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ipsec_dp.config import Config
    from ipsec_dp.config.difference import Difference, ReadAnswer, ReadRequest
    from ipsec_dp.errors import Finding
    from ipsec_dp.gateway.control_place import ListeningPlace
    from ipsec_dp.util.conditions import Conditions

    Reread = Callable[[Config, Path], Awaitable[tuple[Difference | None, tuple[Finding, ...]]]]

log = logging.getLogger(__name__)

SOURCE: Final = "privileges"  # of conditions
LOOP_DESCRIPTORS: Final = 3  # epoll, and a pair of sockets by which threads wake it
TRIAL_S: Final = 0.05  # for the trial of the offloads, which has begun long before
UNHELPED: Final = "root cannot be given up, so nothing is started: the helper that stays root to read secrets does not answer"
UNHELPED_HELPS: Final = (
    "start it once more; if that does not help, run it as a user of its own that may read the secrets, under a service manager "
    "(docs/running.md)"
)


class Privileges:
    """Of one process. `helper` None: it was never root's."""

    def __init__(self, helper: RootHelper | None = None) -> None:
        self._helper = helper
        self._left: list[str] = []
        self._trial: OffloadTrial | None = None
        self._offload_faults: Mapping[str, str] = {}
        self._taken = False
        self.program = __version__  # of which version the helper is

    @classmethod
    def at_start(cls) -> Privileges:
        """Before anything is read. Raises HostError."""
        trial = _offload_trial()  # first: it has no channel to the helper, which ends when nobody has
        try:
            made = cls(RootHelper.start() if os.geteuid() == 0 else None)
        except OSError as error:
            if trial is not None:
                trial.close()
            raise HostError(f"the helper that stays root cannot be started: {os_errors.text_of(error)}") from error
        made._trial = trial
        try:
            _room_for_a_loop()
        except OSError as error:
            made.close()
            raise HostError(f"no event loop: {os_errors.text_of(error)}") from error
        return made

    @classmethod
    def inherited(cls, helper: RootHelper | None, program: str, offload_faults: Mapping[str, str]) -> Privileges:
        """Those of a process that goes on in the place of another. `program`: the version of the helper, where there is one.
        `offload_faults`: as the other found them."""
        made = cls(helper)
        made._offload_faults = offload_faults
        made._taken, made.program = True, program
        if helper is not None:
            opening.help_by(helper.open, helper.open_ahead)
        return made

    @property
    def helper(self) -> RootHelper | None:
        return self._helper

    def leave(self) -> None:
        """The helper is another process's."""
        if self._helper is not None:
            opening.help_by(None)
            self._helper.leave()
            self._helper = None

    def drop(self, config: Config, control: Path) -> None:
        """For good; before there are threads. What could not be dropped is a condition later (`tell`). Raises HostError where the
        helper does not answer: as root nothing goes on."""
        if self._helper is None or self._taken:
            self._left = become(None, capabilities_for(config.workers), INHERITED)
            return
        raise_limits()
        user = _with_groups(service_user(), config)
        with contextlib.suppress(OSError):  # the pins say so when one is needed
            _give(pins_of(config.name, os.environ), user)
        try:
            self._helper.begin(grants_of(config, control, user))
        except OSError as error:
            raise HostError(f"{UNHELPED}: {error.strerror}; {UNHELPED_HELPS}") from error
        keep_importable(partial(_reaches, user))
        self._left = become(user, capabilities_for(config.workers), INHERITED)
        opening.help_by(self._helper.open, self._helper.open_ahead)

    def offload_faults(self) -> Mapping[str, str]:
        """What the kernel was found to do wrongly at the start, by the offload's name. It takes root to find out, in most places;
        where it was not, nothing is known. Nobody waits long for it."""
        if self._trial is not None:
            found = self._trial.result(TRIAL_S)
            self._offload_faults = found.wrong
            if found.untried:
                log.debug("offloads were not tried: %s", found.untried, extra=told("offloads_untried"))
        return self._offload_faults

    def tell(self, conditions: Conditions) -> None:
        """What could not be given up."""
        conditions.become(SOURCE, {text: f"root's privileges are kept in part: {text}" for text in self._left})

    def reread(self, otherwise: Reread) -> Reread:
        """How a configuration is read again."""
        if self._helper is None:
            return otherwise
        if self.program != __version__:  # it knows other keys, and answers in the words of its own program
            return partial(read_again, by=self._other_program)
        return partial(read_again, by=self._helper.read)

    def learn(self, request: ReadRequest) -> bool:
        """The helper finds out which files a configuration names, as far as it understands that; False: it does not, or is none."""
        if self._helper is None:
            return False
        try:
            self._helper.learn(request)
        except OSError:
            return False
        return True

    def _other_program(self, request: ReadRequest) -> ReadAnswer:
        raise ReadError(
            f"{request.path} is not read again: the helper that stays root to read it is of version {self.program}, and this "
            f"gateway of version {__version__}; restart it to take another configuration over"
        )

    def in_force(self, otherwise: Callable[[Sequence[Config]], None] | None) -> Callable[[Sequence[Config]], None] | None:
        """Who is told which configurations may still be needed."""
        return otherwise if self._helper is None else partial(_keep, self._helper)

    def place(self, otherwise: Callable[[Path, str | None], ListeningPlace]) -> Callable[[Path, str | None], ListeningPlace]:
        """Who makes the control socket."""
        helper = self._helper
        return otherwise if helper is None else lambda _path, _group: helper

    def watch(self, loop: AbstractEventLoop, stack: contextlib.AsyncExitStack, conditions: Conditions) -> None:
        """The helper's end is a condition, and nothing stays of the trial's process. Until the stack is left."""
        if self._trial is not None:
            _watch_trial(self._trial, loop, stack)
        helper = self._helper
        if helper is None:
            return
        try:
            descriptor = os.pidfd_open(helper.process)
        except OSError:  # its end is noticed when it is asked
            return
        stack.callback(os.close, descriptor)
        stack.callback(loop.remove_reader, descriptor)

        def ended() -> None:
            loop.remove_reader(descriptor)
            helper.ended(conditions)

        loop.add_reader(descriptor, ended)

    def close(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None
        if self._helper is not None:
            opening.help_by(None)
            self._helper.close()
            self._helper = None


def _room_for_a_loop() -> None:
    """Python tells a traceback of a loop that it could make only halfway. OSError."""
    with contextlib.ExitStack() as held:
        for _ in range(LOOP_DESCRIPTORS):
            held.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _offload_trial() -> OffloadTrial | None:
    try:
        return OffloadTrial.start()
    except OSError:  # no process or no pipe to be had; whatever needs one next says so
        return None


def _watch_trial(trial: OffloadTrial, loop: AbstractEventLoop, stack: contextlib.AsyncExitStack) -> None:
    """The process has been told to end, and the kernel takes its time with what a namespace leaves."""
    watching = stack.enter_context(contextlib.ExitStack())
    watching.callback(loop.remove_reader, trial.descriptor)

    def ended() -> None:
        watching.close()  # the number of the descriptor is another's next
        trial.close()

    loop.add_reader(trial.descriptor, ended)


def _keep(helper: RootHelper, configs: Sequence[Config]) -> None:
    """Files that none of these names are not to be had any more. Raises HostError."""
    try:
        helper.keep(named_by(configs))
    except OSError as error:
        if error.errno != errno.EPIPE:  # that it has ended is a condition, and it opens nothing any more
            raise HostError(f"the helper that stays root refuses: {os_errors.text_of(error)}") from error


def _with_groups(user: ServiceUser, config: Config) -> ServiceUser:
    """With the groups by which it may use the TUN device, where that asks for one, and give its socket to `control_group`."""
    groups: set[int] = set()
    with contextlib.suppress(OSError):
        found = tun.DEVICE.stat()
        needs = stat.S_IRGRP | stat.S_IWGRP
        if found.st_mode & needs == needs and found.st_gid != 0:
            groups.add(found.st_gid)
    with contextlib.suppress(KeyError):
        if config.control_group is not None:
            groups.add(grp.getgrnam(config.control_group).gr_gid)
    return ServiceUser(user.uid, user.gid, tuple(sorted(groups)))


def _give(directory: Path, user: ServiceUser) -> None:
    """The directory of pins and what is in it, with the two above it: what is root's becomes the gateway's. OSError."""
    base = directory.parent.parent
    base.mkdir(mode=0o700, exist_ok=True)
    for path in (base, directory.parent, directory):
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if path != base else 0))
            try:
                _give_file(descriptor, user)
                if path == directory:
                    for name in os.listdir(descriptor):
                        _give_named(descriptor, name, user)
            finally:
                os.close(descriptor)


def _give_named(directory: int, name: str, user: ServiceUser) -> None:
    with contextlib.suppress(OSError):  # not a file of ours
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            _give_file(descriptor, user)
        finally:
            os.close(descriptor)


def _give_file(descriptor: int, user: ServiceUser) -> None:
    """Unless it has another name besides, which somebody may have given to a file that is not ours."""
    found = os.fstat(descriptor)
    if found.st_uid == 0 and (stat.S_ISDIR(found.st_mode) or found.st_nlink == 1):
        os.fchown(descriptor, user.uid, user.gid)


def _reaches(user: ServiceUser, directory: Path) -> bool:
    place = directory.resolve()
    return all(_others_may_enter(each, user) for each in (place, *place.parents))


def _others_may_enter(directory: Path, user: ServiceUser) -> bool:
    found = directory.stat()
    return bool(found.st_mode & stat.S_IXOTH) or found.st_uid == user.uid
