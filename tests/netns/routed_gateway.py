"""gwA of two sites with a TUN interface of its own and a route table, without a gateway's process."""

from __future__ import annotations

import json

from ipsec_dp.host.routes import Route, RouteTable
from tests.netns import harness


class RoutedGateway:
    """gwA with its TUN interface and a route table named "test"."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.tun = harness.tun(namespace, "ipsec0")

    def with_table(self, work, name="test"):
        return harness.run(self.namespace, lambda: work(RouteTable(name)))

    def apply(self, protected, prefixes, *, name="test", **settings):
        routes = [Route(prefix, self.tun.index, **settings) for prefix in prefixes]
        return self.with_table(lambda table: table.apply(protected, routes), name)

    def remove(self, name="test"):
        self.with_table(lambda table: table.remove(), name)

    def way(self, address, *, mark=0):
        """The interface that a packet leaves by; None when the kernel refuses it."""
        marked = ("mark", str(mark)) if mark else ()
        done = self.namespace.run("ip", "-j", "route", "get", str(address), *marked, check=False)
        return json.loads(done.stdout)[0]["dev"] if done.returncode == 0 else None

    def ways(self, addresses, *, mark=0):
        return [self.way(address, mark=mark) for address in addresses]
