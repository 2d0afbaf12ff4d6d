"""The control socket: one JSON object a line, request and answer.

A request is ``{"verb": "status", …}``, an answer ``{"ok": true, "result": …}`` or ``{"ok": false, "error": "…"}``. Keys that a
verb does not have are passed over, so that a newer command can ask an older gateway. The socket's mode is 0600: whoever may connect
is root (or the daemon's own user); with a group it is 0660, and its members may only read. Nothing a client does or leaves undone
holds the daemon up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Generic, TypeVar

import msgspec

from ipsec_dp.errors import ControlError, IpsecDpError, NoDaemonError
from ipsec_dp.gateway.control_place import BACKLOG, ControlPlace, check_length
from ipsec_dp.gateway.control_rights import OURSELVES, client_of, how_to_read
from ipsec_dp.gateway.following import FollowedAnswer
from ipsec_dp.util import os_errors
from ipsec_dp.util.faults import explained
from ipsec_dp.util.slices import Slice, in_slices, turn
from ipsec_dp.util.text import LINE, shown_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping

    from ipsec_dp.gateway.control_place import ListeningPlace
    from ipsec_dp.gateway.control_rights import Client

PIECE_OCTETS = 1 << 16  # of an answer that is sent in pieces
LIST_LONG = 16  # things in a field of a row, beyond which it is made text in parts
REQUEST_MAX = 1 << 15  # octets of a request: some paths (PATH_MAX is 4096), whatever escapes they are written with
LINE_MAX = 1 << 20  # octets of a line that a client reads
TOO_LONG = f"a request has no more than {REQUEST_MAX} octets"
ANSWER_MAX = 1 << 28  # octets of an answer: the status of every tunnel there can be
CLIENTS_MAX = 32
ACCEPTED_MAX = 8  # connections that one turn of the event loop accepts at the most
READERS_MAX = 24  # of them such as may only read: root is always heard
TOO_MANY = f"the gateway talks to {CLIENTS_MAX} clients already, which is all it can; end some of them (`status --watch` is one)"
TOO_MANY_READERS = f"the gateway talks to {READERS_MAX} clients that may only read, and to no more; end some of them"
IDLE_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 10.0
LAST_ANSWER_S = 1.0
_encode: Final = msgspec.json.Encoder().encode
KEEPS_SOCKET: Final[dict[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""Python takes nothing away by itself: a successor may listen there."""


Asked = TypeVar("Asked", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Verb(Generic[Asked]):
    """What a client may ask: `request` has the verb for its tag, `answer` carries it out. IpsecDpError becomes the error text.

    `reads`: it changes nothing, and shows nothing but what the gateway has: members of the control group may ask it.
    """

    request: type[Asked]
    answer: Callable[[Asked], Awaitable[msgspec.Struct | LongAnswer | FollowedAnswer]]
    reads: bool = False
    roots: bool = False  # nobody but root may ask it, not even the gateway's own user

    @property
    def name(self) -> str:
        return str(self.request.__struct_config__.tag)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One line: `ok` with a result, or not, with an error."""

    ok: bool
    result: Any = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def line(self) -> bytes:
        return json.dumps(shown_all(msgspec.to_builtins(self))).encode() + b"\n"


_decode: Final = msgspec.json.Decoder(Answer).decode


@dataclass(frozen=True, slots=True)
class LongAnswer:
    """A result whose last field, `key`, is too long to be made, or to be made text, at once. A client sees `head` with it."""

    head: msgspec.Struct
    key: str
    rows: AsyncIterator[msgspec.Struct]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The text of the whole line."""
        head = [part async for part in in_slices(_fields(self.head, self.key))]
        text, octets = [b'{"ok": true, "result": ', *head, _json(self.key), b": ["], 0
        separator = b""
        async for row in self.rows:
            text.append(separator)
            separator = b", "
            parts = _texts(row)
            time = None if isinstance(parts, tuple) else Slice()
            for part in parts:
                text.append(part)
                octets += len(part)
                if octets >= PIECE_OCTETS:
                    yield b"".join(text)
                    text, octets = [], 0
                if time is not None and time.over:
                    await turn()
                    time = Slice()
        yield b"".join((*text, b"]}}\n"))


def _texts(row: msgspec.Struct) -> Iterable[bytes]:
    """The JSON text of a row, in one part; of long lists (a tunnel may have thousands of CHILD_SAs) each thing is one."""
    for value in msgspec.structs.astuple(row):
        if type(value) is tuple and len(value) > LIST_LONG:
            return chain(_fields(row), (b"}",))
    return (_json(row),)


def _fields(row: msgspec.Struct, last: str | None = None) -> Iterator[bytes]:
    """The same without its end; of `last`, which is the last one, nothing but that it follows."""
    separator = b"{"
    for name, field in zip(row.__struct_encode_fields__, row.__struct_fields__, strict=True):
        if name == last:
            break
        yield b"%b%b: " % (separator, _json(name))
        separator = b", "
        value = getattr(row, field)
        if isinstance(value, tuple) and value:
            yield from (b"%b%b" % (b", " if number else b"[", _json(each)) for number, each in enumerate(value))
            yield b"]"
        else:
            yield _json(value)
    if last is not None:
        yield separator


def _json(value: object) -> bytes:
    """As `shown_all` has it, which is not asked where it would change nothing: no text is too long or has what JSON escapes."""
    with contextlib.suppress(UnicodeEncodeError):  # octets that are no UTF-8, in a path
        octets = msgspec.json.format(_encode(value), indent=0)
        if len(octets) <= LINE and octets.isascii() and b"\\" not in octets and b"\x7f" not in octets:
            return octets
    return json.dumps(shown_all(msgspec.to_builtins(value))).encode()


class ControlServer:
    """Listens at `path` until closed; for members of `group` too, if one is given."""

    def __init__(
        self,
        path: Path,
        verbs: Iterable[Verb[Any]],
        group: str | None = None,
        place: Callable[[Path, str | None], ListeningPlace] = ControlPlace,
    ) -> None:
        self.path, self._place = path, place(path, group)
        self._verbs = {verb.name: verb for verb in verbs}
        self._server: asyncio.Server | None = None
        self._left = False
        self._clients: dict[asyncio.Task[None], Client] = {}
        self._answering: set[asyncio.Task[bool]] = set()

    async def start(self) -> None:
        """Raises ControlError when another daemon answers there already, or there can be no socket."""
        listening = self._place.listen()
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listening, limit=REQUEST_MAX, backlog=ACCEPTED_MAX, **KEEPS_SOCKET
        )
        listening.listen(BACKLOG)  # more may wait

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            if self._answering:  # `down` is answered before the socket goes
                await asyncio.wait(self._answering, timeout=LAST_ANSWER_S)
            for task in tuple(self._clients):
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            self._server = None
            if not self._left:
                self._place.remove()

    @property
    def descriptor(self) -> int:
        """Of the socket that listens. Raises ControlError."""
        if self._server is None or not self._server.sockets:
            raise ControlError("nothing listens at the control socket")
        return self._server.sockets[0].fileno()

    def leave(self) -> None:
        """Another process listens there: `close` takes nothing away."""
        self._left = True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = client_of(writer.get_extra_info("socket"))
        readers = 0 if client.may_change else sum(not other.may_change for other in self._clients.values())
        if len(self._clients) >= CLIENTS_MAX or readers >= READERS_MAX:
            writer.write(Answer(ok=False, error=TOO_MANY_READERS if readers >= READERS_MAX else TOO_MANY).line)
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._client(reader, writer, client))
        self._clients[task] = client
        task.add_done_callback(self._clients.pop)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Client) -> None:
        try:
            await self._serve(reader, writer, client)
        except (ConnectionError, TimeoutError, asyncio.LimitOverrunError, ValueError):
            pass  # the client went away, or sent what no request is
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Client) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT_S):  # wait_for of Python 3.11 can swallow a cancellation
                    line = await reader.readline()
            except ValueError:  # the rest of the line is not worth reading
                writer.write(Answer(ok=False, error=TOO_LONG).line)
                return
            if not line:
                return
            await turn()  # however many ask at once
            answering = asyncio.ensure_future(self._write_answer(line, reader, writer, client))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)
            if not await answering:
                return

    async def _write_answer(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Client) -> bool:
        """Whether the client may ask more."""
        answer = await self.answer(line, client)
        if isinstance(answer, FollowedAnswer):
            await answer.send(reader, writer)
            return False
        if isinstance(answer, LongAnswer):
            async for piece in answer.pieces():
                writer.write(piece)
                await _drain(writer)
        else:
            writer.write(answer.line)
            await _drain(writer)
        return True

    async def answer(self, line: bytes, client: Client = OURSELVES) -> Answer | LongAnswer | FollowedAnswer:
        """Carries out the request that a line holds, if the client may ask it."""
        try:
            asked = json.loads(line)
        except (ValueError, RecursionError):  # nested beyond all reason
            return Answer(ok=False, error="a request is one JSON object a line")
        if not isinstance(asked, dict) or not isinstance(asked.get("verb"), str):
            return Answer(ok=False, error='a request is an object with a "verb"')
        name = asked["verb"]
        if name not in self._verbs:
            return Answer(ok=False, error=f'"{name}" is no verb of this gateway')
        verb = self._verbs[name]
        if not verb.reads and not client.may_change:
            return Answer(ok=False, error=self._may_only_read(name, client))
        try:
            request = msgspec.convert(asked, verb.request)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:  # it names the field; half of a surrogate pair
            return Answer(ok=False, error=f'the request "{name}" is wrong: {error}')
        if verb.roots and not client.is_root:
            return Answer(ok=False, error=f"{client.name} may not: `{name}` takes root")
        try:
            with explained(f'the request "{name}" failed'):
                result = await verb.answer(request)
        except IpsecDpError as error:
            return Answer(ok=False, error=str(error))
        return result if isinstance(result, LongAnswer | FollowedAnswer) else Answer(ok=True, result=result)

    def _may_only_read(self, name: str, client: Client) -> str:
        reading = ", ".join(verb.name for verb in self._verbs.values() if verb.reads)
        return f"{client.name} may only read ({reading}): `{name}` takes root"


async def _drain(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        await writer.drain()


def request(path: Path, message: Mapping[str, object], timeout: float = REQUEST_TIMEOUT_S) -> Any:
    """Sends one request to the gateway at `path` and returns its result, as JSON has it.

    Raises NoDaemonError when nobody listens there, ControlError when the gateway refuses, breaks off, or takes longer than
    `timeout` s.
    """
    with _connected(path, timeout) as connection, connection.makefile("rb") as lines:
        return _result(path, _asked(path, connection, lines, message, timeout))


def follow(path: Path, message: Mapping[str, object], timeout: float = REQUEST_TIMEOUT_S) -> Generator[dict[str, Any], None, None]:
    """Sends one request to the gateway at `path`, and yields what follows its answer, an object a line, until it ends; the last one
    is {"event": "end"} where the gateway stops. Raises as `request`; ControlError when it breaks off."""
    with _connected(path, timeout) as connection, connection.makefile("rb") as lines:
        _result(path, _asked(path, connection, lines, message, timeout))
        connection.settimeout(None)
        event: Any = None
        while event is None or event.get("event") != "end":
            event = _event(path, lines)
            yield event


@contextlib.contextmanager
def stream(path: Path, message: Mapping[str, object]) -> Iterator[tuple[Any, socket.socket, bytes]]:
    """Sends one request to the gateway at `path`: its result, the connection on which octets follow, and the first of them. Raises
    as `request`."""
    with _connected(path, REQUEST_TIMEOUT_S) as connection:
        with contextlib.suppress(BrokenPipeError):  # turned away: the reason is there to read
            connection.sendall(json.dumps(message).encode() + b"\n")
        received = b""
        while b"\n" not in received and len(received) < LINE_MAX:
            try:
                octets = connection.recv(PIECE_OCTETS)
            except OSError as error:
                raise ControlError(f"the gateway at {path} did not answer: {os_errors.text_of(error)}") from error
            if not octets:
                break
            received += octets
        line, _, rest = received.partition(b"\n")
        yield _result(path, line), connection, rest


def _event(path: Path, lines: BinaryIO) -> dict[str, Any]:
    try:
        line = lines.readline(LINE_MAX)
        event = json.loads(line) if line else None
    except (OSError, ValueError):
        event = None
    if not isinstance(event, dict):
        raise ControlError(f"the gateway at {path} broke off")
    return event


@contextlib.contextmanager
def _connected(path: Path, timeout: float) -> Iterator[socket.socket]:
    check_length(path)
    with _connection() as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NoDaemonError(f"no gateway listens at {path}; start one with: ipsec-dp up FILE") from error
        except PermissionError as error:
            raise ControlError(f"cannot read the control socket {path}: {error.strerror}; {how_to_read(path)}") from error
        except OSError as error:
            raise ControlError(f"the gateway at {path} cannot be asked: {os_errors.text_of(error)}") from error
        yield connection


def _asked(path: Path, connection: socket.socket, lines: BinaryIO, message: Mapping[str, object], timeout: float) -> bytes:
    """The line that a request is answered with."""
    try:
        with contextlib.suppress(BrokenPipeError):  # turned away: the reason is there to read
            connection.sendall(json.dumps(message).encode() + b"\n")
        return lines.readline(ANSWER_MAX)
    except TimeoutError as error:
        raise ControlError(f"the gateway at {path} did not answer within {timeout:g} s") from error
    except OSError as error:
        raise ControlError(f"the gateway at {path} broke off: {error.strerror}") from error


def _connection() -> socket.socket:
    try:
        return socket.socket(socket.AF_UNIX)
    except OSError as error:
        raise ControlError(f"no gateway can be asked: {os_errors.text_of(error)}") from error


def _answer_of(line: bytes) -> Answer:
    """Raises msgspec.ValidationError for JSON that is no answer, ValueError for what is no JSON."""
    try:
        return _decode(line)
    except msgspec.DecodeError:  # Python's reader takes more, NaN and half of a surrogate pair
        return msgspec.convert(json.loads(line), Answer)


def _result(path: Path, line: bytes) -> Any:
    try:
        answer = _answer_of(line)
    except msgspec.ValidationError as error:
        raise ControlError(f"what listens at {path} does not answer like a gateway") from error
    except ValueError as error:
        raise ControlError(f"the gateway at {path} broke off without an answer") from error
    if not answer.ok:
        raise ControlError("the gateway refused without a reason" if answer.error is msgspec.UNSET else answer.error)
    if answer.result is msgspec.UNSET:
        raise ControlError(f"what listens at {path} does not answer like a gateway")
    return answer.result
