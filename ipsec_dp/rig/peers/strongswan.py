"""strongSwan with its userspace ESP (kernel-libipsec): one charon per network namespace.

charon insists on /run for its pid file and socket, so each has a mount namespace of its own. Its userspace ESP exists in UDP only
(a connection needs `encap = yes` where nothing translates addresses), has no ESN and no anti-replay window above 128, and shows as
a TUN device ipsec0.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from ipsec_dp.rig.netns import NetnsError
from ipsec_dp.rig.peers import SEARCH, Daemon, PeerError, find, is_unpacked
from ipsec_dp.rig.peers.vici import Message, Vici, ViciError

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace

PACKAGES = (
    "strongswan-charon strongswan-swanctl strongswan-pki libcharon-extra-plugins libstrongswan-standard-plugins "
    "libstrongswan-extra-plugins"
)
CHARON_DIRECTORIES = "/usr/lib/ipsec:/usr/libexec/ipsec:/usr/libexec/strongswan"
START_SECONDS = 20.0
# Subdirectories of SWANCTL_DIR that credentials are loaded from.
CREDENTIALS = ("x509", "x509ca", "x509crl", "private", "rsa", "ecdsa", "pkcs8", "pubkey")

# Named one by one: what Debian enables beside these joins multicast groups, opens TPMs, or answers ARP for others.
PLUGINS = (
    "random nonce aes aesni sha1 sha2 hmac kdf gcm ctr ccm chapoly curve25519 gmp openssl mgf1 x509 revocation constraints pubkey "
    "pkcs1 pkcs7 pkcs8 pem kernel-libipsec kernel-netlink socket-default vici counters"
)
STRONGSWAN_CONF = f"""\
charon {{
    load = {PLUGINS}
    filelog {{
        stderr {{
            default = 1
            flush_line = yes
        }}
    }}
}}
"""


@dataclass
class StrongSwan:
    """One strongSwan. `swanctl_conf` is the whole file; `strongswan_conf` comes after STRONGSWAN_CONF and overrides it.

    Credentials are put below `credentials(kind)` before `start`. `usr`: it is the strongSwan in there, which runs with that /usr,
    and not the one of the unpacked peers or of the host.
    """

    namespace: Namespace
    directory: Path
    swanctl_conf: str
    strongswan_conf: str = ""
    usr: Path | None = None
    daemon: Daemon = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        environment = {
            "STRONGSWAN_CONF": str(self.directory / "strongswan.conf"),
            "SWANCTL_DIR": str(self.directory / "swanctl"),
        }
        self.daemon = Daemon(self.namespace, self.directory, environment)

    def credentials(self, kind: str) -> Path:
        """The directory that charon loads these from: one of CREDENTIALS."""
        directory = self.directory / "swanctl" / kind
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    @property
    def socket(self) -> Path:
        return self.daemon.run_directory / "charon.vici"

    def start(self) -> None:
        """Starts charon and loads its connections. PeerError with its log."""
        for kind in CREDENTIALS:
            self.credentials(kind)
        (self.directory / "strongswan.conf").write_text(STRONGSWAN_CONF + self.strongswan_conf)
        self.socket.unlink(missing_ok=True)
        charon = self._found("charon", CHARON_DIRECTORIES)
        self.daemon.unpacked, self.daemon.usr = is_unpacked(charon), self.usr
        self.daemon.start(self._copied("charon", charon))
        self.daemon.wait_for(self._listens, START_SECONDS, "up")
        self.load(self.swanctl_conf)

    def _found(self, name: str, search: str = SEARCH) -> str:
        """The path of one of its programs. PeerError when it is not there."""
        if self.usr is None:
            return find(name, PACKAGES, search)
        directories = [f"{self.usr}{one.removeprefix('/usr')}" for one in search.split(":") if one.startswith("/usr/")]
        path = shutil.which(name, path=":".join(directories))
        if path is None:
            raise PeerError(f"{self.usr} holds no {name}")
        return path

    def _copied(self, name: str, program: str) -> str:
        """A copy: where AppArmor confines the installed program to files in /etc, it does so by the program's path."""
        copy = self.directory / "bin" / name
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            shutil.copy2(program, copy)
        return str(copy)

    def _listens(self) -> bool:
        try:
            Vici(self.socket).close()
        except ViciError:
            return False
        return True

    def load(self, swanctl_conf: str) -> None:
        """Replaces connections and credentials; PeerError when swanctl or charon dislike one."""
        self.swanctl_conf = swanctl_conf
        (self.directory / "swanctl" / "swanctl.conf").write_text(swanctl_conf)
        swanctl = self._copied("swanctl", self._found("swanctl"))
        try:
            self.daemon.run(swanctl, "--load-all", "--clear", "--noprompt", "--uri", "unix:///run/charon.vici")
        except NetnsError as error:
            raise PeerError(f"{error}\n{self.text()}") from error

    def command(self, name: str, **arguments: str) -> Message:
        """One vici command. PeerError with the log when it fails."""
        try:
            with Vici(self.socket) as vici:
                return vici.command(name, {key.replace("_", "-"): value for key, value in arguments.items()})
        except ViciError as error:
            raise PeerError(f"{self.namespace.label}: {error}\n{self.text()}") from error

    def initiate(self, child: str, *, seconds: float = 10.0) -> None:
        """Negotiates a CHILD_SA, and the IKE_SA that it needs."""
        self.command("initiate", child=child, timeout=str(int(seconds * 1000)))

    def rekey(self, *, child: str | None = None, ike: str | None = None) -> None:
        """Starts a rekey of SAs of a configuration's name and returns; `list_sas` shows when there are new ones."""
        self.command("rekey", **({"child": child} if child else {}), **({"ike": ike} if ike else {}))

    def terminate(self, *, child: str | None = None, ike: str | None = None, seconds: float = 10.0) -> None:
        """Deletes SAs of a configuration's name."""
        names = {**({"child": child} if child else {}), **({"ike": ike} if ike else {})}
        self.command("terminate", timeout=str(int(seconds * 1000)), **names)

    def list_sas(self) -> list[tuple[str, Message]]:
        """The IKE_SAs as (configuration's name, what charon tells of it); CHILD_SAs are in "child-sas"."""
        with Vici(self.socket) as vici:
            return [
                (name, sa) for event in vici.stream("list-sas", "list-sa") for name, sa in event.items() if isinstance(sa, dict)
            ]

    def children(self, state: str = "INSTALLED") -> list[Message]:
        """The CHILD_SAs in this state, of all IKE_SAs."""
        found: list[Message] = []
        for _, sa in self.list_sas():
            children = sa.get("child-sas", {})
            if isinstance(children, dict):
                found += [child for child in children.values() if isinstance(child, dict) and child.get("state") == state]
        return found

    def text(self) -> str:
        """charon's log."""
        return self.daemon.text()

    def stop(self) -> None:
        """Ends charon; it deletes its SAs and tells the peer."""
        self.daemon.stop()

    def kill(self) -> None:
        """Ends charon without a message to the peer."""
        self.daemon.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
