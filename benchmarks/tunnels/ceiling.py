"""The I/O ceiling: our gateway with an extension whose AEAD only copies, so that what is left is the cost of everything else.

Run as a program, it is `ipsec-dp` on that extension. It is built below build/ by `build` alone and is no part of the package.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "ceiling"
EXTENSION = OUTPUT / "ipsec_dp" / "_native.abi3.so"
PROGRAM = (sys.executable, "-m", "benchmarks.tunnels.ceiling")


def is_built() -> bool:
    """Whether the extension is there."""
    return EXTENSION.exists()
