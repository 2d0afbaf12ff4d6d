"""The wheel and the source distribution hold what they must, and what is installed from the wheel alone works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ipsec_dp
from benchmarks.tunnels import ceiling
from ipsec_dp import _native

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info", "*.so", "results")
# Without --ignore-installed, pip takes away first what the tests themselves run from.
INSTALL = (sys.executable, "-m", "pip", "install", "-q", "--ignore-installed", "--no-deps", "--no-index")


def run(*command: str | Path, cwd: Path, **extra: str) -> str:
    """Runs a program outside of any sanitizer and of this checkout; its output."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONPATH", "SANITIZE")}
    result = subprocess.run(command, cwd=cwd, env=environment | extra, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """A directory with the sdist of a clean copy and the wheel built from that sdist, as `pip install` of a download does."""
    copy = tmp_path_factory.mktemp("source") / "ipsec_dp"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=copy)
    return copy / "dist"


def one(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    assert len(found) == 1, found
    return found[0]


@pytest.mark.timeout(300)
def test_the_sdist_holds_the_c_core_and_nothing_built(distributions):
    with tarfile.open(one(distributions, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "native").iterdir() if path.is_file()}
    assert sources <= names
    assert {"LICENSE", "Makefile", "tests/conftest.py", "ipsec_dp/py.typed", "pyproject.toml", "setup.py"} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


@pytest.mark.timeout(300)
def test_the_wheel_holds_the_extension_and_the_typing_marker_and_no_sources(distributions):
    with zipfile.ZipFile(one(distributions, "*.whl")) as archive:
        names = archive.namelist()
    assert "ipsec_dp/py.typed" in names
    assert "ipsec_dp/_native.abi3.so" in names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"ipsec_dp"}
    assert not [name for name in names if name.endswith((".c", ".h"))]


def held(directory: Path) -> dict[str, bytes]:
    """Every file below it."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_the_wheel_holds_schema_examples_and_units_where_a_service_finds_them(distributions, tmp_path):
    wheel = one(distributions, "*.whl")
    run(*INSTALL, "--prefix", tmp_path, wheel, cwd=tmp_path)
    shared = tmp_path / "share" / "ipsec-dp"
    assert held(shared) == held(ROOT / "conf")
    assert {"schema.json", "site-a.toml", "ipsec-dp@.service", "ipsec-dp-guard@.service"} <= {
        path.name for path in shared.iterdir()
    }
    assert (tmp_path / "bin" / "ipsec-dp").stat().st_mode & 0o111


def test_neither_the_wheel_nor_what_is_installed_here_has_the_benchmarks_ceiling(distributions):
    """That is built with a cipher that copies instead of encrypting; benchmarks/ceiling.c marks it."""
    with zipfile.ZipFile(one(distributions, "*.whl")) as archive:
        extensions = [archive.read("ipsec_dp/_native.abi3.so"), Path(_native.__file__).read_bytes()]
    for extension in extensions:
        assert b"PyInit__native" in extension  # the names of exported symbols are found so
        assert ceiling.SYMBOL.encode() not in extension


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_ceiling_is_built_apart_bears_its_mark_and_copies(tmp_path):
    """The control for the above, and that the ceiling is what it is called."""
    ceiling.build()
    assert ROOT / "build" in ceiling.EXTENSION.parents
    assert ceiling.SYMBOL.encode() in ceiling.EXTENSION.read_bytes()
    program = """
from benchmarks.tunnels import ceiling
ceiling.load()
from ipsec_dp.rig.plane import pair
from ipsec_dp.rig.packets import udp
with pair("aes128gcm16") as site:
    site.a.push(udp("10.1.0.1", "10.2.0.1", b"in clear"))
    site.a.step()
    (sealed,) = site.a.sent()
    print(site.a.plane.provider, b"in clear" in sealed.data, bytes(sealed.data[-16:]) == 16 * bytes([0x5A]))
    print(len(site.transfer([udp("10.1.0.1", "10.2.0.1", b"through")])))
"""
    assert run(sys.executable, "-c", program, cwd=ROOT).split() == ["ceiling", "True", "True", "1"]


def test_one_wheel_serves_every_python_from_3_11_on(distributions):
    assert "-cp311-abi3-linux_" in one(distributions, "*.whl").name


@pytest.mark.timeout(300)
def test_the_wheel_alone_imports_and_knows_its_version(distributions, tmp_path):
    wheel = one(distributions, "*.whl")
    run(*INSTALL, "--target", tmp_path, wheel, cwd=tmp_path)
    program = "import ipsec_dp, ipsec_dp._native as native; print(ipsec_dp.__file__, ipsec_dp.__version__, native.lib.DP_OK)"
    printed = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(tmp_path)).split()
    assert printed == [str(tmp_path / "ipsec_dp" / "__init__.py"), ipsec_dp.__version__, "0"]


def with_all_it_needs(names: Iterable[str]) -> dict[str, Distribution]:
    """Distributions that are installed here, with those that they require in turn."""
    found: dict[str, Distribution] = {}
    wanted = list(names)
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name not in found:
            found[name] = distribution(name)
            asked = [Requirement(text) for text in found[name].requires or ()]
            wanted += [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.timeout(300)
def test_the_first_test_of_the_document_runs_of_the_wheel_alone_in_a_fresh_venv_and_without_root(distributions, tmp_path):
    """An index is not asked: what the wheel declares, and pytest, come from here, and pip finds that nothing is lacking."""
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    (packages,) = venv.glob("lib/python*/site-packages")
    declared = [Requirement(text).name for text in PROJECT["dependencies"]]
    for each in with_all_it_needs([*declared, "pytest"]).values():
        for file in each.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(each.locate_file(file)), packages / file)
    python = venv / "bin" / "python"
    wheel = one(distributions, "*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", wheel, cwd=tmp_path)
    document = (ROOT / "docs" / "rig.md").read_text()
    (tmp_path / "test_first.py").write_text(re.findall(r"```python\n(.*?)```", document, re.DOTALL)[0])
    somebody = ("unshare", "--user", "--map-user=1000", "--map-group=1000") if os.geteuid() == 0 else ()
    where = "import ipsec_dp, os; print(os.geteuid() != 0, ipsec_dp.__file__)"
    assert run(*somebody, python, "-c", where, cwd=tmp_path).split() == ["True", str(packages / "ipsec_dp" / "__init__.py")]
    assert "1 passed" in run(*somebody, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_first.py", cwd=tmp_path)


def test_every_dependency_is_bounded_on_both_sides():
    requirements = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    unbounded = [text for text in requirements if "==" not in text and not (">=" in text and "<" in text)]
    assert unbounded == ["setuptools>=77"]  # whatever builds the project may also test it


def test_the_package_imports_nothing_that_it_does_not_declare():
    declared = {text.split(">")[0].split("=")[0] for text in PROJECT["dependencies"]}
    imported = set()
    for path in (ROOT / "ipsec_dp").rglob("*.py"):
        if path.name == "pytest_plugin.py":
            continue  # nobody loads it but pytest
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("import", "from") and not words[1].startswith("."):
                imported.add(words[1].partition(".")[0].rstrip(","))
    third_party = {name for name in imported if name in packages_distributions()} - {"ipsec_dp"}
    providers = {packages_distributions()[name][0] for name in third_party}
    assert providers <= declared
