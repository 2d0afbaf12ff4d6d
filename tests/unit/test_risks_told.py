"""What a tunnel gives away by its configuration is a condition of the gateway: in the log once, in `status` while it lasts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipsec_dp.config.load import load
from ipsec_dp.dataplane import ALL_OFFLOADS, Offload
from ipsec_dp.gateway.composition import Composition
from ipsec_dp.gateway.substitutes import Substitutes
from tests.doubles.clock import FakeClock
from tests.doubles.config import PSK, tunnel
from tests.doubles.host import MemoryHost

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.config import Config


def speaking(directory: Path, mode: str) -> Config:
    """A gateway with one tunnel of IKEv1."""
    (directory / "x.psk").touch(mode=0o600)
    (directory / "x.psk").write_text("a secret of thirty-two octets and more")
    path = directory / "gw.toml"
    path.write_text('[gateway]\nname = "gw"\n' + tunnel(keys=f'{PSK}[tunnel.ike]\nversion = "1"\nmode = "{mode}"\n'))
    return load(path)


def test_aggressive_mode_is_told_while_a_tunnel_speaks_it(tmp_path, caplog):
    main, aggressive, clock = speaking(tmp_path, "main"), speaking(tmp_path, "aggressive"), FakeClock()
    host = MemoryHost(main, clock)
    composition = Composition(main, host, clock)
    asyncio.run(composition.reconfigure(main))
    assert host.conditions.texts == []
    asyncio.run(composition.reconfigure(aggressive))
    (told,) = host.conditions.texts
    assert told.startswith('tunnel "to-b": aggressive mode says in clear who both sides are, and whoever begins it')
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [told]
    asyncio.run(composition.reconfigure(main))
    assert host.conditions.texts == []


def test_what_the_kernel_mangles_is_left_off_and_told(tmp_path):
    """Unless the configuration leaves it off anyway."""
    config, clock = speaking(tmp_path, "main"), FakeClock()
    asked: list[Offload] = []
    faults = {"tun_tso4": "packet 4 of 45 differs from octet 200 on"}

    def plane(**how: Any) -> Any:
        asked.append(how["offloads"])

    substitutes = Substitutes(plane=plane, offload_faults=faults)
    for offloads, off, told in ((config.offloads, Offload.TUN_TSO4, 1), (config.offloads - {"tun_tso4"}, Offload.TUN_TSO4, 0)):
        host = MemoryHost(config, clock)
        Composition(replace(config, offloads=offloads), host, clock, substitutes).data_plane()
        assert asked.pop() == ALL_OFFLOADS & ~off
        assert len(host.conditions.texts) == told
        assert all("are off: tun_tso4 (packet 4 of 45 differs from octet 200 on)" in text for text in host.conditions.texts)
