"""Programs of others themselves, at work in a namespace beside a gateway: systemd-networkd and firewalld.

systemd-networkd removes what is not its own once udev has told it of a link; here a file as udev's does. It manages an interface of
its own, `spare`. firewalld needs a bus, which is one of its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ipsec_dp.rig.peers import Daemon, find, is_unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.rig.netns import Namespace

NETWORK = """[Match]
Name=spare
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
INDICES = 256  # of interfaces, at the most
USER = "systemd-network:x:998:998::/:/usr/sbin/nologin\n"  # which networkd becomes
# Read only, /sys would mean that no udev is there.
BEFORE = 'mount -o remount,rw /sys && mount --bind "$0" /etc/passwd && exec "$@"'
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""
START_S = 20.0


@contextmanager
def networkd(gateway: Namespace, directory: Path) -> Iterator[Daemon]:
    """systemd-networkd; its log says what it removes."""
    daemon = Daemon(gateway, directory, {"SYSTEMD_LOG_LEVEL": "debug", "SYSTEMD_LOG_TARGET": "console"})
    for name, text in {
        "systemd/network/10-spare.network": NETWORK,
        "udev/control": "",
        **{f"udev/data/n{number}": "I:1\n" for number in range(1, INDICES)},
    }.items():
        file = daemon.run_directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    users, known = directory / "passwd", Path("/etc/passwd").read_text()
    users.write_text(known if "systemd-network:" in known else known + USER)
    gateway.ip("link add spare type veth peer name spare1", "link set spare1 up", "link set spare up")
    try:
        program = find("systemd-networkd", "systemd", "/lib/systemd:/usr/lib/systemd")
        daemon.unpacked = is_unpacked(program)
        command = ("unshare", "--mount", "sh", "-c", BEFORE, str(users), *daemon.argv(program))
        with daemon.log.open("ab") as log:
            daemon.process = gateway.spawn(*command, stdout=log, stderr=log)
        daemon.wait_for(lambda: "spare: State changed: configuring -> configured" in daemon.text(), START_S, "done with its link")
        yield daemon
    finally:
        daemon.stop()
        gateway.ip("link delete spare")


@contextmanager
def firewalld(gateway: Namespace, directory: Path) -> Iterator[Callable[..., str]]:
    """firewalld, which lets everything pass; what it gives is `firewall-cmd`."""
    settings, log = directory / "settings", directory / "firewalld.log"
    settings.mkdir(parents=True)
    (settings / "firewalld.conf").write_text("DefaultZone=trusted\n")
    (directory / "bus.conf").write_text(BUS)
    program, command = find("firewalld", "firewalld"), find("firewall-cmd", "firewalld")
    bus, daemon = (Daemon(gateway, directory, unpacked=is_unpacked(program)) for _ in range(2))
    (bus.run_directory / "dbus").mkdir(parents=True)
    try:
        bus.start(find("dbus-daemon", "dbus-daemon"), "--nofork", f"--config-file={directory / 'bus.conf'}")
        bus.wait_for((bus.run_directory / "dbus/system_bus_socket").exists, START_S, "listening")
        files = ("--system-config", str(settings), "--log-target", "file", "--log-file", str(log))
        daemon.start(program, "--nofork", "--nopid", *files)
        daemon.wait_for(lambda: "table inet firewalld" in gateway.run("nft", "list", "tables").stdout, START_S, "at work")
        yield lambda *options: daemon.run(command, *options)
    finally:
        daemon.stop()
        bus.stop()
