"""The one writer of TOML: a draft as a commented file. What is withheld stands in it as comments, with the reason."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ipsec_dp.config import tables
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipsec_dp.migrate.draft import FileDraft, Setting, SettingValue, TunnelDraft

WIDTH: Final = 100  # of comments
COLUMN: Final = 44  # where a comment behind a value begins
SUB_TABLES: Final[dict[str, type[tables.Table]]] = {
    "auth": tables.Auth,
    "ike": tables.Ike,
    "esp": tables.Esp,
    "monitor": tables.Monitor,
}
_ESCAPED: Final = str.maketrans({"\x7f": "\\u007f"})


def quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).translate(_ESCAPED)


def value_text(value: SettingValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {value_text(each)}" for key, each in value.items()) + " }"
    return "[" + ", ".join(quoted(each) for each in value) + "]"


def key_line(key: str, value: SettingValue, comment: str = "") -> str:
    """`key = value`, with its comment behind it."""
    text = f"{key} = {value_text(value)}"
    return f"{text:<{COLUMN}} # {shown(comment, LINE)}" if comment else text


def key_lines(key: str, value: SettingValue, comment: str = "") -> Iterator[str]:
    """As `key_line`; a list that is too long for one line has one for each of its values."""
    if not isinstance(value, tuple) or len(value) < 2 or len(value_text(value)) <= WIDTH:
        yield key_line(key, value, comment)
        return
    first = f"{key} = ["
    yield f"{first:<{COLUMN}} # {shown(comment, LINE)}" if comment else first
    yield from (f"  {quoted(each)}," for each in value)
    yield "]"


def comment_lines(text: str) -> Iterator[str]:
    """Text as comments; a line of it that is empty stays one."""
    for line in text.splitlines():
        for piece in textwrap.wrap(shown(line, LINE), WIDTH, break_long_words=False, break_on_hyphens=False) or [""]:
            yield f"# {piece}".rstrip()


def _table(header: str, settings: Mapping[str, Setting], indent: str) -> Iterator[str]:
    yield f"{indent}[{header}]"
    for key, setting in settings.items():
        yield from (indent + line for line in key_lines(key, setting.value, setting.comment))


def _ordered(settings: Mapping[str, Setting], of: type[tables.Table]) -> dict[str, Setting]:
    """Keys in the order of their table, which is that of the documents."""
    return {key: settings[key] for key in of.__struct_fields__ if key in settings}


def _below(tunnel: TunnelDraft, table: str) -> dict[str, Setting]:
    found = {key.partition(".")[2]: setting for key, setting in tunnel.settings.items() if key.startswith(f"{table}.")}
    return _ordered(found, SUB_TABLES[table])


def _proxy_id_lines(proxy_id: tables.ProxyId) -> Iterator[str]:
    defaults = tables.ProxyId()
    yield "  [[tunnel.proxy_id]]"
    for key, value in msgspec.structs.asdict(proxy_id).items():
        if value != getattr(defaults, key):
            yield "  " + key_line(key, value)


def tunnel_lines(tunnel: TunnelDraft) -> Iterator[str]:
    """One [[tunnel]] with all that is below it."""
    yield "[[tunnel]]"
    yield key_line("name", tunnel.name)
    for key, setting in _ordered(tunnel.settings, tables.Tunnel).items():
        yield from key_lines(key, setting.value, setting.comment)
    for proxy_id in tunnel.proxy_ids:
        yield ""
        yield from _proxy_id_lines(proxy_id)
    for table in SUB_TABLES:
        settings = _below(tunnel, table)
        if settings:
            yield ""
            yield from _table(f"tunnel.{table}", settings, "  ")


def _commented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"# {line}".rstrip()


def document(draft: FileDraft, heading: str) -> str:
    """The whole file. `heading`: what it begins with, as comments."""
    lines = [*comment_lines(heading), ""]
    if draft.gateway:
        lines += [*_table("gateway", draft.gateway, ""), ""]
    withheld = {tunnel.name for tunnel in draft.tunnels if tunnel.withheld}
    for tunnel in draft.tunnels:
        if tunnel.withheld:
            lines += comment_lines("WITHHELD: nothing of this tunnel is in force. Take the # away when it is mended:")
            for why in tunnel.withheld:
                lines += comment_lines(f"- {why}")
            lines += _commented(tunnel_lines(tunnel))
        else:
            lines += tunnel_lines(tunnel)
        lines.append("")
    for route in draft.routes:
        row: dict[str, Any] = {"prefix": route.prefix, "tunnel": route.tunnel}
        row |= {} if route.metric is None else {"metric": route.metric}
        text = ["[[route]]", *(key_line(key, value) for key, value in row.items())]
        lines += [*(_commented(text) if route.tunnel in withheld else text), ""]
    return "\n".join(lines)
