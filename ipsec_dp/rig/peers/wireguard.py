"""wireguard-go: WireGuard in user space, one process per network namespace."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipsec_dp.rig.netns import NetnsError
from ipsec_dp.rig.peers import Daemon, PeerError, find, is_unpacked, output_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace

PACKAGES = "wireguard-go wireguard-tools"
START_SECONDS = 20.0
MTU = 1420  # what `wg-quick` sets below an outer MTU of 1500


def key_pair() -> tuple[str, str]:
    """A new private key and its public key, in WireGuard's base64."""
    wg = find("wg", PACKAGES)
    private = output_of(wg, "genkey").strip()
    return private, output_of(wg, "pubkey", stdin=private).strip()


@dataclass
class WireGuard:
    """One wireguard-go. `configuration` is what `wg setconf` takes; the interface gets routes to `remote`.

    `program` names another build of wireguard-go than the one of the package. `usr`: it is the one in there, with its wg, which run
    with that /usr, and not that of the unpacked peers or of the host.
    """

    namespace: Namespace
    directory: Path
    interface: str
    configuration: str
    remote: Sequence[str]
    program: str = "wireguard-go"
    usr: Path | None = None
    daemon: Daemon = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.daemon = Daemon(self.namespace, self.directory, {"LOG_LEVEL": "error"})

    def start(self) -> None:
        """Starts it, sets it up and routes to the peer. PeerError with its log."""
        program, wg = self._found(self.program), self._found("wg")
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "wireguard.conf").touch(mode=0o600)
        (self.directory / "wireguard.conf").write_text(self.configuration)
        socket = self.daemon.run_directory / "wireguard" / f"{self.interface}.sock"
        self.daemon.unpacked, self.daemon.usr = is_unpacked(program) or is_unpacked(wg), self.usr
        self.daemon.start(program, "--foreground", self.interface)
        self.daemon.wait_for(socket.exists, START_SECONDS, "up")
        try:
            self.daemon.run(wg, "setconf", self.interface, str(self.directory / "wireguard.conf"))
            routes = (f"route add {prefix} dev {self.interface}" for prefix in self.remote)
            self.namespace.ip(f"link set {self.interface} mtu {MTU} up", *routes)
        except NetnsError as error:
            raise PeerError(f"{error}\n{self.text()}") from error

    def _found(self, name: str) -> str:
        """What is run for a program's name. PeerError when it is not there."""
        if self.usr is None:
            return find(name, PACKAGES)
        if shutil.which(name, path=str(self.usr / "bin")) is None:
            raise PeerError(f"{self.usr} holds no {name}")
        return f"/usr/bin/{name}"  # as it is called where that is /usr

    def text(self) -> str:
        """Its log."""
        return self.daemon.text()

    def stop(self) -> None:
        """Ends it; its interface goes with it."""
        self.daemon.stop()
