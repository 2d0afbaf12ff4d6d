"""ike/ holds what every version of IKE shares, ike/v1/ and ike/v2/ what is one's own; neither knows the other.

The manager is IKEv2's, the core puts IKEv1's beside it, and loads it when a tunnel asks for that version.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ipsec_dp.ike

ROOM = Path(ipsec_dp.ike.__file__).parent
SHARED = sorted(path for path in ROOM.glob("*.py") if path.name not in ("manager.py", "core.py"))
VERSIONS = ("ipsec_dp.ike.v1", "ipsec_dp.ike.v2")


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
    return sorted(name for name in names if any(f"{name}.".startswith(f"{version}.") for version in VERSIONS))


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_what_versions_share_knows_none_of_them(path):
    assert of_a_version(imported(path)) == []


def test_the_manager_is_the_one_that_does():
    assert of_a_version(imported(ROOM / "manager.py"))
    assert of_a_version(imported(ROOM / "core.py")) == ["ipsec_dp.ike.v1.manager", "ipsec_dp.ike.v1.manager.IsakmpManager"]
    assert len(SHARED) > 15


@pytest.mark.parametrize("path", sorted((ROOM / "v1").glob("*.py")), ids=lambda path: path.stem)
def test_ikev1_knows_nothing_of_ikev2(path):
    assert not [name for name in of_a_version(imported(path)) if name.startswith("ipsec_dp.ike.v2")]


@pytest.mark.parametrize("path", sorted((ROOM / "v2").glob("*.py")), ids=lambda path: path.stem)
def test_nor_ikev2_of_ikev1(path):
    assert not [name for name in of_a_version(imported(path)) if name.startswith("ipsec_dp.ike.v1")]


LOADED = """
import sys
from pathlib import Path
from ipsec_dp.config.load import load
from ipsec_dp.gateway import composition
from ipsec_dp.databases.pad import peer_of
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.environment import Environment
config = load(Path(sys.argv[1]))
core = IkeVersions(Environment(lambda n: bytes(n), lambda _: 256, lambda _: None), map(peer_of, config.tunnels))
print(sorted(name for name in sys.modules if name.startswith("ipsec_dp.ike.v1.")) != [])
"""


@pytest.mark.parametrize("version", ["1", "2"])
def test_ikev1_is_loaded_when_a_tunnel_asks_for_it_alone(tmp_path, version):
    secret = tmp_path / "psk"
    secret.touch(mode=0o600)
    secret.write_text("a secret of thirty-two characters")
    tunnel = f'[gateway]\nname = "a"\n[[tunnel]]\nname = "b"\nremote = "192.0.2.2"\n[tunnel.auth]\npsk_file = "{secret}"\n'
    (tmp_path / "a.toml").write_text(f'{tunnel}[tunnel.ike]\nversion = "{version}"\n')
    ran = subprocess.run([sys.executable, "-c", LOADED, tmp_path / "a.toml"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(version == "1")
