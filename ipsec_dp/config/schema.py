"""The JSON schema of the configuration, for editors: `python -m ipsec_dp.config.schema > conf/schema.json`."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ipsec_dp.config import tables


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `tables.File`."""
    made = _without_null(msgspec.json.schema(tables.File))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ipsec-dp", **made}


def _without_null(node: Any) -> Any:
    """The same schema without what TOML cannot write: null as a type or as a default."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _without_null(value) for key, value in node.items() if value is not None}
    kinds = [kind for kind in made.get("anyOf", ()) if kind != {"type": "null"}]
    if kinds:
        made.pop("anyOf")
        made = {**kinds[0], **made} if len(kinds) == 1 else {**made, "anyOf": kinds}
    if "enum" in made:
        made["enum"] = [choice for choice in made["enum"] if choice is not None]
    return made


def text() -> str:
    """The schema as it stands in conf/schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
