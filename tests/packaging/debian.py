"""A small Debian below a directory: apt, dpkg, their locks and two packages, one of which would be a service of the host.

apt and dpkg-query are the real ones. dpkg itself is a stand-in that writes down how it was called, so nothing is ever installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.packaging.openpgp import Signer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "packages.sh"
ARCHITECTURE = subprocess.run(("dpkg", "--print-architecture"), capture_output=True, text=True, check=True).stdout.strip()
DATE = "Tue, 14 Nov 2023 22:13:20 UTC"
PROGRAMS = """
    apt-get bash cat chmod cmp cp cut dpkg-deb dpkg-query env find gpgv grep gzip head id ln mkdir mktemp mv readlink rm sed sh
    sleep sort tar touch tr true uname wc xz zstd
""".split()
# What debhelper makes of a package with a unit: the first installation enables it for the next boot.
POSTINST = """\
#!/bin/sh
mkdir -p "$DPKG_ROOT/etc/systemd/system/multi-user.target.wants" "$DPKG_ROOT/etc/rc3.d"
ln -s /lib/systemd/system/serviced.service "$DPKG_ROOT/etc/systemd/system/multi-user.target.wants/serviced.service"
ln -s ../init.d/serviced "$DPKG_ROOT/etc/rc3.d/S01serviced"
"""
SERVICED = {
    "DEBIAN/control": "Package: serviced\nVersion: 1\nArchitecture: all\nMaintainer: a\nDepends: libserviced\nDescription: a\n",
    "DEBIAN/postinst": POSTINST,
    "usr/sbin/serviced": "#!/bin/sh\n",
    "lib/systemd/system/serviced.service": "[Service]\nExecStart=/usr/sbin/serviced\n[Install]\nWantedBy=multi-user.target\n",
    "etc/init.d/serviced": "#!/bin/sh\n",
}
LIBRARY = {
    "DEBIAN/control": "Package: libserviced\nVersion: 2\nArchitecture: all\nMaintainer: a\nDescription: a\n",
    "lib/libserviced.so": "",
}
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
# Directories that apt and dpkg want to find, below /.
DIRECTORIES = """
    etc/apt/apt.conf.d etc/apt/preferences.d var/cache/apt/archives/partial var/lib/apt/lists/partial var/lib/dpkg/updates
    var/log/apt
""".split()


def contents(directory: Path) -> dict[str, bytes | str]:
    """Every file below a directory with what it holds, every link with where it leads."""
    return {
        str(path.relative_to(directory)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


class Debian:
    """`root` is what would be the host's /; `programs` all that is in PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.root, self.programs = directory, directory / "root", directory / "bin"
        self.locks = {
            "lists": self.root / "var/lib/apt/lists/lock",
            "archives": self.root / "var/cache/apt/archives/lock",
            "frontend": self.root / "var/lib/dpkg/lock-frontend",
            "dpkg": self.root / "var/lib/dpkg/lock",
        }
        for name in DIRECTORIES:
            (self.root / name).mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        self.programs.mkdir()
        for program in PROGRAMS:
            if path := shutil.which(program):
                (self.programs / program).symlink_to(path)
        real = shutil.which("dpkg")
        self.stub(
            "dpkg",
            f'case "$*" in *--print-*) ;; *--compare*) exec {real} "$@" ;; *) echo "$*" >>{directory}/dpkg.log ;; esac\n',
        )
        self.stub("id", "echo 0\n")
        self._repository()
        (directory / "apt.conf").write_text(
            f'Dir "{self.root}";\nDir::State::status "{self.root}/var/lib/dpkg/status";\n'
            f'Dir::Bin::dpkg "{self.programs}/dpkg";\nAPT::Sandbox::User "root";\n'
        )

    def stub(self, name: str, script: str) -> None:
        """Puts a program into PATH instead of the real one."""
        (self.programs / name).unlink(missing_ok=True)
        (self.programs / name).write_text(f"#!/bin/sh\n{script}")
        (self.programs / name).chmod(0o755)

    def _repository(self) -> None:
        repository = self.directory / "repository"
        repository.mkdir()
        entries = []
        for files in (SERVICED, LIBRARY):
            name = files["DEBIAN/control"].split()[1]
            for path, text in files.items():
                file = self.directory / "build" / name / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                file.chmod(0o4755 if "sbin" in path else 0o755)
            deb = repository / f"{name}.deb"
            build = ("dpkg-deb", "--root-owner-group", "-b", str(self.directory / "build" / name), str(deb))
            subprocess.run(build, check=True, capture_output=True)
            digest = hashlib.sha256(deb.read_bytes()).hexdigest()
            entries.append(f"{files['DEBIAN/control']}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")
        (repository / "Packages").write_text("\n".join(entries))
        (self.root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")

    def suite(self, name: str) -> Path:
        """Another suite, with the same packages and signed; the keyring for it. Its mirror is `directory`/mirror."""
        mirror, signer = self.directory / "mirror", Signer()
        index = mirror / "dists" / name / "main" / f"binary-{ARCHITECTURE}" / "Packages"
        index.parent.mkdir(parents=True)
        index.write_text((self.directory / "repository/Packages").read_text().replace("./", "pool/"))
        (mirror / "pool").symlink_to(self.directory / "repository")
        files = f" {hashlib.sha256(index.read_bytes()).hexdigest()} {index.stat().st_size} main/binary-{ARCHITECTURE}/Packages\n"
        release = (
            f"Origin: Debian\nCodename: {name}\nArchitectures: {ARCHITECTURE}\nComponents: main\nDate: {DATE}\nSHA256:\n{files}"
        )
        (mirror / "dists" / name / "Release").write_text(release)
        (mirror / "dists" / name / "Release.gpg").write_bytes(signer.sign(release.encode()))
        keyring = self.directory / f"{name}.gpg"
        keyring.write_bytes(signer.keyring)
        return keyring

    def installed(self, *names: str) -> None:
        """Has dpkg believe that these are installed."""
        entry = "Package: {}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: a\n"
        (self.root / "var/lib/dpkg/status").write_text("\n".join(map(entry.format, names)))

    def arm(self) -> None:
        """What installing the package that brings a service would do beside unpacking it."""
        control = self.directory / "control"
        subprocess.run(("dpkg-deb", "-e", str(self.directory / "repository/serviced.deb"), str(control)), check=True)
        subprocess.run((str(control / "postinst"), "configure"), env={"DPKG_ROOT": str(self.root), "PATH": os.defpath}, check=True)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """tools/packages.sh, in here."""
        environment = {
            "PATH": str(self.programs),
            "TMPDIR": str(self.directory),
            "APT_CONFIG": str(self.directory / "apt.conf"),
            "DPKG_ADMINDIR": str(self.root / "var/lib/dpkg"),
        }
        pipe = subprocess.PIPE
        command = (str(self.programs / "bash"), str(SCRIPT), *arguments)
        return subprocess.Popen(command, env=environment | variables, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The same to its end."""
        process = self.start(*arguments, **variables)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def given_to_dpkg(self) -> str:
        """What apt had dpkg do, "" when nothing."""
        log = self.directory / "dpkg.log"
        return log.read_text() if log.exists() else ""

    @contextlib.contextmanager
    def held(self, lock: str) -> Iterator[subprocess.Popen[str]]:
        """Another program holds one of `locks` until its standard input is closed, or the context is left."""
        command = (sys.executable, "-c", HOLDER, str(self.locks[lock]))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            try:
                yield holder
            finally:
                holder.kill()
