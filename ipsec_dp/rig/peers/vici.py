"""strongSwan's control protocol (vici, version 2) on a UNIX socket: as much of it as a test or a benchmark asks a peer.

A message is a tree of sections, values and lists; here a dictionary whose values are text, dictionaries and lists of text.
Numbers in it are big-endian, names up to 255 octets, values up to 65,535.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Packet types, and the elements of a message.
REQUEST, RESPONSE, UNKNOWN_COMMAND, REGISTER, UNREGISTER, CONFIRM, UNKNOWN_EVENT, EVENT = range(8)
SECTION_START, SECTION_END, KEY_VALUE, LIST_START, LIST_ITEM, LIST_END = range(1, 7)
TIMEOUT_S = 30.0

Message: TypeAlias = "dict[str, str | list[str] | Message]"


class ViciError(Exception):
    """The peer refused a command or cannot be asked; the text holds its reason."""


def encode(message: Mapping[str, str | list[str] | Message]) -> bytes:
    """A message as octets."""
    out = b""
    for name, value in message.items():
        if isinstance(value, str):
            out += _named(KEY_VALUE, name) + _value(value)
        elif isinstance(value, list):
            items = b"".join(bytes((LIST_ITEM,)) + _value(item) for item in value)
            out += _named(LIST_START, name) + items + bytes((LIST_END,))
        else:
            out += _named(SECTION_START, name) + encode(value) + bytes((SECTION_END,))
    return out


def _named(kind: int, name: str) -> bytes:
    text = name.encode()
    return bytes((kind, len(text))) + text


def _value(value: str) -> bytes:
    text = value.encode()
    return struct.pack(">H", len(text)) + text


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, octets: int) -> bytes:
        if self.at + octets > len(self.data):
            raise ViciError("a truncated vici message")
        self.at += octets
        return self.data[self.at - octets : self.at]

    def octet(self) -> int:
        return self.take(1)[0]

    def name(self) -> str:
        return self.take(self.octet()).decode(errors="replace")

    def value(self) -> str:
        return self.take(struct.unpack(">H", self.take(2))[0]).decode(errors="replace")

    def values(self) -> list[str]:
        found = []
        while (kind := self.octet()) == LIST_ITEM:
            found.append(self.value())
        if kind != LIST_END:
            raise ViciError(f"element {kind} in a vici list")
        return found

    def section(self, *, outermost: bool) -> Message:
        found: Message = {}
        while self.at < len(self.data):
            kind = self.octet()
            if kind == SECTION_END and not outermost:
                return found
            if kind not in (KEY_VALUE, LIST_START, SECTION_START):
                raise ViciError(f"vici element {kind} out of place")
            name = self.name()
            if kind == KEY_VALUE:
                found[name] = self.value()
            elif kind == LIST_START:
                found[name] = self.values()
            else:
                found[name] = self.section(outermost=False)
        if not outermost:
            raise ViciError("a truncated vici message")
        return found


def decode(data: bytes) -> Message:
    """Octets as a message. ViciError when they are none."""
    return _Cursor(data).section(outermost=True)


class Vici:
    """One connection. A context manager. ViciError when nobody listens."""

    def __init__(self, path: Path, timeout: float = TIMEOUT_S) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            # A socket's name has room for 107 octets, a test's directory may need more: the descriptor's name is short.
            directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
        except OSError as error:
            self._socket.close()
            raise ViciError(f"{path}: {error.strerror}") from error

    def command(self, name: str, message: Mapping[str, str | list[str] | Message] | None = None) -> Message:
        """Runs a command to its end. ViciError when the peer says that it failed."""
        self._send(_named(REQUEST, name) + encode(message or {}))
        return self._response(name, [], None)

    def stream(self, name: str, event: str, message: Mapping[str, str | list[str] | Message] | None = None) -> list[Message]:
        """Runs a command that answers with events; those, in order."""
        events: list[Message] = []
        self._send(_named(REGISTER, event))
        if self._receive()[0] != CONFIRM:
            raise ViciError(f"no such event: {event}")
        self._send(_named(REQUEST, name) + encode(message or {}))
        self._response(name, events, event)
        return events

    def _response(self, name: str, events: list[Message], event: str | None) -> Message:
        while True:
            kind, body = self._receive()
            if kind == EVENT and event is not None:
                cursor = _Cursor(body)
                if cursor.name() == event:
                    events.append(decode(body[cursor.at :]))
            elif kind == RESPONSE:
                answer = decode(body)
                if answer.get("success") == "no":
                    raise ViciError(f"{name}: {answer.get('errmsg', 'failed')}")
                return answer
            elif kind == UNKNOWN_COMMAND:
                raise ViciError(f"no such command: {name}")

    def _send(self, packet: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(packet)) + packet)

    def _receive(self) -> tuple[int, bytes]:
        (octets,) = struct.unpack(">I", self._exactly(4))
        packet = self._exactly(octets)
        return packet[0], packet[1:]

    def _exactly(self, octets: int) -> bytes:
        data = b""
        while len(data) < octets:
            try:
                chunk = self._socket.recv(octets - len(data))
            except TimeoutError as late:
                raise ViciError("no answer in time") from late
            if not chunk:
                raise ViciError("the peer closed the connection")
            data += chunk
        return data

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
