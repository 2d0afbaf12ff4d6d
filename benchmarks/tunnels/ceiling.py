"""The I/O ceiling: our gateway with an extension whose AEAD only copies, so that what is left is the cost of everything else.

`build` makes that extension, below build/ and nowhere else; it is no part of the package. Run as a program, this module is
`ipsec-dp` on it. Such a gateway protects nothing, and speaks to no other kind.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import cffi

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "benchmarks" / "ceiling.c"
OUTPUT = ROOT / "build" / "ceiling"
EXTENSION = OUTPUT / "ipsec_dp" / "_native.abi3.so"
PROGRAM = (sys.executable, "-m", "benchmarks.tunnels.ceiling")
MODULE = "ipsec_dp._native"
SYMBOL = "dp_ceiling"
SETUP = """
import sys
from setuptools import setup
where = ["--build-temp", "build/temp-ceiling", "--build-lib", sys.argv[1]]
setup(cffi_modules=["benchmarks/tunnels/ceiling.py:ffibuilder"], script_args=["-q", "build_ext", *where])
"""


class CeilingError(Exception):
    """The extension could not be built; the text holds the compiler's message."""


def ffibuilder() -> cffi.FFI:
    """The extension, for setuptools: the whole core, where whoever asks for a cipher is answered by ceiling.c."""
    from native import build_ffi

    return build_ffi.extension([str(SOURCE.relative_to(ROOT))], ["-Wl,--wrap=dp_cipher_find"])


def is_current() -> bool:
    """Whether the extension is there and newer than everything it is made of."""
    sources = [SOURCE, *(ROOT / "native").iterdir()]
    return EXTENSION.exists() and EXTENSION.stat().st_mtime >= max(path.stat().st_mtime for path in sources)


def build() -> None:
    """Compiles it unless it is current. CeilingError."""
    if is_current():
        return
    command = (sys.executable, "-c", SETUP, str(OUTPUT))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not is_current():
        raise CeilingError(f"building {EXTENSION.relative_to(ROOT)}: {done.stderr.strip() or done.stdout.strip()}")


def load() -> None:
    """Puts that extension in the place of the real one, which must not be imported yet in this process."""
    loader = importlib.machinery.ExtensionFileLoader(MODULE, str(EXTENSION))
    spec = importlib.util.spec_from_loader(MODULE, loader)
    if spec is None:
        raise CeilingError(f"{EXTENSION} is no extension")
    sys.modules[MODULE] = importlib.util.module_from_spec(spec)
    loader.exec_module(sys.modules[MODULE])


def main() -> int:
    """`ipsec-dp` on that extension."""
    load()
    from ipsec_dp.cli import main as ipsec_dp

    return ipsec_dp()


if __name__ == "__main__":
    sys.exit(main())
