"""Configurations for tests that care for a few keys only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config import load

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.config import Config

PSK = '  [tunnel.auth]\n  psk_file = "x.psk"\n'
MANUAL = (
    '  [tunnel.manual_unsafe]\n  suite = "aes128gcm16"\n  spi_in = 0x1001\n  spi_out = 0x1002\n'
    '  key_in_file = "in.key"\n  key_out_file = "out.key"\n'
)
SECRETS = (("x.psk", "a secret of some length\n"), ("in.key", "0a" * 20), ("out.key", "0b" * 20))


def tunnel(name: str = "to-b", *lines: str, remote: str = "192.0.2.2", interface: str = "ipsec0", keys: str = PSK) -> str:
    """A [[tunnel]] with these lines of its own, and whatever `keys` says."""
    head = f'[[tunnel]]\nname = "{name}"\nremote = "{remote}"\ninterface = "{interface}"\n'
    return head + "".join(f"{line}\n" for line in lines) + keys


def proxy_id(local: str, remote: str) -> str:
    """Of the tunnel before it."""
    return f'  [[tunnel.proxy_id]]\n  local = "{local}"\n  remote = "{remote}"\n'


def configured(directory: Path, *tables: str, gateway: str = "gw") -> Config:
    """The configuration of these tables, beside which the secrets lie that `PSK` and `MANUAL` name."""
    for name, text in SECRETS:
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(text)
    file = directory / f"{gateway}.toml"
    file.write_text(f'[gateway]\nname = "{gateway}"\n' + "".join(tables))
    return load(file)
