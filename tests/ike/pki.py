"""A public key infrastructure for tests, made with the `openssl` and `pki` programs in a temporary directory."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ipsec_dp.rig.peers import UNPACKED, find, is_unpacked

NOW = datetime.now(UTC) + timedelta(hours=2)  # what the tests take for now: later than all they make, however long they run
KEYS = {
    "ec": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ec384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "ed25519": ["-algorithm", "ED25519"],
    "ed448": ["-algorithm", "ED448"],
    "x448": ["-algorithm", "X448"],
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "rsa1024": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
}
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign"


def run(*command: object) -> bytes:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True).stdout


def pki_program(configuration: Path) -> tuple[object, ...]:
    """strongSwan's tool, with the /usr that has its plugins, and this file in the place of that in /etc."""
    path = find("pki", "strongswan-pki")
    if not is_unpacked(path):
        return (path,)
    configuration.touch()
    within = ("unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /usr; exec "$@"', UNPACKED / "usr")
    return ("env", f"STRONGSWAN_CONF={configuration}", *within, "/usr/bin/pki")


class OpenSsl:
    """Keys and certificates by name: NAME.key and NAME.crt in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        return self.directory / name

    def key(self, name: str, kind: str = "ec") -> Path:
        path = self.path(f"{name}.key")
        run("openssl", "genpkey", *KEYS[kind], "-out", path)
        path.chmod(0o600)
        return path

    def certificate(self, name: str, subject: str, issuer: str | None = None, extensions: str = "", kind: str = "ec") -> Path:
        """Self-signed without `issuer`. `extensions` are lines of an openssl extension section."""
        key = self.key(name, kind)
        request, config, out = self.path(f"{name}.csr"), self.path(f"{name}.ext"), self.path(f"{name}.crt")
        config.write_text(extensions + "\n")
        run("openssl", "req", "-new", "-utf8", "-key", key, "-subj", subject, "-out", request)
        signer = ["-signkey", key] if issuer is None else ["-CA", self.path(f"{issuer}.crt"), "-CAkey", self.path(f"{issuer}.key")]
        serial = [] if issuer is None else ["-CAcreateserial"]
        run("openssl", "x509", "-req", "-in", request, *signer, *serial, "-days", "365", "-extfile", config, "-out", out)
        return out

    def crl(self, name: str, issuer: str, revoked: tuple[str, ...] = (), extensions: str = "") -> Path:
        """NAME.crl, good for an hour from now."""
        database, config, out = self.path(f"{name}.index"), self.path(f"{name}.cnf"), self.path(f"{name}.crl")
        database.write_text("")
        config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={database}\ndefault_md=sha256\n[e]\n{extensions}\n")
        ca = ["-config", config, "-cert", self.path(f"{issuer}.crt"), "-keyfile", self.path(f"{issuer}.key")]
        for certificate in revoked:
            run("openssl", "ca", *ca, "-revoke", self.path(f"{certificate}.crt"))
        run("openssl", "ca", *ca, "-gencrl", "-crlhours", "12", *(["-crlexts", "e"] if extensions else []), "-out", out)
        return out
