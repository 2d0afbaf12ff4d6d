"""Certificate revocation lists are files, which something else fetches: whenever one changes, it is in force.

A file that cannot be read, or holds no CRL, takes nothing away: what it held before stays in force, and `status` says so. It
warns of a CRL that is out of date too, and, if revocation is strict, for a while before: IKE SAs end with it (`ike.v2.proof`).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ipsec_dp.config.model import CertificateAuth
from ipsec_dp.ike.certificates import CertificateError, load_crl, not_current
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.opening import opened_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from ipsec_dp.config import Config
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

    Mark = tuple[int, ...]

LOOK_S = 5.0  # between two looks at the files
AHEAD_MOST = timedelta(days=1)  # before the end of a CRL, from when on it is told that there is no newer one
AHEAD_PART = 10  # of its life; the lesser of both
SOURCE = "revocation"  # of conditions


class CrlWatch:
    """A service. `ike` gives the driver, once it runs."""

    name = "revocation lists"

    def __init__(self, ike: Callable[[], IkeDriver | None], conditions: Conditions, clock: Clock) -> None:
        self._ike, self._conditions, self._clock = ike, conditions, clock
        self._rounds = Rounds(self.name, conditions, clock)
        self._files: dict[str, tuple[Path, ...]] = {}  # by tunnel
        self._strict: set[Path] = set()
        self._marks: dict[Path, Mark] = {}  # of the files as they were when they were read
        self._lists: dict[Path, x509.CertificateRevocationList] = {}
        self._task: asyncio.Task[None] | None = None

    async def apply(self, config: Config) -> None:
        auths = {tunnel.name: tunnel.auth for tunnel in config.tunnels if isinstance(tunnel.auth, CertificateAuth)}
        self._files = {name: auth.crl for name, auth in auths.items() if auth.crl and auth.revocation != "off"}
        self._strict = {path for name in self._files if auths[name].revocation == "strict" for path in auths[name].crl}
        wanted = {path for files in self._files.values() for path in files}
        for path in self._marks.keys() - wanted:
            del self._marks[path]
            self._lists.pop(path, None)
        if not wanted:
            await self.close()
        elif self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._rounds.run(self._turn))

    async def close(self) -> None:
        self._conditions.become(SOURCE, {})
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _turn(self) -> None:
        await self._clock.sleep(LOOK_S)
        wanted = {path for files in self._files.values() for path in files}
        marks, read, wrong = await asyncio.to_thread(_read, wanted, dict(self._marks))
        self._marks |= marks
        self._lists |= read
        found = {f"{path} unread": f"{text}; the CRL that was there before stays in force" for path, text in wrong.items()}
        utc = self._clock.utc()
        for path in wanted & self._lists.keys():
            text = _age(self._lists[path], utc, strict=path in self._strict)
            if text is not None:
                found[f"{path} age"] = f"{path}: {text}"
        self._conditions.become(SOURCE, found)
        ike = self._ike()
        if ike is not None and read:
            renewed = {name: peer for name in self._files if (peer := self._renewed(ike.peer(name), name)) is not None}
            if renewed:
                await ike.judge_again(renewed)

    def _renewed(self, peer: Peer | None, name: str) -> Peer | None:
        """With the lists as they are now; None: they are those that it has."""
        if peer is None or not isinstance(peer.auth, SignatureAuth):
            return None
        former = peer.auth.trust.crls
        if len(former) != len(self._files[name]):  # a reload is under way
            return None
        crls = tuple(self._lists.get(path, before) for path, before in zip(self._files[name], former, strict=True))
        if crls == former:
            return None
        return replace(peer, auth=replace(peer.auth, trust=replace(peer.auth.trust, crls=crls)))


def _age(crl: x509.CertificateRevocationList, at: datetime, *, strict: bool) -> str | None:
    """What there is to say of a CRL that is no proof any more, or soon will not be. None: nothing."""
    why, end = not_current(crl, at), crl.next_update_utc
    if why is not None:
        means = (
            "revocation is strict, so nobody whose certificate it is about is authenticated, and their IKE SAs have ended"
            if strict
            else "what it revokes stays revoked, and what was revoked since is not known"
        )
        return f"{why}; {means}: put the one into its place that its authority has issued since"
    if not strict or end is None or end - at > min((end - crl.last_update_utc) / AHEAD_PART, AHEAD_MOST):
        return None
    return f"out of date from {end} on; revocation is strict, so IKE SAs that it is about end then: put a newer one into its place"


def _read(
    paths: Iterable[Path], known: dict[Path, Mark]
) -> tuple[dict[Path, Mark], dict[Path, x509.CertificateRevocationList], dict[Path, str]]:
    """Of the files that are not as they were: their marks, what they hold, and what is wrong with them."""
    marks: dict[Path, Mark] = {}
    read: dict[Path, x509.CertificateRevocationList] = {}
    wrong: dict[Path, str] = {}
    for path in paths:
        try:
            with opened_to_read(path) as opened:
                status = os.fstat(opened.descriptor)
            mark = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            if known.get(path) != mark:
                read[path] = load_crl(path)
                marks[path] = mark
        except OSError as error:
            wrong[path] = f"{path}: {error.strerror}"
        except CertificateError as error:
            wrong[path] = str(error)
    return marks, read, wrong
