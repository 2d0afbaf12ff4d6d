"""Who may ask what at the control socket: root everything, members of the control group what reads, others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.config.model import CONTROL_DIRECTORY
from ipsec_dp.errors import ConfigError, ControlError
from ipsec_dp.gateway.control import CLIENTS_MAX, READERS_MAX, ControlServer, Verb
from ipsec_dp.gateway.control_rights import Client, how_to_read, share
from ipsec_dp.gateway.verbs import GatewayVerbs
from tests.doubles.config import configured, tunnel
from tests.doubles.loop_thread import running
from tests.unit.other_user import NOBODY, Said, User

READ = {"status", "explain", "follow"}
REQUESTS: dict[str, dict[str, Any]] = {
    "status": {},
    "down": {},
    "reload": {},
    "preview": {"file": "/etc/shadow"},
    "explain": {"source": "10.1.0.1", "destination": "10.2.0.1"},
    "initiate": {"name": "to-b"},
    "rekey": {"name": "to-b"},
    "terminate": {"name": "to-b"},
    "unpin": {"name": "to-b"},
    "test": {"name": "to-b"},
    "confirm": {},
    "follow": {},
    "capture": {},
    "log": {"level": "debug"},
    "bugreport": {},
    "upgrade": {},
}
ASKED = [{"verb": verb, **fields} for verb, fields in REQUESTS.items()]
GROUP = next(each for each in grp.getgrall() if each.gr_gid not in (0, NOBODY))
MEMBER, OTHER, ROOT = User(groups=(GROUP.gr_gid,)), User(), User(0)


async def echo(asked: Any) -> Any:
    return asked


VERBS: tuple[Verb[Any], ...] = tuple(
    Verb(verb.request, echo, verb.reads) for verb in GatewayVerbs(cast("Any", None), cast("Any", None)).table
)


@contextlib.contextmanager
def listening(group: str | None):
    """A server with the verbs of a gateway, each of which answers with what it was asked; its path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        server, loop = ControlServer(Path(name) / "run" / "a.sock", VERBS, group), asyncio.new_event_loop()
        loop.run_until_complete(server.start())
        with running(loop, server.close):
            yield server.path


def own_group() -> str:
    return grp.getgrgid(os.getegid()).gr_name


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- every verb, by every kind of client -----------------------------------------------------------------------------------------


def test_every_verb_of_a_gateway_is_asked_here():
    assert REQUESTS.keys() == {verb.name for verb in VERBS}
    assert {verb.name for verb in VERBS if verb.reads} == READ


@pytest.mark.root
def test_a_member_may_read_and_nothing_else():
    with listening(GROUP.gr_name) as path:
        answers = dict(zip(REQUESTS, MEMBER.ask(path, ASKED), strict=True))
    assert {verb for verb, answer in answers.items() if answer["ok"]} == READ
    for verb in REQUESTS.keys() - READ:
        assert answers[verb]["error"] == f"nobody may only read (status, explain, follow): `{verb}` takes root"


@pytest.mark.root
def test_root_may_do_everything():
    with listening(GROUP.gr_name) as path:
        assert [answer["ok"] for answer in ROOT.ask(path, ASKED)] == [True] * len(ASKED)


@pytest.mark.root
def test_others_may_not_even_connect():
    with listening(GROUP.gr_name) as path:
        assert OTHER.ask(path, ASKED) == [{"errno": 13}]


@pytest.mark.root
def test_without_a_group_members_may_not_connect_either():
    with listening(None) as path:
        assert MEMBER.ask(path, ASKED) == [{"errno": 13}]
        assert len(ROOT.ask(path, ASKED)) == len(ASKED)


@pytest.mark.parametrize("verb", REQUESTS)
def test_what_the_kernel_says_of_the_client_decides(verb):
    server = ControlServer(Path("a.sock"), VERBS)
    line = json.dumps({"verb": verb, **REQUESTS[verb], "uid": 0}).encode()
    for client, allowed in ((Client(os.geteuid()), True), (Client(0), True), (Client(NOBODY - 1), verb in READ)):
        answer: Any = asyncio.run(server.answer(line, client))
        assert answer.ok == allowed


@pytest.mark.root
def test_however_many_read_root_is_heard():
    with listening(GROUP.gr_name) as path:
        answers = MEMBER.ask(path, [ASKED[0]] * CLIENTS_MAX)  # on a connection each, all of which stay
        assert [answer["ok"] for answer in answers] == [True] * READERS_MAX + [False] * (CLIENTS_MAX - READERS_MAX)
        assert answers[-1]["error"].startswith(f"the gateway talks to {READERS_MAX} clients that may only read")
        assert READERS_MAX < CLIENTS_MAX


# ---- the socket and its directory ------------------------------------------------------------------------------------------------


def test_the_socket_is_its_owners_and_the_groups():
    with listening(own_group()) as path:
        assert (mode_of(path), path.stat().st_gid) == (0o660, os.getegid())
        assert mode_of(path.parent) == 0o755
    with listening(None) as path:
        assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)


def test_a_directory_of_somebody_else_keeps_its_mode():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        server = ControlServer(Path(name) / "a.sock", VERBS, own_group())

        async def run():
            await server.start()
            await server.close()

        asyncio.run(run())
        assert mode_of(Path(name)) == 0o711


def test_a_group_that_is_gone_or_not_ours_to_give_is_said(tmp_path, monkeypatch):
    (tmp_path / "a.sock").touch(0o600)
    with pytest.raises(ControlError, match="there is no group no-such-group; groupadd --system no-such-group"):
        share(tmp_path / "a.sock", "no-such-group")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(ControlError, match=r"Operation not permitted; CAP_CHOWN .* \(SupplementaryGroups="):
        share(tmp_path / "a.sock", own_group())
    assert mode_of(tmp_path / "a.sock") == 0o600


def test_the_configuration_names_a_group_of_this_host(tmp_path):
    assert configured(tmp_path, tunnel()).control_group is None
    assert configured(tmp_path, f'control_group = "{own_group()}"\n', tunnel()).control_group == own_group()
    with pytest.raises(ConfigError, match=r"control_group: this host has no group 'no-such'; make it with groupadd --system"):
        configured(tmp_path, 'control_group = "no-such"\n', tunnel())


# ---- what a user without rights is told ------------------------------------------------------------------------------------------


def test_who_could_read_is_named():
    with listening(GROUP.gr_name if os.geteuid() == 0 else own_group()) as path:
        group = grp.getgrgid(path.stat().st_gid)
        told = how_to_read(path)
    assert (f"as a member of group {group.gr_name}" in told) == (group.gr_gid != 0)
    assert how_to_read(Path("/nowhere/a.sock")) == "run as root; control_group in [gateway] lets the members of a group read"


@pytest.fixture
def shared():
    """A directory that everybody can read, with a configuration that root can read and one whose secret is nobody's."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        for part, owner in (("root", 0), ("user", NOBODY)):
            (directory / part).mkdir(mode=0o755)
            (directory / part / "to-b.psk").write_text("correct horse battery staple")
            (directory / part / "to-b.psk").chmod(0o600)
            os.chown(directory / part / "to-b.psk", owner, owner)
            (directory / part / "a.toml").write_text('[gateway]\nname = "site-a"\n' + tunnel().replace("x.psk", "to-b.psk"))
            (directory / part / "a.toml").chmod(0o644)
        yield SimpleNamespace(root=str(directory / "root" / "a.toml"), user=str(directory / "user" / "a.toml"))


ASKING = [
    "status",
    "status --json",
    "down",
    "reload",
    "reload --dry-run",
    "initiate to-b",
    "initiate to-b --wait",
    "rekey to-b",
    "terminate to-b",
    "unpin to-b",
    "policy explain 10.1.0.1 10.2.0.1",
]


@pytest.fixture
def hidden_sockets():
    """An empty directory of sockets that root alone sees, over what gateways of other tests may have left."""
    CONTROL_DIRECTORY.mkdir(exist_ok=True)
    subprocess.run(("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", str(CONTROL_DIRECTORY)), check=True)
    yield CONTROL_DIRECTORY
    subprocess.run(("umount", str(CONTROL_DIRECTORY)), check=True)


@pytest.mark.root
def test_where_sockets_cannot_be_seen_nobody_is_told_that_no_gateway_runs(hidden_sockets):
    *asked, checked = OTHER.commands(*ASKING, "status --check")
    hidden_sockets.chmod(0o755)
    (control,) = OTHER.commands("status")
    told = (
        f"cannot read {CONTROL_DIRECTORY}, so whether a gateway runs here is not known: Permission denied; "
        "run as root; control_group in [gateway] lets the members of a group read"
    )
    assert asked == [Said(1, "", f"{told}\n")] * len(ASKING)
    assert checked == Said(3, f"UNKNOWN: {told}\n", "")
    assert control.err.startswith("no gateway runs here"), "where it can be seen, it is said"
    assert control.status == 3


@pytest.mark.root
def test_a_socket_of_a_group_names_the_group():
    with listening(GROUP.gr_name) as path:
        (said,) = OTHER.commands(f"status --control {path}")
    assert said.status == 1
    assert said.err.startswith(f"cannot read the control socket {path}: Permission denied; run as root, or as a member of group ")
    assert GROUP.gr_name in said.err


@pytest.mark.root
def test_what_needs_rights_says_so_and_blames_nobody_else(shared):
    for said in OTHER.commands(f"check {shared.root}", f"up {shared.root}"):
        assert said.status == 2
        assert "Permission denied; run as root, or name a readable file" in said.err
    lines = (f"up {shared.user}", f"guard {shared.user}", "open site-a --yes-in-clear", "doctor")
    for line, said in zip(lines, OTHER.commands(*lines), strict=True):
        text = " ".join((said.out + said.err).split())
        assert said.status == 1, line
        assert "run as root" in text or "run it as root" in text, (line, text)
        for wrong in ("Traceback", "another program", "modprobe", "fault of ipsec-dp"):
            assert wrong not in text, line
