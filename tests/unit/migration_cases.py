"""The sources under migrations/, each in a directory of its own with what is to come of it, and how one is converted.

They are written after public documentation (strongSwan's and Libreswan's examples, what clouds generate, PAN-OS's manuals), with
names, addresses and keys of our own.
"""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from pathlib import Path

from ipsec_dp.config import examine
from ipsec_dp.migrate.ipsec_conf import read_ipsec_conf
from ipsec_dp.migrate.outcome import settle, write_new
from ipsec_dp.migrate.panos import read_panos
from ipsec_dp.migrate.swanctl import read_swanctl
from tests.ike.pki import CA, OpenSsl

SOURCES = Path(__file__).parent / "migrations"
CASES = sorted(path for kind in SOURCES.iterdir() for path in kind.iterdir())
READERS = {"swanctl": read_swanctl, "ipsec_conf": read_ipsec_conf, "panos": read_panos}
NAMES = ("swanctl.conf", "ipsec.conf", "running.set", "export.xml")
# Where each product has certificates, keys, authorities and CRLs; PAN-OS has none outside, and what is exported lies beside.
PLACES = {
    "swanctl": ("x509", "private", "x509ca", "x509crl"),
    "ipsec_conf": ("ipsec.d/certs", "ipsec.d/private", "ipsec.d/cacerts", "ipsec.d/crls"),
    "panos": (".", ".", ".", "."),
}
DIRECTORY = "/DIRECTORY"  # stands in expected.toml for the one of the source


def source_of(directory: Path) -> Path:
    return next(directory / name for name in NAMES if (directory / name).is_file())


@functools.cache
def certificates() -> tempfile.TemporaryDirectory:
    """gw-a.example's certificate and key, its authority and a CRL; made once."""
    directory = tempfile.TemporaryDirectory(prefix="ipsec-dp-migration-")
    pki = OpenSsl(Path(directory.name))
    pki.certificate("ca", "/CN=Example root", extensions=CA)
    pki.crl("ca", "ca")
    pki.certificate("gw-a", "/CN=gw-a", "ca", "subjectAltName=DNS:gw-a.example")
    return directory


def put_certificates(directory: Path, kind: str) -> None:
    """All of these where the product has them."""
    made = Path(certificates().name)
    names = (
        (made / "gw-a.crt", "gw-a.pem"),
        (made / "gw-a.key", "gw-a.key"),
        (made / "ca.crt", "ca.pem"),
        (made / "ca.crl", "ca.crl"),
    )
    for place, (path, name) in zip(PLACES[kind], names, strict=True):
        (directory / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, directory / place / name)
        (directory / place / name).chmod(0o600)


def converted(case: Path, directory: Path):
    """The TOML with the directory's name taken out, the remarks, the outcome, and what `check` says of the result."""
    kind = case.parent.name
    shutil.copytree(case, directory)
    if "gw-a" in source_of(directory).read_text():
        put_certificates(directory, kind)
    draft = READERS[kind](source_of(directory))
    target = directory / "result.toml"
    outcome = settle(draft, target, f"Of {case.name}.", with_secrets=True)
    write_new(target, outcome.text.encode())
    remarks = "".join(f"{'- ' if each.kind == 'left out' else 'note '}{each}\n" for each in outcome.remarks)
    _, findings = examine(target)
    text = re.sub(r" +#", "  #", outcome.text.replace(str(directory), DIRECTORY))  # whatever the length of the directory's name
    return text, remarks.replace(str(directory), DIRECTORY), outcome, findings
