"""A gateway that hands itself over: its data plane, SAD, IKE and host note what is asked of them."""

from __future__ import annotations

import errno
from types import SimpleNamespace

from ipsec_dp.databases.carried_sas import CarriedRecords, CarriedSa, CarriedSad
from ipsec_dp.databases.sad_shape import SadShape
from ipsec_dp.dataplane import Counters, Direction, ExportedSa
from ipsec_dp.dataplane.carried import CarriedFlows, CarriedTraffic
from ipsec_dp.dataplane.kept import KeptPacket
from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.upgrade.messages import GoesOn
from ipsec_dp.keying.leaving_ike import LeavingIke
from ipsec_dp.network.inheritance import InheritedHost, InheritedLink, InheritedTun

HOST = InheritedHost(
    claim=-1,
    tuns=[InheritedTun(name="ipsec0", index=7, vnet_header=True, descriptors=[0], on=[0], mtu=1400, addresses=[])],
    links=[InheritedLink(local="192.0.2.1", port=500, encapsulation=None, receivers=[1])],
    mtus={"to-b": 1400},
)
GOES_ON = GoesOn(gap_ms=1.0, ike_sas=1, child_sas=1, left_out=[])
KEY = b"k" * 20


def exported(window=128):
    return ExportedSa(
        exact=True,
        direction=int(Direction.INBOUND),
        spi=0x1001,
        suite="aes128gcm16",
        keymat=bytearray(KEY),
        sequence=2**32 + 5,
        window=window,
        words=b"\x0f" * 8 * (window // 64 + 1),
    )


class Noting:
    """What was asked, in order."""

    def __init__(self):
        self.notes: list[str] = []
        self.idle = True
        self.unready = 0  # times that an export finds a loop with a burst of before
        self.carried = CarriedSad((CarriedSa(exported(), 0, 7),))
        self.records = CarriedRecords(record_layout(), [], {}, bytearray(KEY))
        self.pieces: list[bytearray | Exception] = [bytearray(b"IKE"), bytearray(b"IKE too")]
        self.kept = [KeptPacket(packet=bytearray(b"clear"), since=1, interface=1)]
        self.refusal = None
        self.metrics = SimpleNamespace(descriptor=None, leave=lambda: self.notes.append("metrics unserved"))
        self.host = HOST

    # the data plane
    def pause_receiving(self):
        self.notes.append("paused")

    def stop_ike(self):
        self.notes.append("port 500 unread")

    def resume_receiving(self):
        self.notes.append("resumed")

    def start_ike(self):
        self.notes.append("port 500 read")

    def is_idle(self):
        return self.idle

    def export_traffic(self, _number):
        return CarriedTraffic(packets_in=3)

    def export_kept(self):
        self.notes.append("packets that wait")
        return self.kept

    def export_counters(self):
        return [Counters({"replay": 2}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]

    def export_flows(self, now):
        self.notes.append(f"flows at {now}")
        return CarriedFlows(5, b"flows")

    # the SAD
    def events(self, _channel):
        return ()

    def export_all(self):
        self.notes.append("exported")
        if self.unready:
            self.unready -= 1
            raise DataPlaneError(errno.EAGAIN, "a loop has a burst")
        return self.records

    def export_each(self):
        self.notes.append("exported one by one")
        return self.carried

    # what the successor was told of it
    def news(self):
        return SadShape(gone=[], sas=[], ended=[], children=[])

    # IKE
    def finish(self):
        self.notes.append("finished")

    def export_ike(self, _core, keys):
        if self.refusal is not None:
            raise self.refusal
        self.notes.append(f"IKE with {len(keys(0x1001)[0])} octet for a key")
        return LeavingIke(len(self.pieces), {}, self._each())

    def _each(self):
        for piece in self.pieces:
            self.notes.append("a piece")
            if isinstance(piece, Exception):
                raise piece
            yield piece, {}

    def stop(self):
        self.notes.append("IKE stopped")

    def inherited(self, places):
        for each in (0, 1):
            places(each)
        return self.host


class GivenHost:
    """Instead of a host with sockets."""


class Gone:
    """What became of the gateway."""

    def __init__(self):
        self.stopping, self.lost, self.left_to = False, [], []
