"""The pytest plugin that comes with the package: gateways as fixtures, and what they did when a test fails.

    def test_a_packet_arrives(ipsec_pair):
        a, b = ipsec_pair
        a.inject(udp("10.1.0.5", "10.2.0.5", b"hello"))
        b.wait("packet")

    @pytest.mark.ipsec(wire={"loss": 0.1}, seed=7, tables='[tunnel.esp]\\nlifetime = "1h"')
    def test_a_rekey_loses_nothing(ipsec_pair, ipsec_clock): ...

The same tests run on daemons in network namespaces: `pytest --ipsec-in=netns`, or `both`; the marker's where= says it for a test.

Under a failed test stand each gateway's events, counters and SAs, and the ladder of the messages between them. Nothing is loaded
before a test asks for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ipsec_dp.rig import Clock, Gateway, NetnsNetwork, Network
    from ipsec_dp.rig.netns import Lab
    from ipsec_dp.rig.netns_gateway import NetnsGateway
    from ipsec_dp.rig.real_clock import RealClock

MARKER = (
    'ipsec(seed=0, wire={}, a=None, b=None, tables="", where=None): of ipsec_clock the seed, of ipsec_network what its wire does '
    '(`Wire`), of ipsec_pair the configurations of both, or what is added to both; where: "memory", "netns" or "both"'
)
KNOWN = {"seed", "wire", "a", "b", "tables", "where"}
MEMORY: Final = "memory"
NETNS: Final = "netns"
PLACES: Final = {MEMORY: (MEMORY,), NETNS: (NETNS,), "both": (MEMORY, NETNS)}
LAST = 60  # events and messages that a failure shows

SITE = """
[gateway]
name = "{me}"
[[tunnel]]
name = "to-{peer}"
local = "192.0.2.{number}"
remote = "192.0.2.{other}"
interface = "ipsec0"
start = "{start}"
  [[tunnel.proxy_id]]
  local = "10.{number}.0.0/16"
  remote = "10.{other}.0.0/16"
  [tunnel.auth]
  local_id = "{me}.example"
  remote_id = "{peer}.example"
  psk_file = "pair.psk"
{tables}
"""


class IpsecPair(NamedTuple):
    """Site a (10.1.0.0/16), which has called, and site b (10.2.0.0/16)."""

    a: Gateway | NetnsGateway
    b: Gateway | NetnsGateway


class Watched:
    """The networks of one test, and the gateways that it got by fixtures."""

    def __init__(self) -> None:
        self.networks: list[Network | NetnsNetwork] = []
        self.gateways: list[Gateway | NetnsGateway] = []

    def sections(self) -> Iterator[tuple[str, str]]:
        """Title and text for a report, as far as the gateways still say something."""
        from ipsec_dp.rig import RigError

        for gateway in self.gateways:
            try:
                counters = "\n".join(f"{name}: {value}" for name, value in gateway.counters().items() if value)
                sas = "\n".join(map(str, gateway.sas())) if len(gateway.config.tunnels) == 1 else ""
                events = "\n".join(map(str, gateway.events()[-LAST:]))
            except RigError as error:
                counters, sas, events = str(error), "", ""
            yield f"ipsec {gateway.name}: events", events or "none"
            yield f"ipsec {gateway.name}: counters and SAs", "\n".join(filter(None, (counters, sas))) or "none"
        for network in self.networks:
            yield "ipsec: messages", network.ladder(LAST) or "none"


WATCHED = pytest.StashKey[Watched]()


def pytest_configure(config: pytest.Config) -> None:
    """The marker is known, under --strict-markers too."""
    config.addinivalue_line("markers", MARKER)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the gateways of a test are, whose marker does not say it."""
    parser.getgroup("ipsec").addoption(
        "--ipsec-in",
        choices=tuple(PLACES),
        default=MEMORY,
        help="where ipsec_pair and ipsec_network are: memory, netns (root), both",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of gateways runs once in each place."""
    if "ipsec_place" not in metafunc.fixturenames:
        return
    said = next((mark.kwargs["where"] for mark in metafunc.definition.iter_markers("ipsec") if "where" in mark.kwargs), None)
    where = said or metafunc.config.getoption("--ipsec-in")
    if where not in PLACES:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: where={where!r}: write one of {', '.join(PLACES)}")
    if PLACES[where] != (MEMORY,):
        metafunc.parametrize("ipsec_place", PLACES[where], indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure of a test or of its fixtures says what its gateways did."""
    report = yield
    watched = item.stash.get(WATCHED, None)
    if watched is not None and report.failed and report.when != "teardown":
        report.sections.extend(watched.sections())
    return report


def _said(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the test's markers say, the nearest last. UsageError for what they cannot say."""
    said: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("ipsec"))):
        if marker.args or marker.kwargs.keys() - KNOWN:
            wrong = ", ".join([*map(repr, marker.args), *sorted(marker.kwargs.keys() - KNOWN)])
            raise pytest.UsageError(f"{request.node.nodeid}: the marker ipsec takes {', '.join(sorted(KNOWN))}, not {wrong}")
        said |= marker.kwargs
    return said


def _watched(request: pytest.FixtureRequest) -> Watched:
    watched: Watched = request.node.stash.setdefault(WATCHED, Watched())
    return watched


@pytest.fixture
def ipsec_place(request: pytest.FixtureRequest) -> str:
    """Where the test's gateways are: "memory" or "netns", as the marker or --ipsec-in says. Skipped there without root."""
    place = getattr(request, "param", MEMORY)
    if place == NETNS:
        _needs_root()
    return str(place)


def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


@pytest.fixture
def ipsec_clock(request: pytest.FixtureRequest, ipsec_place: str) -> Clock | RealClock:
    """The time of the test's gateways, which passes when somebody waits; with it the seed of all that is random. In namespaces it
    is the machine's."""
    from ipsec_dp.rig import Clock
    from ipsec_dp.rig.real_clock import RealClock

    return Clock(seed=_said(request).get("seed", 0)) if ipsec_place == MEMORY else RealClock()


@pytest.fixture
def ipsec_network(request: pytest.FixtureRequest, ipsec_place: str, ipsec_clock: Any) -> Iterator[Network | NetnsNetwork]:
    """A network without gateways: `ipsec_network.gateway(config)` makes one. Closed after the test."""
    with _network(request, ipsec_place, ipsec_clock) as network:
        yield network


def _network(request: pytest.FixtureRequest, place: str, clock: Any) -> Network | NetnsNetwork:
    """What a failure tells of."""
    from ipsec_dp.rig import NetnsNetwork, NetnsWire, Network, Wire

    watched, options = _watched(request), _said(request).get("wire", {})

    class WatchedNetwork(Network):
        """One that remembers whom it made."""

        def gateway(self, config: Any, **options: Any) -> Gateway:
            made = super().gateway(config, **options)
            watched.gateways.append(made)
            return made

    class WatchedNamespaces(NetnsNetwork):
        """One that remembers whom it made."""

        def gateway(self, config: Any, **options: Any) -> NetnsGateway:
            made = super().gateway(config, **options)
            watched.gateways.append(made)
            return made

    network = WatchedNetwork(clock=clock, wire=Wire(**options)) if place == MEMORY else WatchedNamespaces(wire=NetnsWire(**options))
    watched.networks.append(network)
    return network


@pytest.fixture
def ipsec_pair(request: pytest.FixtureRequest, ipsec_network: Network | NetnsNetwork) -> IpsecPair:
    """Two gateways whose tunnel is up: `a, b = ipsec_pair`."""
    return _pair(request, ipsec_network)


def _pair(request: pytest.FixtureRequest, network: Network | NetnsNetwork) -> IpsecPair:
    said = _said(request)
    texts = {
        me: SITE.format(me=me, peer=peer, number=number, other=3 - number, start=start, tables=said.get("tables", ""))
        for me, peer, number, start in (("b", "a", 2, "respond"), ("a", "b", 1, "start"))
    }
    b, a = (network.gateway(said.get(me) or text) for me, text in texts.items())
    a.wait("up")
    return IpsecPair(a, b)


@pytest.fixture
def ipsec_netns(request: pytest.FixtureRequest) -> Iterator[IpsecPair]:
    """`ipsec_pair` of daemons, each in a network namespace of its own. Skipped without root."""
    _needs_root()
    with _network(request, NETNS, None) as network:
        yield _pair(request, network)


@pytest.fixture
def ipsec_lab() -> Iterator[Lab]:
    """Network namespaces, taken away after the test. Skipped without root."""
    from ipsec_dp.rig.netns import Lab

    _needs_root()
    with Lab() as lab:
        yield lab
