"""What the Python fuzz targets have in common: seeds, time, and where findings go."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def run(name: str, receive: Callable[[bytes], None], seeds: Iterable[bytes], *, longest: int = 4096) -> None:
    """Hands `receive` to libFuzzer for FUZZ_SECONDS (default 60); inputs have `longest` octets at the most.

    The corpus stays in build/fuzz/corpus/NAME. A finding goes to build/fuzz/ and makes the exit status non-zero.
    """
    corpus = Path("build/fuzz/corpus") / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    seconds = os.environ.get("FUZZ_SECONDS", "60")
    options = [f"-max_total_time={seconds}", f"-max_len={longest}", f"-artifact_prefix=build/fuzz/{name}-", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus), *sys.argv[1:]], receive)
    atheris.Fuzz()
