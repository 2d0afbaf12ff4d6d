"""native/: no circle of translation units, and each function is declared by the header of the file that defines it."""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from native import build_ffi

NATIVE = Path(__file__).resolve().parents[2] / "native"
INTERFACE = {*NATIVE.glob("dp_*.h"), NATIVE / "dp.h"}  # what Python calls, wherever it is
HEADERS = sorted({*NATIVE.glob("*.h")} - INTERFACE)

# Files whose functions a header of another name declares, and why.
FAMILIES = {
    "aead_provider.h": ({"aead_ipsec_mb"}, "a provider is a table of ciphers, which aead.c alone asks for"),
    "link.h": ({"link_io", "link_send"}, "one device, of which one file receives and the other sends"),
    "policy.h": ({"policy_lookup"}, "one snapshot, which one file makes and the other walks in the loops"),
    "policy_tree.h": ({"policy_build", "policy_forest", "policy_store"}, "what the snapshot is made of, for policy*.c alone"),
}

# Where the tests run under a sanitizer, its runtime is for our extension alone.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}

Names = dict[str, set[str]]  # by file, without its ending


def symbols(objects: list[Path], which: str) -> Names:
    listed = subprocess.run(["nm", "-A", which, *objects], capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout
    found: Names = {path.stem: set() for path in objects}
    for line in listed.splitlines():
        path, rest = line.rsplit(":", 1)
        found[Path(path).stem].add(rest.split()[-1])
    return found


def order(defined: Names, undefined: Names) -> list[str]:
    """The files, each after those whose functions or variables it uses. Raises CycleError."""
    home = {name: file for file, names in defined.items() for name in names}
    return list(
        TopologicalSorter({file: {home[name] for name in names & home.keys()} for file, names in undefined.items()}).static_order()
    )


def declared(header: Path) -> set[str]:
    """The functions that a header declares and does not define itself."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    text = re.sub(r"^#(?:.*\\\n)*.*$", "", text, flags=re.MULTILINE)
    return set(re.findall(r"^\w[^;{}()=]*?\b(\w+)\([^{}]*?\);", text, re.MULTILINE))


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> list[Path]:
    """Compiled without optimisation: that is quick, and loses no call."""
    to = tmp_path_factory.mktemp("native")
    flags = [*(NATIVE / "cflags").read_text().split(), "-O0", "-g0", "-pthread", f"-I{NATIVE}"]
    flags += ["-DDP_HAVE_IPSEC_MB=1"] if build_ffi.with_ipsec_mb() else []

    def compiled(source: Path) -> Path:
        target = to / f"{source.stem}.o"
        subprocess.run([*build_ffi.compiler(), *flags, "-c", "-o", target, source], check=True, env=ENVIRONMENT)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compiled, sorted(NATIVE.glob("*.c"))))


@pytest.fixture(scope="module")
def defined(objects) -> Names:
    return symbols(objects, "--defined-only")


def test_no_file_uses_one_that_uses_it(objects, defined):
    try:
        ordered = order(defined, symbols(objects, "--undefined-only"))
    except CycleError as error:
        pytest.fail("a circle of translation units: " + " ← ".join(error.args[1]))
    assert ordered.index("esp") < ordered.index("seal") < ordered.index("outbound") < ordered.index("worker")


def test_a_circle_is_found():
    defined = {"a": {"f"}, "b": {"g"}, "c": {"h"}}
    assert order(defined, {"a": {"g", "memcpy"}, "b": {"h"}, "c": set()}) == ["c", "b", "a"]
    with pytest.raises(CycleError):
        order(defined, {"a": {"g"}, "b": {"h"}, "c": {"f"}})


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_a_header_declares_what_its_file_or_its_family_defines(defined, header):
    family, _ = FAMILIES.get(header.name, (set(), ""))
    own = set().union(*(defined[file] for file in {header.stem, *family} if file in defined))
    assert declared(header) - own == set()


def test_no_header_takes_a_file_that_has_its_own(defined):
    files = [file for family, _ in FAMILIES.values() for file in family]
    assert len(files) == len(set(files)), "a file in two families"
    assert [file for file in files if (NATIVE / f"{file}.h").exists()] == []
    for name, (family, reason) in FAMILIES.items():
        assert reason
        assert [file for file in family if not declared(NATIVE / name) & defined[file]] == [], f"nothing of it in {name}"
