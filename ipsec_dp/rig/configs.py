"""Configurations for rigs, from a text, a dictionary or a file: the real reader reads them, with the secrets that they name.

What is no file lies in a directory of its own while its gateway is there. A `psk_file` that nobody gives is made from its name, so
that two gateways that name the same one share the secret.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipsec_dp.config import load
from ipsec_dp.ike.proposal import CLASSIC_IKE, by_default, parse_ike
from ipsec_dp.rig.loop import RigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipsec_dp.config import Config, Tunnel

Written = str | Path | dict[str, Any]
"""A configuration: TOML text (of more than one line), the name of a file, or the tables."""


def _value(value: object) -> str:
    """A value in TOML. Raises RigError for what TOML has no word for."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + "}"
    raise RigError(f"{value!r} is no value of a configuration")


def toml_of(tables: Mapping[str, Any]) -> str:
    """The tables of a configuration as text."""
    return "".join(_lines(tables, ""))


def _lines(table: Mapping[str, Any], path: str) -> Iterator[str]:
    arrays = {key for key, value in table.items() if isinstance(value, list | tuple) and value and isinstance(value[0], dict)}
    for key, value in table.items():
        if key not in arrays and not isinstance(value, dict):
            yield f"{key} = {_value(value)}\n"
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if key in arrays:
            for row in value:
                yield f"[[{name}]]\n"
                yield from _lines(row, name)
        elif isinstance(value, dict):
            yield f"[{name}]\n"
            yield from _lines(value, name)


def _text_of(config: Written) -> str | None:
    """None: it names a file."""
    if isinstance(config, dict):
        return toml_of(config)
    return config if isinstance(config, str) and "\n" in config else None


def loaded(config: Written, directory: Path, files: Mapping[str, str | bytes]) -> Config:
    """The configuration, read and checked; `files`: what its secrets and certificates hold, by name. Raises ConfigError."""
    text = _text_of(config)
    if text is None:
        if files:
            raise RigError("files= goes with a configuration that is a text or a dictionary, not with a file, which has its own")
        return load(Path(str(config)))
    path = directory / "gateway.toml"
    path.write_text(text)
    for name, content in (_made_up(text) | dict(files)).items():
        if "/" in name or name in ("", ".", "..", path.name):
            raise RigError(f"a file of a rig has a plain name, not {name!r}")
        file = directory / name
        file.touch(mode=0o600)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return load(path)


def repeatable(tunnel: Tunnel) -> Tunnel:
    """Of the default proposals those without ML-KEM, whose encapsulation takes no seed: a run could not be had again. Who writes
    proposals has it, and so has who demands it: of the default ones only those with it are left then."""
    if not by_default(tunnel.ike.proposals):
        return tunnel
    return replace(tunnel, ike=replace(tunnel.ike, proposals=parse_ike(CLASSIC_IKE)))


def _made_up(text: str) -> dict[str, str | bytes]:
    """The pre-shared keys that a text names, as far as it can be read."""
    try:
        tunnels = tomllib.loads(text).get("tunnel", [])
        names = [tunnel["auth"]["psk_file"] for tunnel in tunnels if "psk_file" in tunnel.get("auth", {})]
    except (tomllib.TOMLDecodeError, AttributeError, TypeError):
        return {}  # the reader of configurations says what is wrong
    return {name: hashlib.sha256(name.encode()).hexdigest() for name in names if isinstance(name, str) and "/" not in name}


def tunnel_of(config: Config, name: str | None) -> Tunnel:
    """The tunnel of this name; None: the only one. Raises RigError."""
    tunnels = config.tunnels
    if name is None and len(tunnels) == 1:
        return tunnels[0]
    found = next((tunnel for tunnel in tunnels if tunnel.name == name), None)
    if found is None:
        asked = "say which tunnel" if name is None else f"gateway {config.name} has no tunnel {name!r}"
        raise RigError(f"{asked}; there are: {', '.join(tunnel.name for tunnel in tunnels) or 'none'}")
    return found


def negotiated_tunnel(config: Config, name: str | None) -> str:
    """The name of such a tunnel that IKE negotiates. Raises RigError."""
    tunnel = tunnel_of(config, name)
    if tunnel.auth is None:
        raise RigError(f"tunnel {tunnel.name!r} has keys set by hand: IKE negotiates nothing for it")
    return tunnel.name
