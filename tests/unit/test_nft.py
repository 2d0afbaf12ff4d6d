"""How nft is called: whose process it is while reports may come, and what becomes of one that fails or hangs."""

from __future__ import annotations

import asyncio
import os
import shutil

import pytest

from ipsec_dp.host import HostError, nft
from tests.doubles.clock import settle
from tests.unit.gateway_doubles import until


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a script the nft that is found; it notes its process ID."""

    def made(script: str):
        file = tmp_path / "nft"
        file.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/process\n{script}\n")
        file.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return made


@pytest.fixture
def process(tmp_path):
    """The ID of the last one."""
    return lambda: int((tmp_path / "process").read_text())


def test_one_that_hangs_is_killed(program):
    program("sleep 5")  # a process of its own, which has its output too
    with pytest.raises(HostError, match=r"nft -f -: no end after 0\.2"):
        asyncio.run(nft.transact("", seconds=0.2))


def test_one_that_fails_says_why(program):
    program('cat > /dev/null; echo "no such table" >&2; exit 1')
    with pytest.raises(HostError, match="nft -f -: no such table"):
        asyncio.run(nft.transact("flush ruleset"))


def test_its_process_is_ours_until_all_that_it_reported_is_read(program, process):
    program("cat > /dev/null")
    asyncio.run(nft.transact("flush ruleset"))
    assert nft.is_ours(process())
    assert not nft.is_ours(process() + 1)
    nft.all_read()
    assert not nft.is_ours(process()), "the number may be somebody else's next time"


def test_it_is_ours_before_it_can_have_done_anything(program, process):
    program('read line; test "$line" = text && echo yes')

    async def asked():
        running = asyncio.get_running_loop().create_task(nft.transact("text\n"))
        await running
        return nft.is_ours(process())

    assert asyncio.run(asked())
    nft.all_read()


def test_whoever_is_cancelled_goes_on_when_it_has_ended(program, tmp_path):
    """`down` while a large guard is made again: it must not come back after it was taken away."""
    os.mkfifo(tmp_path / "go")
    program(f"cat > /dev/null; touch {tmp_path}/begun; read go < {tmp_path}/go; touch {tmp_path}/carried-out")

    async def life() -> None:
        task = asyncio.get_running_loop().create_task(nft.transact("add table inet a\n"))
        await until((tmp_path / "begun").exists)
        for _ in range(2):  # however often
            task.cancel()
            await settle()
            assert not task.done()
        (tmp_path / "go").write_text("\n")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (tmp_path / "carried-out").exists()

    asyncio.run(life())


def test_without_nft_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(HostError, match="nft is not installed"):
        asyncio.run(nft.tables())
