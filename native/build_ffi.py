"""Builds ``ipsec_dp._native``, the one cffi API-mode module: what Python sees of the C core.

Its declarations are the C preprocessor's output of ``native/dp.h``, so they are written once. setup.py takes :func:`ffibuilder`
from here; as a script this file builds without pip, and only what changed:

    python native/build_ffi.py                        in place, into ipsec_dp/
    python native/build_ffi.py --output DIR           into DIR/ipsec_dp/
    SANITIZE=address,undefined python native/build_ffi.py   instrumented, into build/sanitize/address,undefined/ipsec_dp/

``IPSEC_DP_WITHOUT_IPSEC_MB=1`` leaves intel-ipsec-mb out; ``CC`` names another compiler.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cffi

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
NATIVE = Path("native")  # setuptools wants sources relative to the project's root, which is the working directory of every build
RELEASE_CFLAGS = ["-O3", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fstack-clash-protection"]
RELEASE_LDFLAGS = ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]
# Python's own flags come first: -fwrapv would hide signed overflow from the sanitizer, -DNDEBUG the assertions. Fortified calls
# bypass the sanitizer's interceptors.
SANITIZE_CFLAGS = ["-O1", "-fno-wrapv", "-UNDEBUG", "-U_FORTIFY_SOURCE", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
# What cffi generates, and the interpreter's headers before it, do not follow the warnings that our own sources do.
WRAPPER = """
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#include "dp.h"
"""


class Need(NamedTuple):
    """Something the build takes from the system, how to see that it is there, and the Debian package that brings it."""

    what: str
    package: str
    source: str
    libraries: tuple[str, ...] = ()
    include: str | None = None


COMPILER = Need("a C compiler", "gcc libc6-dev", "#include <stdint.h>\nint main(void) { return 0; }\n")
HEADERS = (
    Need("Python.h", "python3-dev", "#include <Python.h>\nint main(void) { return 0; }\n", include=sysconfig.get_path("include")),
    Need(
        "OpenSSL",
        "libssl-dev",
        "#include <openssl/evp.h>\nint main(void) { return EVP_aes_128_gcm() == NULL; }\n",
        libraries=("crypto",),
    ),
)
IPSEC_MB = Need(
    "intel-ipsec-mb",
    "libipsec-mb-dev",
    "#include <intel-ipsec-mb.h>\nint main(void) { return alloc_mb_mgr(0) == NULL; }\n",
    libraries=("IPSec_MB",),
)


def compiler() -> list[str]:
    """The C compiler's command line: ``CC``, else the interpreter's own, else cc."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def with_ipsec_mb() -> bool:
    """intel-ipsec-mb is an x86-64 library; elsewhere, or when asked, OpenSSL does all."""
    return platform.machine() == "x86_64" and os.environ.get("IPSEC_DP_WITHOUT_IPSEC_MB", "") in ("", "0")


def is_there(need: Need) -> bool:
    """Whether a program that needs it compiles and links."""
    include = ["-I", need.include] if need.include else []
    libraries = [f"-l{library}" for library in need.libraries]
    command = [*compiler(), "-x", "c", "-o", os.devnull, *include, "-", *libraries]
    try:
        return subprocess.run(command, input=need.source.encode(), capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def check_system() -> None:
    """Exits with one sentence for each missing part and the line that installs them all."""
    missing = [] if is_there(COMPILER) else [COMPILER]
    if not missing:
        missing = [need for need in (*HEADERS, *([IPSEC_MB] if with_ipsec_mb() else [])) if not is_there(need)]
    if not missing:
        return
    lines = [f"ipsec-dp cannot be built: {need.what} is missing (Debian package {need.package})" for need in missing]
    if IPSEC_MB in missing:
        lines.append("  (IPSEC_DP_WITHOUT_IPSEC_MB=1 builds without intel-ipsec-mb: OpenSSL alone, which is slower)")
    lines.append("Install what is missing and try again:  apt-get install -y " + " ".join(need.package for need in missing))
    raise SystemExit("\n".join(lines))


def declarations() -> str:
    """What dp.h declares, as cffi's parser reads it: no directives, no system headers."""
    command = [*compiler(), "-E", "-P", "-DDP_CFFI", str(NATIVE / "dp.h")]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def ffibuilder() -> cffi.FFI:
    """The extension, ready for setuptools. Exits with a message when the system lacks something."""
    return extension()


def extension(more_sources: Sequence[str] = (), more_ldflags: Sequence[str] = ()) -> cffi.FFI:
    """The same with further sources and linker flags, which no distribution ever has: a benchmark replaces one cipher so."""
    check_system()
    cflags = (NATIVE / "cflags").read_text().split()
    ldflags: list[str] = []
    if sanitizers := os.environ.get("SANITIZE"):
        cflags += [*SANITIZE_CFLAGS, f"-fsanitize={sanitizers}"]
        ldflags += [f"-fsanitize={sanitizers}"]
    else:
        cflags += RELEASE_CFLAGS
        ldflags += RELEASE_LDFLAGS
    needs = [HEADERS[1], *([IPSEC_MB] if with_ipsec_mb() else [])]
    builder = cffi.FFI()
    builder.cdef(declarations())
    builder.set_source(
        "ipsec_dp._native",
        WRAPPER,
        sources=[*sorted(str(path) for path in NATIVE.glob("*.c")), *more_sources],
        depends=[*sorted(str(path) for path in NATIVE.glob("*.h")), "native/cflags", "native/build_ffi.py"],
        include_dirs=[str(NATIVE)],
        define_macros=[("DP_HAVE_IPSEC_MB", "1")] if with_ipsec_mb() else [],
        libraries=[library for need in needs for library in need.libraries],
        extra_compile_args=["-pthread", *cflags],
        extra_link_args=["-pthread", *ldflags, *more_ldflags],
    )
    return builder


def main() -> None:
    """Runs setuptools' build_ext, which compiles only when a source is newer than the extension."""
    sanitizers = os.environ.get("SANITIZE")
    parser = argparse.ArgumentParser(description="Build ipsec_dp._native without pip.")
    parser.add_argument("--output", type=Path, default=Path("build/sanitize") / sanitizers if sanitizers else None)
    output = parser.parse_args().output
    where = ["--build-lib", str(output.resolve())] if output else ["--inplace"]
    temp = "build/temp-" + (sanitizers or "release")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", temp, *where]
    raise SystemExit(subprocess.run(command, cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
