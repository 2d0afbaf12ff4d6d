"""The daemon as a rig starts it in a network namespace: `ipsec-dp up`, and a record of what IKE told and which keys there were.

    python -m ipsec_dp.rig.netns_daemon CONFIG CONTROL RECORD

RECORD gets a JSON object a line: an event (`at`, in seconds of the system's monotonic clock, `kind`, `tunnel`, `text`, `cause`,
`child`) or a key (`key`, a line of Wireshark's table). It holds keys: the rig makes it, readable by its owner alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipsec_dp.config import load
from ipsec_dp.dataplane import DataPlane
from ipsec_dp.gateway.daemon import run
from ipsec_dp.gateway.substitutes import Substitutes
from ipsec_dp.rig.wireshark import esp_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.dataplane import SaHandle, SaParams
    from ipsec_dp.ike.actions import Event


class RecordedPlane(DataPlane):
    """The C core, which tells `note` of the keys that it gets."""

    def __init__(self, note: Callable[[dict[str, object]], None], **options: Any) -> None:
        super().__init__(**options)
        self._note = note

    def install(self, params: SaParams, worker: int = 0) -> SaHandle:
        self._note({"key": esp_line(params)})
        return super().install(params, worker)


def main(config: str, control: str, record: str) -> int:
    """The daemon's exit status."""
    descriptor = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(row: dict[str, object]) -> None:
        os.write(descriptor, json.dumps(row).encode() + b"\n")

    def reported(event: Event) -> None:
        note(
            {
                "at": time.monotonic(),
                "kind": event.kind,
                "tunnel": event.tunnel,
                "text": event.text,
                "cause": event.cause,
                "child": event.child,
            }
        )

    return run(load(Path(config)), Path(control), substitutes=Substitutes(plane=partial(RecordedPlane, note), reported=reported))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
