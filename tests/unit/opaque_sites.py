"""Two gateways in memory whose tunnel carries UDP to one port by one CHILD_SA, and later fragments of UDP by another."""

from __future__ import annotations

from ipsec_dp.ipsec.selectors import OPAQUE_PORTS
from ipsec_dp.rig.plane import INNER, keymat, selector
from tests.unit.ported_sites import SUITE, UDP_PROTOCOL, Sites, ported

SPI = 0x2002


def opaque(site, version):
    """What site "a" or "b" sees of later fragments of UDP."""
    other = "b" if site == "a" else "a"
    ends = INNER[site][version == 6], INNER[other][version == 6]
    return selector(*ends, protocol=UDP_PROTOCOL, local_ports=OPAQUE_PORTS, remote_ports=OPAQUE_PORTS)


class OpaqueSites(Sites):
    """As `Sites`, with an OPAQUE CHILD_SA beside the other; `peers`: gateways that have it installed."""

    def __init__(self, agreed=(False, False), peers="ab"):
        super().__init__(agreed)
        for gateway in (self.a, self.b):
            both = [kind(gateway.name, version) for kind in (ported, opaque) for version in (4, 6)]
            gateway.protect(both)
        self.hidden = {}
        for gateway in (self.a, self.b):
            self.hidden[gateway.name] = gateway.sad.add_child(0, [opaque(gateway.name, version) for version in (4, 6)])
        for name in peers:
            self.install_hidden(name)

    def install_hidden(self, name):
        """Both its SAs for later fragments."""
        gateway, child = getattr(self, name), self.hidden[name]
        child.inbound = gateway.sad.install_inbound(
            spi=SPI,
            suite=SUITE,
            keymat=keymat(SUITE, f"to {name} {SPI}"),
            tunnel=0,
            interface=0,
            selectors=child.selectors,
        )
        self.send_hidden(name)

    def send_hidden(self, name):
        """What the CHILD_SA sends by."""
        gateway, peer = (self.a, self.b)[:: 1 if name == "a" else -1]
        outbound = gateway.sad.install_outbound(
            spi=SPI, suite=SUITE, keymat=keymat(SUITE, f"to {peer.name} {SPI}"), tunnel=0, path=gateway.path_to(peer.endpoint)
        )
        gateway.sad.switch(self.hidden[name], outbound)
