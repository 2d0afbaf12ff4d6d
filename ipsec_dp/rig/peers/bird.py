"""BIRD 2, the routing daemon: one per network namespace, with a configuration, socket and pid file of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipsec_dp.rig.netns import NetnsError
from ipsec_dp.rig.peers import Daemon, PeerError, find, is_unpacked

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace

PACKAGES = "bird2"
START_SECONDS = 20.0


@dataclass
class Bird:
    """One BIRD. `configuration` is the whole of bird.conf; it logs to `directory`/log when it is configured to log to stderr."""

    namespace: Namespace
    directory: Path
    configuration: str
    daemon: Daemon = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.daemon = Daemon(self.namespace, self.directory)

    @property
    def socket(self) -> Path:
        return self.directory / "bird.ctl"

    def start(self) -> None:
        """Starts it; PeerError with its log when it refuses the configuration."""
        conf = self.directory / "bird.conf"
        conf.write_text(self.configuration)
        self.socket.unlink(missing_ok=True)
        files = ("-c", str(conf), "-s", str(self.socket), "-P", str(self.directory / "bird.pid"))
        bird = find("bird", PACKAGES)
        self.daemon.unpacked = is_unpacked(bird)
        self.daemon.start(bird, "-f", *files)
        self.daemon.wait_for(self._answers, START_SECONDS, "up")

    def _answers(self) -> bool:
        """The socket is there before the configuration is read."""
        try:
            return "up and running" in self.show("status")
        except PeerError:
            return False

    def show(self, what: str) -> str:
        """What `birdc show WHAT` prints. PeerError when it refuses."""
        try:
            return self.daemon.run(find("birdc", PACKAGES), "-r", "-s", str(self.socket), "show", *what.split())
        except NetnsError as error:
            raise PeerError(f"{error}\n{self.text()}") from error

    def text(self) -> str:
        """Its log."""
        return self.daemon.text()

    def stop(self) -> None:
        """Ends it; the routes that it made go with it."""
        self.daemon.stop()
