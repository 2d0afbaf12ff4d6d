"""A site of a ladder says what it never would: payloads changed on their way out, and payloads of any octets."""

from __future__ import annotations

from typing import ClassVar

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2 import receiving
from ipsec_dp.ike.v2 import session as sessions


def raw(kind, octets):
    """Any octets, as a payload of any type."""

    class Raw(p.Payload):
        type: ClassVar = kind

        def build(self, writer):
            writer.octets(octets)

    return Raw()


def says(monkeypatch, core, change):
    """Whoever has this core says something else: `change` makes of header and payloads those that leave."""

    known = vars(receiving)["seal"]

    def seal(context, header, payloads, **more):
        return known(context, header, change(header, payloads) if context.host is core.gateway else payloads, **more)

    monkeypatch.setattr(sessions, "seal", seal)
    monkeypatch.setattr(receiving, "seal", seal)


def events(site, kind):
    return [event for event in site.events if event.kind is kind]


def notes(site):
    return " ".join(event.text for event in events(site, Kind.NOTE))
