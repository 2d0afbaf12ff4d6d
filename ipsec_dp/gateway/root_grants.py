"""What the helper that stays root does for its gateway: which files are the gateway's, and which configurations.

A gateway may be anybody's by now. It gets what a configuration names that it cannot have made: one that root alone could put where
it is, of the gateway's own name, and no file that the gateway has written.
"""

from __future__ import annotations

import os
import stat
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from ipsec_dp.config.difference import ReadAnswer, ReadRequest, answer
from ipsec_dp.config.file_keys import FILES
from ipsec_dp.errors import Finding
from ipsec_dp.host.roots_files import why_not_roots
from ipsec_dp.keying import wireshark
from ipsec_dp.util.opening import opened_to_read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.gateway.control_place import ControlPlace
    from ipsec_dp.host.roots_files import FileId
    from ipsec_dp.util.service_user import ServiceUser

CONFIGURATIONS_MAX: Final = 64  # that were read, one after the other, beside the first
TABLES: Final = (wireshark.ESP_TABLE, wireshark.IKE_TABLE, wireshark.IKEV1_TABLE)


class Named(msgspec.Struct, frozen=True):
    """Absolute paths that a configuration names: `files` are read, `tables` are the key log's, and written."""

    files: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()


class Grants(msgspec.Struct, frozen=True):
    """What a gateway begins with: its name, its configuration and what that names, its control socket, whom it runs as."""

    name: str
    configuration: str
    named: Named
    control: str
    group: str | None
    user: tuple[int, int] | None = None  # with its group; None: who the helper is


def files_of(tunnels: Iterable[Tunnel]) -> frozenset[str]:
    """All files that tunnels name, by their absolute paths."""
    return frozenset(map(os.path.abspath, {path for tunnel in tunnels for path in FILES.of(tunnel)}))


def tables_of(directory: Path | None) -> frozenset[str]:
    return frozenset() if directory is None else frozenset(os.path.abspath(directory / table) for table in TABLES)


def named_by(configs: Iterable[Config]) -> Named:
    """What these name, each with itself."""
    files, tables = set[str](), set[str]()
    for config in configs:
        files |= {*files_of(config.tunnels), str(config.path.absolute())}
        tables |= tables_of(config.keylog)
    return Named(frozenset(files), frozenset(tables))


def grants_of(config: Config, control: Path, user: ServiceUser | None = None) -> Grants:
    named = Named(files_of(config.tunnels), tables_of(config.keylog))
    ids = None if user is None else (user.uid, user.gid)
    return Grants(config.name, str(config.path.absolute()), named, str(control.absolute()), config.control_group, ids)


@dataclass(slots=True)
class HelpedGateway:
    """One gateway. `written`: files that it had open to write in when it was still root. `top` as of `why_not_roots`."""

    grants: Grants
    place: ControlPlace
    owner: int  # of the first configuration
    written: frozenset[FileId]
    top: str
    named: dict[str, Named] = field(default_factory=dict)  # by configuration

    def __post_init__(self) -> None:
        first = self.grants.configuration
        self.named[first] = Named(self.grants.named.files | {first}, self.grants.named.tables)

    def reads(self, path: str) -> bool:
        return any(path in named.files for named in self.named.values())

    def writes(self, path: str) -> bool:
        return any(path in named.tables for named in self.named.values())

    def place_of(self, path: str) -> str:
        """How a configuration is reached: one beside the first by the same way as that."""
        beside = os.path.dirname(self.grants.configuration)
        return os.path.join(beside, os.path.basename(path)) if _same(os.path.dirname(path), beside) else os.path.abspath(path)

    def refuses(self, path: str) -> str | None:
        """Why a configuration of this place is not read. None: it is. Raises OSError."""
        first = self.grants.configuration
        if path == first:
            return None
        owners, top = {0, os.geteuid()}, self.top
        if os.path.dirname(path) == os.path.dirname(first):
            owners, top = {*owners, self.owner}, os.path.realpath(os.path.dirname(first))
            path = os.path.join(top, os.path.basename(path))
        try:
            why = why_not_roots(path, owners, top)
            found = os.stat(path)
        except FileNotFoundError:
            return None  # reading it says so
        if why is None and (found.st_dev, found.st_ino) in self.written:
            return "the gateway writes in it"
        return why

    def learn(self, path: str, named: Named) -> None:
        """What a configuration names that was read. What one named before stays: it may be in force."""
        if path not in self.named and len(self.named) > CONFIGURATIONS_MAX:
            del self.named[next(name for name in self.named if name != self.grants.configuration)]
        before = self.named.get(path, Named())
        self.named[path] = Named(before.files | named.files, before.tables | named.tables)

    def keep(self, stay: Named) -> None:
        """Takes away what is not in `stay`, and gives nothing that was not given. The first configuration stays."""
        first = self.grants.configuration
        files = stay.files | {first}
        kept = {path: Named(named.files & files, named.tables & stay.tables) for path, named in self.named.items()}
        self.named = {path: named for path, named in kept.items() if path == first or named.files or named.tables}


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def examined(request: ReadRequest, grants: Grants) -> tuple[ReadAnswer, Named]:
    """`answer`, and what the file names; nothing, nor what stands in it, unless it is a configuration of this gateway."""
    got = answer(request)
    if str(request.path) != grants.configuration and not _is_of(request.path, grants.name, got):
        text = f"is not taken for a configuration of gateway {grants.name}"
        wrong = Finding("error", str(request.path), "", "", text, f"`ipsec-dp check {request.path}` says what it is")
        return ReadAnswer((wrong,), None, (), ()), Named()
    if got.config is None:
        return got, Named()
    return got, Named(files_of(got.tunnels) | {str(request.path)}, tables_of(got.config.keylog))


def _is_of(path: Path, name: str, got: ReadAnswer) -> bool:
    """Whether it says so; one that is not there has nothing to show."""
    if got.config is not None:
        return got.config.name == name
    try:
        with opened_to_read(path) as opened, open(opened.descriptor, "rb", closefd=False) as file:
            if not stat.S_ISREG(os.fstat(opened.descriptor).st_mode):
                return False
            table = tomllib.load(file).get("gateway")
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # ValueError: no TOML, no UTF-8
        return False
    return isinstance(table, dict) and table.get("name") == name
