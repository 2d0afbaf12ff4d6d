"""ike/ holds what every version of IKE shares, ike/v2/ what is IKEv2's; only the manager, which meets each version, looks there."""

import ast
from pathlib import Path

import pytest

import ipsec_dp.ike

ROOM = Path(ipsec_dp.ike.__file__).parent
SHARED = sorted(path for path in ROOM.glob("*.py") if path.name != "manager.py")
VERSION = "ipsec_dp.ike.v2"


def imported(path):
    """Every module and name that a file imports, for types alone and inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of_a_version(names):
    return sorted(name for name in names if name == VERSION or name.startswith(f"{VERSION}."))


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_what_versions_share_knows_none_of_them(path):
    assert of_a_version(imported(path)) == []


def test_the_manager_is_the_one_that_does():
    assert of_a_version(imported(ROOM / "manager.py"))
    assert len(SHARED) > 15
