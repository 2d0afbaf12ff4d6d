"""The kernel's own ESP and WireGuard, where it has them: no process, so their cost is seen in the whole machine's only."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import subprocess
from typing import TYPE_CHECKING

from benchmarks.tunnels.variants import IPV6, Variant
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import find, wireguard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace, TwoSites

WIREGUARD, ESP = "wg0", "ipsec0"
IF_ID = 7
ESP_MTU = 1446  # of 1,500: outer header 20, ESP 8 + 8, ICV 16, trailer 2
SPIS = (0x1001, 0x1002)  # from A, from B
CIPHERS = {  # strongSwan's keyword -> the kernel's name, octets of key and salt
    "aes128gcm16": ("rfc4106(gcm(aes))", 20),
    "aes256gcm16": ("rfc4106(gcm(aes))", 36),
    "chacha20poly1305": ("rfc7539esp(chacha20,poly1305)", 36),
}


def _works(*commands: str) -> bool:
    """Whether `ip` obeys in a network namespace that goes away with it."""
    script = " && ".join(f"ip {command}" for command in commands)
    with contextlib.suppress(OSError):
        return (
            subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, timeout=20, check=False).returncode == 0
        )
    return False


def has_wireguard() -> bool:
    return _works(f"link add {WIREGUARD} type wireguard")


def has_esp() -> bool:
    return _works(f"link add {ESP} type xfrm dev lo if_id {IF_ID}", f"xfrm {shlex.join(_state(0, 'aes128gcm16', bytes(20)))}")


def start_wireguard(gateway: Namespace, directory: Path, configuration: str, remote: Iterable[str]) -> None:
    """Sets the interface up in the namespace of a gateway."""
    file = directory / f"{gateway.label}.conf"
    file.touch(mode=0o600)
    file.write_text(configuration)
    gateway.ip(f"link add {WIREGUARD} type wireguard")
    gateway.run(find("wg", wireguard.PACKAGES), "setconf", WIREGUARD, str(file))
    routes = (f"route add {prefix} dev {WIREGUARD}" for prefix in remote)
    gateway.ip(f"link set {WIREGUARD} mtu {wireguard.MTU} up", *routes)


def _state(side: int, cipher: str, key: bytes) -> list[str]:
    """The SA from that side (0: A) to the other, the same on both."""
    outer = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0])
    name, _ = CIPHERS[cipher]
    ends = ["src", outer[side], "dst", outer[1 - side]]
    algorithm = ["aead", name, f"0x{key.hex()}", "128"]
    return ["state", "add", *ends, "proto", "esp", "spi", hex(SPIS[side]), "mode", "tunnel", "if_id", str(IF_ID), *algorithm]


def _policies(side: int, versions: Sequence[int]) -> Iterator[list[str]]:
    outer = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0])
    nets = (netns.SITE_A_NETS, netns.SITE_B_NETS)
    for at in versions:
        for direction in ("out", "in", "fwd"):
            here, there = (side, 1 - side) if direction == "out" else (1 - side, side)
            template = ["tmpl", "src", outer[here], "dst", outer[there], "proto", "esp", "mode", "tunnel"]
            selector = ["src", nets[here][at], "dst", nets[there][at], "dir", direction]
            yield ["policy", "add", *selector, "if_id", str(IF_ID), *template]


def esp_commands(side: int, cipher: str, keys: tuple[bytes, bytes], version: int) -> tuple[list[list[str]], list[str]]:
    """What `ip xfrm` and then `ip` are told on one side (0: A). `keys`: from A, from B."""
    versions = (0, 1) if version == IPV6 else (0,)
    remote = (netns.SITE_B_NETS, netns.SITE_A_NETS)[side]
    states = [_state(sender, cipher, keys[sender]) for sender in (0, 1)]
    links = [f"link add {ESP} type xfrm dev wan if_id {IF_ID}", f"link set {ESP} mtu {ESP_MTU} up"]
    return [*states, *_policies(side, versions)], [*links, *(f"route add {remote[at]} dev {ESP}" for at in versions)]


def start_esp(sites: TwoSites, variant: Variant) -> None:
    """Manual keys, new ones, behind an interface on both gateways."""
    octets = CIPHERS[variant.cipher][1]
    keys = (secrets.token_bytes(octets), secrets.token_bytes(octets))
    for side, gateway in enumerate((sites.gw_a, sites.gw_b)):
        xfrm, links = esp_commands(side, variant.cipher, keys, variant.version)
        for command in xfrm:
            gateway.run("ip", "xfrm", *command)
        gateway.ip(*links)


def stop(gateways: Iterable[Namespace], interface: str) -> None:
    """Takes the interface away, and SAs and policies with it."""
    for gateway in gateways:
        gateway.run("ip", "link", "delete", interface, check=False)
        for what in ("state", "policy"):
            gateway.run("ip", "xfrm", what, "flush", check=False)
