"""The control socket: one JSON object a line, and nothing a client does holds the gateway up."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import socket
import stat
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest

from ipsec_dp.errors import ControlError, DataPlaneError, NoDaemonError
from ipsec_dp.gateway import control
from ipsec_dp.gateway.control import ControlServer, LongAnswer, Verb, request
from ipsec_dp.util.slices import in_slices
from tests.doubles.loop_thread import running


class Request(msgspec.Struct, omit_defaults=True, tag_field="verb"):
    pass


class Status(Request, tag="status"):
    tunnel: str | None = None
    count: int = 0


class Refuse(Request, tag="refuse"):
    pass


class Core(Request, tag="core"):
    pass


class Large(Request, tag="large"):
    pass


class List(Request, tag="list"):
    count: int


class Slow(Request, tag="slow"):
    pass


class Row(msgspec.Struct):
    number: int
    text: str = "x" * 100


class Rows(msgspec.Struct):
    name: str = "a"
    empty: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()


class Text(msgspec.Struct):
    text: list[str]


async def rows(count):
    async for number in in_slices(range(count), slice_s=0.0):
        yield Row(number)


async def echo(asked):
    match asked:
        case Refuse():
            raise ControlError("not now")
        case Core():
            raise DataPlaneError(22, "installing the SA: Invalid argument")
        case Large():
            return Text(["x" * 3000] * 1000)
        case List(count=count):
            return LongAnswer(Rows(), "rows", rows(count))
        case Slow():
            await asyncio.Event().wait()
    return asked


VERBS = [Verb(kind, echo) for kind in (Status, Refuse, Core, Large, List, Slow)]


@pytest.fixture
def path():
    """Short: a socket's name has at most 107 octets."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "run" / "a.sock"


@pytest.fixture
def gateway(path):
    """A server in a thread of its own; its path."""
    loop = asyncio.new_event_loop()
    server = ControlServer(path, VERBS)
    loop.run_until_complete(server.start())
    with running(loop, server.close):
        yield path


@contextlib.contextmanager
def connected(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        yield client


def answer(client):
    with client.makefile("rb") as lines:
        return json.loads(lines.readline())


def test_a_request_gets_its_result(gateway):
    assert request(gateway, {"verb": "status", "tunnel": "zu-Käse"}) == {"verb": "status", "tunnel": "zu-Käse"}


@pytest.mark.parametrize(
    ("verb", "text"), [("refuse", "not now"), ("core", "installing the SA: Invalid argument")], ids=["refused", "core"]
)
def test_an_error_of_ours_is_told_and_the_connection_goes_on(gateway, verb, text):
    with pytest.raises(ControlError, match=text):
        request(gateway, {"verb": verb})
    with connected(gateway) as client:
        for _ in range(2):
            client.sendall(json.dumps({"verb": verb}).encode() + b"\n")
            assert answer(client) == {"ok": False, "error": text}


@pytest.mark.parametrize(
    "line", [b"{", b"nonsense", b"\xff\xfe", b"", b"[1]", b"3", b'{"verb": 5}', b'{"x": "y"}', b"null", b"[" * 30_000]
)
def test_what_is_no_request_gets_an_error_and_the_next_one_is_heard(gateway, line):
    with connected(gateway) as client:
        client.sendall(line + b"\n")
        refused = answer(client)
        assert refused["ok"] is False
        assert "request" in refused["error"]
        client.sendall(b'{"verb": "status"}\n')
        assert answer(client) == {"ok": True, "result": {"verb": "status"}}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"verb": "status", "tunnel": 5}, "tunnel"),
        ({"verb": "status", "tunnel": ["a"]}, "tunnel"),
        ({"verb": "status", "count": True}, "count"),
        ({"verb": "status", "count": "5"}, "count"),
        ({"verb": "list"}, "count"),
        ({"verb": "list", "count": None}, "count"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_and_the_connection_goes_on(gateway, asked, field):
    with connected(gateway) as client:
        client.sendall(json.dumps(asked).encode() + b"\n")
        refused = answer(client)
        assert refused["ok"] is False
        assert f'the request "{asked["verb"]}" is wrong: ' in refused["error"]
        assert field in refused["error"]
        client.sendall(b'{"verb": "status"}\n')
        assert answer(client) == {"ok": True, "result": {"verb": "status"}}


def test_a_verb_that_nobody_knows_is_named(gateway):
    with pytest.raises(ControlError, match=r'^"dance" is no verb of this gateway$'):
        request(gateway, {"verb": "dance"})


def test_keys_that_a_verb_does_not_have_are_passed_over(gateway):
    assert request(gateway, {"verb": "status", "tunnel": "a", "colour": [1]}) == {"verb": "status", "tunnel": "a"}


def test_an_answer_may_be_longer_than_a_request(gateway):
    """The status of thousands of tunnels."""
    assert sum(map(len, request(gateway, {"verb": "large"})["text"])) == 3_000_000


def test_a_request_without_end_is_cut_off_and_others_are_served(gateway):
    with connected(gateway) as client:
        with contextlib.suppress(OSError):
            client.sendall(b"x" * (control.REQUEST_MAX * 2 + 65536 * 8))
        assert answer(client) == {"ok": False, "error": control.TOO_LONG}
        with contextlib.suppress(ConnectionError):
            assert client.recv(100) == b""
    assert request(gateway, {"verb": "status"}) == {"verb": "status"}


def test_clients_that_say_nothing_or_wait_hold_nobody_up(gateway):
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connected(gateway))
        stack.enter_context(connected(gateway)).sendall(b'{"verb": "slow"}\n')
        stack.enter_context(connected(gateway)).sendall(b'{"verb": "sta')
        assert request(gateway, {"verb": "status"}, timeout=5) == {"verb": "status"}


def test_a_client_that_goes_away_is_forgotten(gateway):
    for _ in range(control.CLIENTS_MAX * 2):
        with connected(gateway) as client:
            client.sendall(b'{"verb": "large"}\n')
            client.recv(1)
    assert request(gateway, {"verb": "status"}) == {"verb": "status"}


def test_more_clients_than_there_is_room_for_are_turned_away(gateway):
    with contextlib.ExitStack() as stack:
        for _ in range(control.CLIENTS_MAX):
            client = stack.enter_context(connected(gateway))
            client.sendall(b'{"verb": "status"}\n')
            answer(client)
        late = stack.enter_context(connected(gateway))
        assert answer(late) == {"ok": False, "error": control.TOO_MANY}
        assert late.recv(1) == b""
        with pytest.raises(ControlError, match="talks to 32 clients already"):
            request(gateway, {"verb": "status"})


def test_a_gateway_that_does_not_answer_in_time_is_an_error(gateway):
    with pytest.raises(ControlError, match=r"did not answer within 0\.05 s"):
        request(gateway, {"verb": "slow"}, timeout=0.05)


def test_only_the_owner_may_connect(gateway):
    assert stat.S_IMODE(gateway.stat().st_mode) == 0o600
    assert stat.S_IMODE(gateway.parent.stat().st_mode) == 0o700


def test_the_umask_is_as_before(gateway):
    before = os.umask(0o022)
    os.umask(before)
    assert before != 0o177


def test_nobody_there_says_what_to_do(path):
    with pytest.raises(NoDaemonError, match="ipsec-dp up FILE"):
        request(path, {"verb": "status"})


def test_a_second_gateway_is_refused_and_the_first_goes_on(gateway):
    with pytest.raises(ControlError, match="already running"):
        asyncio.run(ControlServer(gateway, VERBS).start())
    assert request(gateway, {"verb": "status"}) == {"verb": "status"}


def abandon(path):
    """A socket that nobody listens at any more, as a killed daemon leaves it."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()


def test_what_a_dead_gateway_left_is_taken_over(path):
    abandon(path)
    with pytest.raises(NoDaemonError):
        request(path, {"verb": "status"})

    async def run():
        server = ControlServer(path, VERBS)
        await server.start()
        result = await asyncio.to_thread(request, path, {"verb": "status"})
        await server.close()
        return result

    assert asyncio.run(run()) == {"verb": "status"}
    assert not path.exists()


def test_what_is_no_socket_is_left_alone(path):
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(ControlError, match="is no socket"):
        asyncio.run(ControlServer(path, VERBS).start())
    assert path.read_text() == "precious"


def test_closing_twice_or_unstarted_is_fine(path):
    async def run():
        server = ControlServer(path, VERBS)
        await server.close()
        await server.start()
        await server.close()
        await server.close()

    asyncio.run(run())
    assert not path.exists()


@contextlib.contextmanager
def listener(path, said):
    """Answers one client with these octets, whatever it asks."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve():
            client, _ = listening.accept()
            with client:
                client.recv(1000)
                client.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("said", [b"", b"rubbish\n", b"[1]\n", b'{"ok": 1}\n', b'"text"\n', b'{"ok": true}\n'])
def test_a_listener_that_is_no_gateway_is_an_error(path, said):
    with listener(path, said), pytest.raises(ControlError):
        request(path, {"verb": "status"}, timeout=5)


@pytest.mark.parametrize(("said", "result"), [(b"Infinity", float("inf")), (rb'"\ud800"', "\ud800")])
def test_what_pythons_json_alone_takes_is_read_too(path, said, result):
    """A gateway of another version may send it."""
    with listener(path, b'{"ok": true, "result": [%b]}\n' % said):
        assert request(path, {"verb": "status"}, timeout=5) == [result]


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_list_is_sent_in_pieces_and_arrives_as_one_answer(gateway, count):
    whole = request(gateway, {"verb": "list", "count": count})
    assert whole == {"name": "a", "empty": [], "rows": [{"number": number, "text": "x" * 100} for number in range(count)]}


def test_others_are_answered_while_a_list_is_made(gateway):
    with connected(gateway) as client:
        client.sendall(b'{"verb": "list", "count": 200000}\n')
        assert client.recv(1)
        assert request(gateway, {"verb": "status"}, timeout=5) == {"verb": "status"}
        client.setblocking(False)
        got = b""
        with contextlib.suppress(BlockingIOError):
            while piece := client.recv(1 << 20):
                got += piece
        assert not got.endswith(b"\n")


def test_the_socket_of_a_server_that_left_is_its_successors(tmp_path):
    async def leave():
        server = ControlServer(tmp_path / "a.sock", VERBS)
        await server.start()
        server.leave()
        await server.close()
        assert (tmp_path / "a.sock").is_socket()

    asyncio.run(leave())


def test_python_is_told_to_leave_it_where_it_would_not():
    known = inspect.signature(asyncio.SelectorEventLoop.create_unix_server).parameters
    assert ({"cleanup_socket": False} if "cleanup_socket" in known else {}) == control.KEEPS_SOCKET
