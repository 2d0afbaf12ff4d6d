"""What a gateway does in a flood: the requests that it has to repeat, the processor time and the memory that it takes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ipsec_dp.host import steering
from ipsec_dp.host.steering import Instruction
from ipsec_dp.ike.octets import Reader
from ipsec_dp.ike.v2.message import parse_header
from ipsec_dp.rig import netns
from tests.netns import used
from tests.netns.flood import NAT_PORT, flood

if TYPE_CHECKING:
    from ipsec_dp.rig.netns import Namespace

OUTER = {4: (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]), 6: (netns.GW_A_OUTER[1], netns.GW_B_OUTER[1])}
NOWHERE = ("route add blackhole 20.0.0.0/8", "route add blackhole 2a00::/8")
# Of a packet socket (<linux/bpf_common.h>, <linux/filter.h>, <linux/if_packet.h>): what this host sends.
OUTGOING = (Instruction(0x20, 0xFFFFF004), Instruction(0x15, 4, 0, 1), Instruction(0x06, 0xFFFF), Instruction(0x06, 0))
FORGED_RATE = 3000
FLOOD_RATE = 20_000
OWN_RATE = 5000
SHORT_S, LONG_S = 12.0, 600.0
ETH_P_ALL = 3  # <linux/if_ether.h>


def watching(interval):
    return f'  liveness = {{ interval = "{interval}", retries = 1, action = "clear" }}'


class Requests:
    """The IKE requests that leave by an interface while the block runs: each once, unless its answer was late."""

    def __init__(self, namespace: Namespace, interface: str, version: int) -> None:
        self._namespace, self._interface = namespace, interface
        self._begin = 20 if version == 4 else 40
        self.sent: dict[tuple[bytes, int], int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def repeated(self) -> list[int]:
        """Message IDs of those that had to be sent again."""
        return [message_id for (_, message_id), times in self.sent.items() if times > 1]

    def _run(self) -> None:
        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            steering.attach(made, steering.SO_ATTACH_FILTER, OUTGOING)
            made.bind((self._interface, ETH_P_ALL))
            made.settimeout(0.2)
            return made

        with self._namespace.call(opened) as tap:
            while not self._over.is_set():
                try:
                    self._note(tap.recv(2048)[self._begin :])
                except TimeoutError:
                    continue

    def _note(self, datagram: bytes) -> None:
        if len(datagram) < 40 or struct.unpack("!H", datagram[:2])[0] not in (500, NAT_PORT):
            return
        message = datagram[8:].removeprefix(bytes(4))
        with contextlib.suppress(Exception):
            header, _ = parse_header(Reader(message), len(message))
            if not header.is_response:
                key = header.spi_i, header.message_id
                self.sent[key] = self.sent.get(key, 0) + 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)


def busy_s(gateway):
    """Processor time of a gateway's threads until now: the control plane's, and all."""
    return used.busy_s(gateway, used.process_of(gateway)), used.busy_s(gateway)


def threads_s(gateway):
    """Processor time of a gateway's threads until now, to the nanosecond, by name; "control": all that are not the data plane's."""
    spent: defaultdict[str, float] = defaultdict(float)
    for name, ns in used.threads(gateway):
        ours = name == "ike-port" or name.startswith("esp")
        spent[name if ours else "control"] += ns / used.NS_PER_S
    return spent


def overflowed(gateway):
    """Datagrams that the kernel has dropped in a gateway's namespace since a socket had no room for them."""
    names, values = (
        row for row in Path(f"/proc/{gateway.process.pid}/net/snmp").read_text().splitlines() if row.startswith("Udp:")
    )
    return int(values.split()[names.split().index("RcvbufErrors")])


def ike_sa(gateway):
    (tunnel,) = gateway.status()["tunnels"]
    return tunnel["state"], tunnel["ike"] and (tunnel["ike"]["spi_i"], tunnel["ike"]["spi_r"])


def lives_through_forged(sites, gateways, version, port, seconds):
    """What the flood did to an idle tunnel whose messages are forged, as a line of figures."""
    gateways.a.wait_negotiated()
    gateways.b.wait_negotiated()
    state, spis = ike_sa(gateways.b)
    assert state == "up"
    (near, far), octets = OUTER[version], bytes.fromhex("".join(spis))
    before, began = busy_s(gateways.b), time.monotonic()
    with Requests(sites.gw_b, "wan", version) as asked:
        forged = FORGED_RATE, seconds, "forged", near
        with flood(sites.gw_a, far, *forged, port=port, source_port=port, spis=octets, message_id=5) as running:
            sent = running.wait(seconds + 20)
    took = time.monotonic() - began
    assert sent > 0.8 * FORGED_RATE * seconds, "the flood is one"
    assert ike_sa(gateways.b) == ("up", spis), gateways.b.text()
    assert len(asked.sent) > 0.6 * took, "it asks each second"
    assert asked.repeated == [], "each answer came in time"
    after = busy_s(gateways.b)
    control, whole = ((now - then) / took for now, then in zip(after, before, strict=True))
    return (
        f"{sent} forged in {took:.1f} s, {len(asked.sent)} liveness checks, none repeated; processor: "
        f"{control:.1%} of one in the control plane, {whole:.1%} in all"
    )
