"""A configuration file read again, in a process of its own: parsing and checking ten thousand tunnels takes seconds, in which
the daemon must go on.

The daemon says which tables it has, by digests of what is written in them and of the files that they name; the answer holds only
what is not among them, so that taking it over costs the daemon little. No secret crosses: neither side sends what a file holds.
"""

from __future__ import annotations

import asyncio
import gc
import io
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ipsec_dp import __version__
from ipsec_dp.config import files, model
from ipsec_dp.config.change import Change, compare
from ipsec_dp.config.load import examine
from ipsec_dp.errors import IpsecDpError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ipsec_dp.errors import Finding

READ_SECONDS = 600.0
MODULE = "ipsec_dp.config.difference"


class ReadError(IpsecDpError):
    """The process that reads a configuration ended without an answer."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What the daemon has: digests by tunnel, and the key of its fingerprints (which say nothing without it)."""

    path: Path
    known: dict[str, bytes]
    fingerprint_key: bytes


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What the file says now. `config` (None: refused) has no tunnels; `order` are their names, `tunnels` those not known yet."""

    findings: tuple[Finding, ...]
    config: model.Config | None
    order: tuple[str, ...]
    tunnels: tuple[model.Tunnel, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two configurations and what leads from one to the other."""

    old: model.Config
    new: model.Config
    added: tuple[model.Tunnel, ...]
    removed: tuple[model.Tunnel, ...]
    changed: tuple[Change, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def kept(self) -> int:
        """Tunnels that nothing changes for."""
        return len(self.new.tunnels) - len(self.added) - len(self.changed)


def known(tunnel: model.Tunnel) -> bytes:
    """The digest of all that a tunnel is made from: the table as written, and the files it names."""
    parts = [tunnel.written]
    if tunnel.auth is not None:
        parts += [tunnel.auth.material, *(ppk.material for ppk in tunnel.auth.ppks)]
        parts += [tunnel.auth.ca_material, tunnel.auth.crl_material] if isinstance(tunnel.auth, model.CertificateAuth) else []
    if tunnel.manual is not None:
        parts.append(tunnel.manual.material)
    return b"".join(parts)


def as_known(tunnel: model.Tunnel, digest: bytes) -> model.Tunnel:
    """The same table when `known` gave `digest`: what its files held then, by their fingerprints, instead of what they hold now."""
    octets = io.BytesIO(digest)
    octets.seek(len(tunnel.written))

    def then(now: bytes) -> bytes:
        return octets.read(len(now))

    auth, manual = tunnel.auth, tunnel.manual
    if auth is not None:
        auth = replace(auth, material=then(auth.material))
        auth = replace(auth, ppks=tuple(replace(ppk, material=then(ppk.material)) for ppk in auth.ppks))
        if isinstance(auth, model.CertificateAuth):
            auth = replace(auth, ca_material=then(auth.ca_material))
            auth = replace(auth, crl_material=then(auth.crl_material))
    if manual is not None:
        manual = replace(manual, material=then(manual.material))
    return replace(tunnel, auth=auth, manual=manual)


def answer(request: ReadRequest) -> ReadAnswer:
    """Reads and checks the file, in this process."""
    files.share_fingerprints(request.fingerprint_key)
    config, findings = examine(request.path)
    return ReadAnswer(findings, None, (), ()) if config is None else _answer(config, findings, request.known)


def _answer(config: model.Config, findings: tuple[Finding, ...], digests: Mapping[str, bytes]) -> ReadAnswer:
    order = tuple(tunnel.name for tunnel in config.tunnels)
    unknown = tuple(tunnel for tunnel in config.tunnels if digests.get(tunnel.name) != known(tunnel))
    return ReadAnswer(findings, replace(config, tunnels=()), order, unknown)


def ask(request: ReadRequest) -> ReadAnswer:
    """`answer` in a process of its own. Raises ReadError."""
    try:
        command = (sys.executable, "-P", "-m", MODULE, __version__)
        done = subprocess.run(command, input=pickle.dumps(request), capture_output=True, timeout=READ_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReadError(f"{request.path} could not be read again: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise ReadError(f"{request.path} could not be read again: {said[0]}")
    made: ReadAnswer = pickle.loads(done.stdout)  # noqa: S301 - our own process wrote it
    return made


async def read_again(
    old: model.Config, path: Path, by: Callable[[ReadRequest], ReadAnswer] | None = None
) -> tuple[Difference | None, tuple[Finding, ...]]:
    """What `path` changes in a running configuration; None when the file must be refused. `by`: who reads it; None: a process of
    this one's own. Raises ReadError."""
    return await asyncio.to_thread(_read_again, old, path, ask if by is None else by)


def _read_again(
    old: model.Config, path: Path, by: Callable[[ReadRequest], ReadAnswer]
) -> tuple[Difference | None, tuple[Finding, ...]]:
    got = by(ReadRequest(path, {tunnel.name: known(tunnel) for tunnel in old.tunnels}, files.fingerprint_key()))
    return (None if got.config is None else difference(old, got)), got.findings


def difference(old: model.Config, got: ReadAnswer) -> Difference:
    """Both configurations compared; tunnels that nothing changes for stay the objects they are."""
    if got.config is None:
        raise ValueError("a refused configuration leads nowhere")
    before = {tunnel.name: tunnel for tunnel in old.tunnels}
    unknown = {tunnel.name: tunnel for tunnel in got.tunnels}
    compared = {name: compare(before[name], tunnel) for name, tunnel in unknown.items() if name in before}
    now = tuple(unknown[name] if name in unknown else before[name] for name in got.order)
    present = set(got.order)
    return Difference(
        old,
        replace(got.config, tunnels=now),
        tuple(tunnel for name, tunnel in unknown.items() if name not in before),
        tuple(tunnel for tunnel in old.tunnels if tunnel.name not in present),
        tuple(change for change in compared.values() if change is not None),
        got.findings,
    )


def between(old: model.Config, new: model.Config) -> Difference:
    """Of two that were read in one process, or under one key of fingerprints."""
    return difference(old, _answer(new, new.warnings, {tunnel.name: known(tunnel) for tunnel in old.tunnels}))


def backwards(difference: Difference) -> Difference:
    """What leads back from the new configuration to the old one."""
    changed = (compare(change.new, change.old) for change in difference.changed)
    return Difference(
        difference.new,
        difference.old,
        difference.removed,
        difference.added,
        tuple(change for change in changed if change is not None),
    )


def main() -> None:
    if sys.argv[1:] != [__version__]:  # it was installed since, and its objects are not those of who asks
        sys.exit(f"version {__version__} is installed, and the gateway is of another: `ipsec-dp upgrade` lets the new one go on")
    gc.disable()  # it ends when it has answered
    request: ReadRequest = pickle.load(sys.stdin.buffer)  # noqa: S301 - the daemon wrote it
    sys.stdout.buffer.write(pickle.dumps(answer(request)))


if __name__ == "__main__":
    # By the module's own name, so that pickled objects are of the classes that the daemon has.
    from ipsec_dp.config.difference import main as run

    run()
