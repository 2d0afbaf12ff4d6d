"""Each call of a gateway of a rig, plain and awaited: one list, so that neither has one that the other lacks."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from ipsec_dp.rig import AsyncGateway, Gateway, Wire
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.surface import RigGateway
from tests.unit.rig_sites import site

ROOT = Path(__file__).resolve().parents[2]
HELLO = udp("10.1.0.5", "10.2.0.5", b"hello")
CALLS = (
    # name, arguments, what holds of the answer; in this order of two gateways, of which b is asked where its name is said
    ("initiate", (), None),
    ("wait", ("up",), None),
    ("inject", (HELLO,), None),
    ("b.wait", ("packet",), None),
    ("b.received", (), lambda got: got == [HELLO]),
    ("b.received", (), lambda got: got == []),
    ("sas", (), lambda sas: [sa.packets_out for sa in sas] == [1]),
    ("counters", (), lambda counters: counters["packets_out"] == 1),
    ("explain", ("10.1.0.5", "10.2.0.5"), lambda explained: explained.verdict == "protect"),
    ("keylog", (), lambda text: text.count("\n") == 2),
    ("capture", (), lambda octets: octets[:4] == b"\x0a\x0d\x0d\x0a"),
    ("events", (), lambda events: "IKE SA up" in [str(event.kind) for event in events]),
    ("tunnel", (), lambda tunnel: tunnel.state == "up"),
    ("status", (), lambda status: status.gateway == "a"),
    ("rekey", (), None),
    ("wait", ("CHILD_SA rekeyed",), None),
    ("keylog", ("ikev2_decryption_table",), lambda text: text.count("\n") == 1),
    ("reload", (site("a", start="respond").replace("10.2.0.0/16", "10.2.0.0/17"),), lambda result: len(result.changed) == 1),
    ("terminate", (), None),
    ("wait", ("IKE SA down",), None),
    ("sas", (), lambda sas: sas == ()),
)
OF_BOTH = {name for name, _ in inspect.getmembers(RigGateway, inspect.isfunction) if not name.startswith("_")} - {"close"}
EXAMPLE = """
from ipsec_dp.gateway.status import ChildSaStatus
from ipsec_dp.rig import AsyncGateway, Gateway, Network, Wire, impair
from ipsec_dp.rig.surface import RigGateway

def life(site: str) -> tuple[ChildSaStatus, ...]:
    with Network(wire=Wire(loss=0.1), log=None) as network:
        a: RigGateway = network.gateway(site)
        a.wait("up", timeout=5.0)
        reveal_type(a.received())
        return a.sas()

async def awaited(one: AsyncGateway) -> dict[str, int]:
    await one.wait("up")
    reveal_type(await one.keylog("esp_sa"))
    return await one.counters()

def faulty(one: Gateway) -> impair.Impairment:
    return impair.refuse(one, "NO_ADDITIONAL_SAS", after=1.0)

def wrong(one: Gateway) -> int:
    one.wait(5)
    return one.sas()
"""


def test_every_call_answers_plainly():
    wire = Wire()
    with Gateway(site("b"), wire=wire) as b, Gateway(site("a", start="respond"), wire=wire) as a:
        for name, arguments, holds in CALLS:
            who, _, call = name.rpartition(".")
            answer = getattr(b if who else a, call)(*arguments)
            assert answer is None if holds is None else holds(answer), name


def test_every_call_answers_when_it_is_awaited():
    async def ask_all():
        wire = Wire()
        async with AsyncGateway(site("b"), wire=wire) as b, AsyncGateway(site("a", start="respond"), wire=wire) as a:
            for name, arguments, holds in CALLS:
                who, _, call = name.rpartition(".")
                answer = await getattr(b if who else a, call)(*arguments)
                assert answer is None if holds is None else holds(answer), name

    asyncio.run(ask_all())


@pytest.mark.parametrize("kind", [Gateway, AsyncGateway])
def test_the_list_is_the_whole_surface(kind):
    assert {name.rpartition(".")[2] for name, _, _ in CALLS} == OF_BOTH
    for name in OF_BOTH:
        plain, here = inspect.signature(getattr(RigGateway, name)), inspect.signature(getattr(kind, name))
        shared = [here.parameters[parameter] for parameter in plain.parameters if parameter in here.parameters]
        assert shared == list(plain.parameters.values()), name
        assert here.return_annotation == plain.return_annotation, name
        assert inspect.iscoroutinefunction(getattr(kind, name)) is (kind is AsyncGateway)


@pytest.mark.slow
def test_what_a_person_writes_is_checked_by_its_types(tmp_path):
    (tmp_path / "person.py").write_text(EXAMPLE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "person.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    errors = [line for line in done.stdout.splitlines() if "person.py" in line and ": error:" in line]
    assert 'Revealed type is "list[bytes]"' in done.stdout.replace("builtins.", "")
    assert 'Revealed type is "str"' in done.stdout.replace("builtins.", "")
    assert [line.split("[")[-1] for line in errors] == ["arg-type]", "return-value]"], done.stdout
