"""The TUN interfaces of a gateway: made and attached, as wide as their widest tunnel, and changed by difference in a reload."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.host import HostError, tun
from ipsec_dp.host.bulk import Bulk, InterfaceAddress
from ipsec_dp.host.tun import Fault, Trouble
from ipsec_dp.network import interfaces
from ipsec_dp.network.interfaces import LinuxInterfaces
from ipsec_dp.services.device_watch import DeviceWatch
from ipsec_dp.util import slices
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import PSK, configured, proxy_id, tunnel
from tests.doubles.host import MemoryHost

if TYPE_CHECKING:
    from collections.abc import Callable

KEYED = proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK
OTHER = proxy_id("10.1.0.0/24", "10.3.0.0/24") + PSK
IPR: Any = None
PLANE: Any = SimpleNamespace(workers=1, reclaim=lambda: 0)
SPD: Any = SimpleNamespace(tunnel_numbers={"b": 0, "c": 1, "d": 2}, interface_numbers={"ipsec0": 0, "ipsec1": 1, "ipsec2": 2})


EXEMPT: list[dict[str, int]] = []  # the interfaces that were ours each time that the guard was told


class Kernel:
    """What /dev/net/tun and rtnetlink were asked for, and when the guard was told after the start."""

    made: Kernel

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.mtus: dict[str, int] = {}
        self.refuses = ""
        self.configured: Callable[[Any], object] = lambda _device: None  # hears of each one
        self.carriers: dict[str, bool] = {}
        self.conditions = Conditions(FakeClock())
        Kernel.made = self
        monkeypatch.setattr(interfaces, "attach_interface", self.attach)
        monkeypatch.setattr(interfaces, "detach_interface", lambda _plane, number: self.calls.append(f"detach {number}"))
        for name in ("configure", "remove_addresses", "set_mtu"):
            monkeypatch.setattr(tun, name, getattr(self, name))

    def attach(self, _plane: Any, name: str, number: int, _destinations: Any) -> Any:
        if name == self.refuses:
            raise HostError(f"interface {name}: no")
        assert name not in dict(*EXEMPT[-1:]), "exempt before it is made"
        self.calls.append(f"attach {name} as {number}")
        kernel = self

        class Device(tun.Tun):
            def set_carrier(self, on: bool) -> None:
                kernel.carriers[name] = self.carrier = on

            def close(self) -> None:
                kernel.calls.append(f"close {name}")

        return Device(name, 10 + number, True)

    async def configure(self, _ipr: Any, device: Any, addresses: Any, mtu: int) -> set[Any]:
        self.calls.append(f"configure {device.name} {' '.join(map(str, addresses))}".strip())
        self.mtus[device.name] = mtu
        self.configured(device)
        return set(addresses)

    async def remove_addresses(self, _ipr: Any, device: Any, addresses: Any) -> None:
        self.calls += [f"remove {each} from {device.name}" for each in addresses]

    async def set_mtu(self, _ipr: Any, device: Any, mtu: int) -> None:
        self.mtus[device.name] = mtu
        self.calls.append(f"set_mtu {device.name}")


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


def lived(directory, story, *tables: str) -> None:
    """`story` gets interfaces that are made, and what reads another configuration."""

    async def life() -> None:
        config = configured(directory, *tables)

        async def exempt() -> None:
            Kernel.made.calls += ["exempt"] if EXEMPT else []
            EXEMPT.append(dict(made.indices))

        EXEMPT.clear()
        conditions = Kernel.made.conditions = Conditions(FakeClock())
        made = LinuxInterfaces(config, lambda: IPR, exempt, conditions)
        async with AsyncExitStack() as stack:
            await made.make(stack, PLANE, SPD)
            await made.set_mtus({each.name: 1400 for each in config.tunnels})
            await story(made, partial(configured, directory))

    asyncio.run(life())


def test_each_is_attached_addressed_and_taken_away_with_the_stack(tmp_path, kernel):
    async def story(made, other):
        assert made.indices == {"ipsec0": 10}
        assert kernel.calls == ["attach ipsec0 as 0", "configure ipsec0 169.254.10.1/30"]
        kernel.calls.clear()

    lived(tmp_path, story, tunnel("b", 'address = ["169.254.10.1/30"]', keys=KEYED))
    assert kernel.calls == ["detach 0", "exempt", "close ipsec0"]


@pytest.mark.parametrize(("start", "carriers"), [("start", {"ipsec0": False}), ("on-demand", {})])
def test_one_that_shows_its_tunnel_is_down_before_anybody_sees_it_up(tmp_path, kernel, start, carriers):
    async def story(made, other):
        assert kernel.carriers == carriers

    lived(tmp_path, story, tunnel("b", f'start = "{start}"'))


def test_it_is_as_wide_as_its_widest_tunnel_and_told_only_what_differs(tmp_path, kernel):
    async def story(made, other):
        for mtus, width, calls in (
            ({"b": 1300, "c": 1400}, 1400, 0),
            ({"b": 1300, "c": 1350}, 1350, 1),
            ({"b": 1350, "c": 1300}, 1350, 1),
        ):
            await made.apply_mtus(mtus)
            assert (kernel.mtus["ipsec0"], kernel.calls.count("set_mtu ipsec0")) == (width, calls)
            assert [made.mtu_of(name) for name in mtus] == list(mtus.values())

    lived(tmp_path, story, tunnel("b", keys=KEYED), tunnel("c", remote="192.0.2.3", keys=OTHER))


def test_a_reload_makes_what_is_new_and_removes_what_is_unused_only_when_asked(tmp_path, kernel):
    async def story(made, other):
        kernel.calls.clear()
        await made.reconfigure(other(tunnel("c", interface="ipsec1", keys=OTHER)), {"c": 1380})
        assert kernel.calls == ["attach ipsec1 as 1", "configure ipsec1", "exempt"]
        assert made.remove_unused() == ["ipsec0"]
        assert kernel.calls[3:] == ["detach 0", "close ipsec0"]
        assert made.mtus == {"c": 1380}

    lived(tmp_path, story, tunnel("b", keys=KEYED))


def test_what_a_path_makes_known_during_a_reload_takes_no_new_tunnel_away(tmp_path, kernel):
    """MTUs that were worked out for the configuration before come late: the new tunnel's routes need its own."""

    async def story(made, other):
        config = other(tunnel("b", keys=KEYED), tunnel("c", interface="ipsec1", remote="192.0.2.3", keys=OTHER))
        await made.reconfigure(config, {"c": 1380})
        await made.apply_mtus({"b": 1300})
        assert made.mtus == {"b": 1300, "c": 1380}
        assert kernel.mtus == {"ipsec0": 1300, "ipsec1": 1380}

    lived(tmp_path, story, tunnel("b", keys=KEYED))


def test_addresses_change_by_difference_and_tunnels_that_stay_are_not_touched(tmp_path, kernel):
    first, second = 'address = ["169.254.10.1/30"]', 'address = ["169.254.20.1/30"]'

    async def story(made, other):
        kernel.calls.clear()
        stays = tunnel("c", interface="ipsec1", remote="192.0.2.3", keys=OTHER)
        await made.reconfigure(other(tunnel("b", second, keys=KEYED), stays), {"b": 1400})
        assert kernel.calls == ["configure ipsec0 169.254.20.1/30", "remove 169.254.10.1/30 from ipsec0"]

    lived(tmp_path, story, tunnel("b", first, keys=KEYED), tunnel("c", interface="ipsec1", remote="192.0.2.3", keys=OTHER))


def test_a_reload_that_fails_takes_back_what_it_made(tmp_path, kernel):
    async def story(made, other):
        kernel.refuses = "ipsec2"
        far = tunnel("d", interface="ipsec2", keys=OTHER.replace("10.3.", "10.4."))
        new = other(tunnel("b", keys=KEYED), tunnel("c", interface="ipsec1", keys=OTHER), far)
        with pytest.raises(HostError, match="interface ipsec2: no"):
            await made.reconfigure(new, {"c": 1400, "d": 1400})
        assert set(made.indices) == {"ipsec0"}

    lived(tmp_path, story, tunnel("b", keys=KEYED))


# ---- which are exempt from the guard, and when


def test_the_guard_hears_of_them_when_they_are_made_and_before_they_go(tmp_path, kernel):
    async def story(made, other):
        assert EXEMPT == [{"ipsec0": 10}]

    lived(tmp_path, story, tunnel("b", keys=KEYED))
    assert EXEMPT == [{"ipsec0": 10}, {}]
    assert kernel.calls[-2:] == ["exempt", "close ipsec0"]


def test_a_start_that_fails_exempts_nothing(tmp_path, kernel):
    kernel.refuses = "ipsec1"

    async def story(made, other):
        raise AssertionError("it does not come to that")

    with pytest.raises(HostError, match="interface ipsec1: no"):
        lived(tmp_path, story, tunnel("b", keys=KEYED), tunnel("c", interface="ipsec1", remote="192.0.2.3", keys=OTHER))
    assert EXEMPT == [{}]


def test_a_reload_that_is_refused_exempts_what_was_exempt(tmp_path, kernel):
    async def story(made, other):
        kernel.refuses = "ipsec1"
        with pytest.raises(HostError):
            await made.reconfigure(other(tunnel("b", keys=KEYED), tunnel("c", interface="ipsec1", keys=OTHER)), {"c": 1400})
        assert EXEMPT == [{"ipsec0": 10}] * 2

    lived(tmp_path, story, tunnel("b", keys=KEYED))


def test_what_a_refused_reload_made_is_exempt_no_longer_before_it_goes(tmp_path, kernel):
    async def story(made, other):
        kernel.refuses = "ipsec2"
        far = tunnel("d", interface="ipsec2", keys=OTHER.replace("10.3.", "10.4."))
        kernel.calls.clear()
        new = other(tunnel("b", keys=KEYED), tunnel("c", interface="ipsec1", keys=OTHER), far)
        with pytest.raises(HostError):
            await made.reconfigure(new, {"c": 1400, "d": 1400})
        assert kernel.calls == ["attach ipsec1 as 1", "configure ipsec1", "detach 1", "exempt", "close ipsec1"]

    lived(tmp_path, story, tunnel("b", keys=KEYED))


# ---- what others do to them

ADDRESSED = 'address = ["169.254.10.1/30"]'


@pytest.fixture
def faults(monkeypatch):
    """What each interface suffers, as the kernel would show it; and the addresses that there are."""
    suffered: dict[str, Trouble] = {}
    addresses: list[InterfaceAddress] = []

    async def present(_self: Any) -> list[InterfaceAddress]:
        return addresses

    async def rename(_ipr: Any, device: Any) -> None:
        KERNEL_RENAMED.append(device.name)

    KERNEL_RENAMED.clear()
    monkeypatch.setattr(tun.Tun, "trouble", lambda self, _mtu, _asking: suffered.get(self.name))
    monkeypatch.setattr(Bulk, "addresses", present)
    monkeypatch.setattr(tun, "rename", rename)
    return SimpleNamespace(suffered=suffered, addresses=addresses)


KERNEL_RENAMED: list[str] = []
TUNNEL_ADDRESS = InterfaceAddress(10, bytes((169, 254, 10, 1)), 30)


def test_an_address_that_is_missing_is_named_and_set_again(tmp_path, kernel, faults):
    async def story(made, other):
        assert (await made.troubles())["ipsec0"] == Trouble(Fault.UNADDRESSED, "169.254.10.1/30")
        faults.addresses.append(TUNNEL_ADDRESS)
        assert await made.troubles(["ipsec0"]) == {}
        kernel.calls.clear()
        await made.restore("ipsec0", Trouble(Fault.UNADDRESSED))
        assert kernel.calls == ["configure ipsec0 169.254.10.1/30"]

    lived(tmp_path, story, tunnel("b", ADDRESSED, keys=KEYED))


def test_a_name_is_given_back_before_the_rest(tmp_path, kernel, faults):
    async def story(made, other):
        faults.suffered["ipsec0"] = trouble = Trouble(Fault.RENAMED, "x")
        assert await made.troubles() == {"ipsec0": trouble}
        await made.restore("ipsec0", trouble)
        assert KERNEL_RENAMED == ["ipsec0"]

    lived(tmp_path, story, tunnel("b", keys=KEYED))


@pytest.mark.parametrize("ours", [True, False])
def test_the_carrier_is_what_we_set_it_to(tmp_path, kernel, faults, ours):
    async def story(made, other):
        made.set_carrier("ipsec0", ours)
        kernel.carriers["ipsec0"] = not ours
        await made.restore("ipsec0", Trouble(Fault.CARRIER, "off" if ours else "on"))
        assert kernel.carriers == {"ipsec0": ours}

    lived(tmp_path, story, tunnel("b", keys=KEYED))


@pytest.mark.parametrize("fault", [Fault.DELETED, Fault.MOVED, Fault.FAILED])
def test_what_is_gone_is_made_anew_in_its_place_and_exempt_only_then(tmp_path, kernel, faults, fault):
    async def story(made, other):
        kernel.calls.clear()
        await made.restore("ipsec0", Trouble(fault))
        assert kernel.calls == ["detach 0", "exempt", "close ipsec0", "attach ipsec0 as 0", "exempt", "configure ipsec0"]
        assert EXEMPT[1:] == [{}, {"ipsec0": 10}]

    lived(tmp_path, story, tunnel("b", keys=KEYED))


def test_one_whose_name_is_taken_is_missed_by_nobody_and_made_once_it_can_be(tmp_path, kernel, faults):
    async def story(made, other):
        kernel.refuses, trouble = "ipsec0", Trouble(Fault.DELETED)
        with pytest.raises(HostError, match="interface ipsec0: no"):
            await made.restore("ipsec0", trouble)
        assert made.indices == {}
        assert await made.troubles() == {"ipsec0": trouble}
        assert EXEMPT[-1] == {}
        made.set_carrier("ipsec0", True)
        await made.apply_mtus({"b": 1300})
        config = other(tunnel("b", keys=KEYED), tunnel("c", interface="ipsec1", remote="192.0.2.3", keys=OTHER))
        await made.reconfigure(config, {"b": 1300, "c": 1400})
        assert set(made.indices) == {"ipsec1"}
        kernel.refuses = ""
        await made.restore("ipsec0", trouble)
        assert set(made.indices) == {"ipsec0", "ipsec1"}
        assert kernel.mtus["ipsec0"] == 1300

    lived(tmp_path, story, tunnel("b", keys=KEYED))


def test_one_that_is_gone_and_unused_is_forgotten(tmp_path, kernel, faults):
    async def story(made, other):
        kernel.refuses = "ipsec0"
        with pytest.raises(HostError):
            await made.restore("ipsec0", Trouble(Fault.DELETED))
        await made.reconfigure(other(tunnel("c", interface="ipsec1", keys=OTHER)), {"c": 1400})
        assert made.remove_unused() == ["ipsec0"]
        assert await made.troubles() == {}

    lived(tmp_path, story, tunnel("b", keys=KEYED))


MANY, EACH_S, AT_ONCE_S = 1000, 200e-6, 0.005


def test_a_thousand_are_looked_at_without_holding_anybody_up(tmp_path, kernel, monkeypatch):
    """Each device takes so long; between two of them the loop has its turn."""
    now, turns = [0.0], []

    def looked_at(*_):
        now[0] += EACH_S

    async def beside():
        while True:
            turns.append(now[0])
            await asyncio.sleep(0)

    async def story(made, other):
        task = asyncio.get_running_loop().create_task(beside())
        await asyncio.sleep(0)
        assert await made.troubles() == {}
        task.cancel()

    names = [f"t{number}" for number in range(MANY)]
    tunnels = [
        tunnel(name, interface=f"x{number}", keys=proxy_id("10.1.0.0/24", f"10.{2 + number // 256}.{number % 256}.0/24") + PSK)
        for number, name in enumerate(names)
    ]
    monkeypatch.setattr(SPD, "tunnel_numbers", {name: number for number, name in enumerate(names)})
    monkeypatch.setattr(SPD, "interface_numbers", {f"x{number}": number for number in range(MANY)})
    monkeypatch.setattr(slices, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(tun.Tun, "trouble", looked_at)
    lived(tmp_path, story, *tunnels)
    turns.append(now[0])
    assert now[0] == pytest.approx(MANY * EACH_S), "each is looked at"
    assert max(later - earlier for earlier, later in pairwise(turns)) <= AT_ONCE_S


# ---- IPv6 is disabled on one that has an IPv6 address in the configuration

REAL_CONFIGURE = tun.configure
BOTH_VERSIONS = 'address = ["169.254.10.1/30", "fd00:10::1/64"]'


@pytest.fixture
def without_ipv6(kernel, faults, monkeypatch):
    """A kernel that takes every address that it is asked to take, and reports each change of a link; there is no IPv6."""

    async def configure(_ipr: Any, device: Any, addresses: Any, mtu: int) -> Any:
        kernel.calls.append(f"configure {device.name}")
        done = await REAL_CONFIGURE(socket, device, addresses, mtu)
        kernel.configured(device)
        return done

    async def answered(*_: Any, **__: Any) -> None:
        return None

    socket: Any = SimpleNamespace(link=answered, addr=answered)
    monkeypatch.setattr(tun, "configure", configure)
    monkeypatch.setattr(tun, "has_ipv6", lambda _name: False)
    faults.addresses.append(TUNNEL_ADDRESS)
    return kernel


def test_settings_that_the_host_keeps_to_itself_are_listed_while_the_interface_is_there(tmp_path, kernel, caplog):
    refused = [f"net.ipv6.conf.ipsec0.s{number}: Read-only file system" for number in range(5)]
    kernel.configured = lambda device: device.unset.__setitem__(slice(None), refused)

    async def story(made, other):
        (text,) = kernel.conditions.texts
        assert text.startswith(f"interface ipsec0: {', '.join(refused[:3])} and 2 more; the kernel may send packets of its own")
        await made.restore("ipsec0", Trouble(Fault.DOWN))
        assert kernel.conditions.texts == [text]
        assert caplog.text.count("Read-only") == len(refused[:3])
        refused.clear()  # somebody made it writable
        await made.restore("ipsec0", Trouble(Fault.DOWN))
        assert kernel.conditions.texts == []
        refused.append("net.ipv4.conf.ipsec0.rp_filter: Read-only file system")
        await made.restore("ipsec0", Trouble(Fault.DOWN))
        assert len(kernel.conditions.texts) == 1

    lived(tmp_path, story, tunnel("b", keys=KEYED))
    assert kernel.conditions.texts == []


def test_an_address_that_ipv6_disabled_keeps_away_is_told_once_and_not_fought_for(tmp_path, without_ipv6, caplog):
    async def story(made, other):
        assert await made.troubles() == {}, "169.254.10.1/30 is there, and the other is not missed"
        clock = FakeClock()
        config = other(tunnel("b", BOTH_VERSIONS, keys=KEYED))
        host: Any = MemoryHost(config, clock)
        host.interfaces = made
        watch = DeviceWatch(host, lambda: None, lambda _: None, clock)
        without_ipv6.configured = lambda device: host.reports.report("interface changes", {device.index})
        await watch.apply(config)
        without_ipv6.calls.clear()
        host.reports.report("interface changes", {10})
        await clock.advance(11.0)
        assert without_ipv6.calls == []
        await made.restore("ipsec0", Trouble(Fault.DOWN))  # by us: our own doing is reported, too
        await settle()
        await clock.advance(11.0)
        assert without_ipv6.calls == ["configure ipsec0"]
        assert host.conditions.texts == []
        await watch.close()

    lived(tmp_path, story, tunnel("b", BOTH_VERSIONS, keys=KEYED))
    assert caplog.text.count("address fd00:10::1/64: IPv6 is disabled by sysctl") == 1
