"""OpenVPN between two gateways, one process per network namespace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipsec_dp.rig.peers import Daemon, find, is_unpacked, output_of

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace

PACKAGES = "openvpn openssl"
START_SECONDS = 20.0


def certificate(directory: Path, name: str) -> str:
    """Makes `name`.crt, self-signed, and `name`.key in a directory; the certificate's SHA-256 fingerprint as OpenVPN writes it."""
    openssl = find("openssl", PACKAGES)
    crt, key = directory / f"{name}.crt", directory / f"{name}.key"
    key.touch(mode=0o600)
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    output_of(openssl, "req", "-x509", *new_key, "-subj", f"/CN={name}", "-days", "2", "-keyout", str(key), "-out", str(crt))
    return output_of(openssl, "x509", "-in", str(crt), "-noout", "-fingerprint", "-sha256").strip().rpartition("=")[2]


@dataclass
class OpenVpn:
    """One OpenVPN. `configuration` is the whole file; file names in it are relative to `directory`."""

    namespace: Namespace
    directory: Path
    interface: str
    configuration: str
    daemon: Daemon = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.daemon = Daemon(self.namespace, self.directory)

    def start(self) -> None:
        """Starts it. The tunnel stands when packets come through, which its log does not tell at the lowest level. PeerError."""
        program = find("openvpn", PACKAGES)
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "openvpn.conf").write_text(self.configuration)
        self.daemon.unpacked = is_unpacked(program)
        self.daemon.start(program, "--cd", str(self.directory), "--config", "openvpn.conf")
        self.daemon.wait_for(self._has_interface, START_SECONDS, "up")

    def _has_interface(self) -> bool:
        return self.namespace.run("ip", "link", "show", "dev", self.interface, check=False).returncode == 0

    def text(self) -> str:
        """Its log."""
        return self.daemon.text()

    def stop(self) -> None:
        """Ends it; its interface goes with it."""
        self.daemon.stop()
