"""What holds for the tests themselves: they use what is public, wait for what they expect, and leave out no module of a gateway."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for directory in ("tests", "benchmarks")
    for path in sorted((ROOT / directory).rglob("*.py"))
}


# ---- private names ---------------------------------------------------------------------------------------------------------------

# File and name -> why a test may use it.
PRIVATE = {
    ("tests/fuzz/fuzz_ike_session.py", "_Aead"): "`deepcopy` is told that a cipher stays as it is, which is told to its class",
}

NAMED_TUPLES = {"_replace", "_asdict", "_fields", "_make"}  # public in spite of their names
EXTENSION = "_native"


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__") and name not in {*NAMED_TUPLES, EXTENSION}


def private(tree: ast.AST) -> Iterator[str]:
    """The private names that a file uses of other objects than its own `self`, and those that it imports from us."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if is_private(name):
                yield name
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] == "ipsec_dp":
                yield from (each.name for each in names if is_private(each.name))
            case ast.Call(func=ast.Name(id=verb) | ast.Attribute(attr=verb), args=[_, ast.Constant(value=name), *_]) if verb in (
                "getattr",
                "setattr",
                "delattr",
                "hasattr",
            ) and is_private(name):
                yield str(name)


def test_no_test_reaches_into_an_object():
    used = {(path, name) for path, tree in TREES.items() for name in private(tree)}
    assert used - PRIVATE.keys() == set(), "give it a public way in"
    assert PRIVATE.keys() - used == set(), "an exception that is none any more"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('core._of_tunnel["to-a"][0]', ["_of_tunnel"]),
        ('monkeypatch.setattr(module, "_LIMIT", 3)', ["_LIMIT"]),
        ('getattr(core, "_due")', ["_due"]),
        ("from ipsec_dp.ike.certificates import _LIMIT", ["_LIMIT"]),
        ("self._of_tunnel", []),
        ("endpoint._replace(port=1)", []),
        ("from ipsec_dp import _native, __version__", []),
    ],
)
def test_a_private_name_is_found(line, found):
    assert list(private(ast.parse(line))) == found


# ---- waits -----------------------------------------------------------------------------------------------------------------------

# File and argument of a sleep -> why time has to pass there, and nothing can be waited for.
SLEEPS = {
    ("tests/interop/test_ike_strongswan_both_start.py", "offset"): "starts that lie apart are what is tested",
    ("tests/unit/test_hung_clients.py", "LASTS_S"): "the time in which the event loop's turns are measured",
    ("tests/netns/test_both_start.py", "offset"): "starts that lie apart are what is tested",
    ("tests/netns/at_rest.py", "LOOK_S"): "the time in which processor time is measured",
    ("tests/netns/test_kept_many.py", "WATCHED_S"): "the time in which processor time is measured",
    ("tests/netns/test_ike_bars.py", "SETTLED_SECONDS"): "memory is measured when what a start leaves behind is over",
    ("tests/netns/test_ike_nat.py", "KEEPALIVE_SECONDS"): "silence, in which a keepalive is due",
    ("tests/netns/test_many_tunnels.py", "QUIET_S"): "the time in which the answers' delays are measured",
    ("tests/netns/test_mtu.py", "NOTHING_S"): "a message that is not believed leaves no trace",
    ("tests/netns/test_tun.py", "NOTHING_S"): "that nothing is sent is what is shown",
}


def sleeps(node: ast.AST) -> Iterator[str]:
    """What sleeps outside loops are given. In a `while` one asks again and again, or sends at a pace; 0 takes no time."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.While():
                continue
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep") | ast.Name(id="sleep"), args=[of]
            ) if ast.unparse(of) != "0":
                yield ast.unparse(of)
        yield from sleeps(child)


def test_no_test_waits_for_a_time():
    found = {(path, of) for path, tree in TREES.items() if path.startswith("tests/") for of in sleeps(tree)}
    assert found - SLEEPS.keys() == set(), "wait for what is expected"
    assert SLEEPS.keys() - found == set(), "an exception that is none any more"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("time.sleep(0.5)", ["0.5"]),
        ("async def f():\n    await asyncio.sleep(WAIT_S)", ["WAIT_S"]),
        ("for _ in range(9):\n    sleep(1)", ["1"]),
        ("while not there():\n    time.sleep(0.01)", []),
        ("await asyncio.sleep(0)", []),
    ],
)
def test_a_sleep_is_found(text, found):
    assert list(sleeps(ast.parse(text))) == found


# ---- modules that have tests of their own ----------------------------------------------------------------------------------------

PACKAGES = ("gateway", "services", "keying", "network")


def does_nothing(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, an import or an interface, which no test can see fail."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.ClassDef():
            return any(ast.unparse(base) == "Protocol" for base in node.bases)
    return False


def has_code(path: Path) -> bool:
    return not all(map(does_nothing, ast.parse(path.read_text()).body))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def wants_root(tree: ast.Module) -> bool:
    """Whether all of a file's tests do."""
    marks = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"]
    return any(f"mark.{name}" in ast.unparse(mark) for mark in marks for name in ("root", "netns", "interop"))


def imported(node: ast.AST) -> Iterator[str]:
    """Modules and names that are imported to be used, not as types alone."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{each.name}" for each in names)
        yield from imported(child)


def test_every_module_of_a_gateway_has_a_unit_test_that_needs_no_root():
    tests = [tree for path, tree in TREES.items() if path.startswith("tests/unit/test_") and not wants_root(tree)]
    used = {name for tree in tests for name in imported(tree)}
    modules = [path for package in PACKAGES for path in (ROOT / "ipsec_dp" / package).rglob("*.py") if has_code(path)]
    assert len(modules) > 25, "the packages are where they were"
    untested = {dotted(path) for path in modules} - used
    assert untested == set()


def test_what_does_not_count_as_a_test_is_known():
    types = "if TYPE_CHECKING:\n    from ipsec_dp.keying import manual\nfrom ipsec_dp.network import guard\nimport ipsec_dp.errors"
    assert list(imported(ast.parse(types))) == ["ipsec_dp.network", "ipsec_dp.network.guard", "ipsec_dp.errors"]
    assert wants_root(ast.parse("pytestmark = [pytest.mark.slow, pytest.mark.root]"))
    assert not wants_root(ast.parse("pytestmark = pytest.mark.slow"))
