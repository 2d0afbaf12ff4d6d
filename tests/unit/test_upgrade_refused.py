"""An upgrade that comes to nothing is one event that says why, whatever it fails of, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.messages import ReloadRequest, UpgradeRequest
from ipsec_dp.gateway.upgrade import executable, giving
from ipsec_dp.gateway.upgrade.executable import understood
from ipsec_dp.gateway.upgrade.messages import MODEL, UpgradeRefused
from ipsec_dp.gateway.upgrade.stream import FORM, HandOverError
from ipsec_dp.gateway.verbs import GatewayVerbs
from tests.unit.giving_site import (  # noqa: F401 - fixtures
    made_engine,
    made_given,
    made_gone,
    made_noting,
    made_offered,
    made_parts,
    made_successor,
)
from tests.unit.test_upgrade_asked import made_started  # noqa: F401 - a fixture
from tests.unit.test_upgrade_executable import NOBODY, place  # noqa: F401 - a fixture

ROOM = 10  # descriptors, more than an attempt takes


def events(caplog):
    """The events that say why, and no other than that an attempt began."""
    found = [(record.event, record.message) for record in caplog.records if record.event != "upgrade_begins"]
    assert [event for event, _ in found] == ["upgrade_refused"]
    return found[0][1]


def refuses(given, caplog, path=None):
    with pytest.raises(ControlError, match=r"^not upgraded, and everything goes on as before: ") as refused:
        asyncio.run(given.upgrade(path))
    assert events(caplog) == str(refused.value)
    return str(refused.value)


def program(path, body):
    path.write_text(f"#!{os.path.realpath(sys.executable)}\n{body}")
    path.chmod(0o755)
    return path


def somebodys(path):
    os.chown(program(path, ""), NOBODY, 0)


def others_may_write(path):
    program(path, "").chmod(0o777)


def says(**changes):
    about = {"version": "9", "upgrade": understood() | changes}
    return lambda path: program(path, f"print({json.dumps(about)!r})\n")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda _: None, "No such file or directory"),
        (somebodys, "belongs to others than root"),
        (others_may_write, "others than root may write"),
        (lambda path: program(path, "print(1)\n"), "no ipsec-dp"),
        (lambda path: program(path, "raise SystemExit(1)\n"), "no ipsec-dp"),
        (says(model=10**6), "understands model 1000000"),
        (says(form=10**6), "form 1000000"),
    ],
)
def test_a_program_that_is_not_the_installed_one(given, caplog, place, made, why):  # noqa: F811
    made(place / "ipsec-dp")
    assert why in refuses(given, caplog, place / "ipsec-dp")


def test_two_at_once(given, caplog, monkeypatch):
    async def both():
        held = asyncio.Event()

        async def waits(_path, _asked):
            await held.wait()
            raise HandOverError("over")

        monkeypatch.setattr(given, "attempt", waits)
        first = asyncio.create_task(given.upgrade(None))
        await asyncio.sleep(0)
        with pytest.raises(ControlError, match="under way already"):
            await given.upgrade(None)
        assert "under way already" in events(caplog)
        caplog.clear()
        held.set()
        with pytest.raises(ControlError, match="over"):
            await first
        assert "over" in events(caplog)

    asyncio.run(both())


def test_one_while_something_changes_the_host(given, caplog, noting, started, monkeypatch):
    monkeypatch.setattr(giving, "CHANGING_S", 0.01)
    asyncio.run(noting.changing.acquire())
    assert "the host is being changed" in refuses(given, caplog)
    assert noting.notes == []


def test_one_during_a_reload(parts, caplog):
    async def asked():
        over = asyncio.Event()

        async def reloads(_path):
            await over.wait()

        parts.config.path = None
        parts.engine.reloader = SimpleNamespace(reload=reloads)
        verbs = GatewayVerbs(parts, cast("Any", None), cast("Any", None))
        reload = asyncio.create_task(verbs.reload(ReloadRequest()))
        await asyncio.sleep(0)
        with pytest.raises(ControlError, match="a reload or another upgrade is under way; ask again"):
            await verbs.upgrade(UpgradeRequest())
        over.set()
        await reload

    asyncio.run(asked())
    assert "under way" in events(caplog)


def opened():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("asked_before", [False, True], ids=["", "its version is known"])
@pytest.mark.parametrize("room", range(ROOM))
def test_a_full_descriptor_table(given, caplog, noting, gone, place, monkeypatch, room, asked_before):  # noqa: F811
    """However many descriptors there still are, what was opened on the way is closed. A successor that is started ends at once."""
    if asked_before:
        monkeypatch.setattr(executable, "ask", lambda _: executable.About("9", MODEL, FORM))
    noting.changing, path = asyncio.Lock(), says()(place / "ipsec-dp")
    monkeypatch.setattr(given, "made_offer", lambda *_: UpgradeRefused("in the place of an offer"))

    async def asked():
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        await asyncio.to_thread(opened)  # whatever a first thread opens
        before, free = opened(), os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, limits[1]))
        try:
            with pytest.raises(ControlError, match=r"^not upgraded, and everything goes on as before: ") as refused:
                await given.upgrade(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert opened() == before
        return str(refused.value)

    why = asyncio.run(asked())
    assert events(caplog) == why
    assert (gone.left_to, gone.lost, noting.changing.locked()) == ([], [], False)
