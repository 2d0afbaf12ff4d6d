"""Who logs never waits and never fails, whatever becomes of the lines; and the same line again and again is folded."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from queue import Queue

import pytest

from ipsec_dp.gateway.log_forms import JsonFormatter, settled
from ipsec_dp.gateway.log_writer import (
    FOLD_FREE,
    FOLD_KEYS,
    FOLD_S,
    QUEUE_MOST,
    Fold,
    LogWriter,
    NoSink,
    StreamSink,
    own_line,
)
from ipsec_dp.util.told import told

PLAIN = logging.Formatter("%(levelname)s %(message)s")


def line(text, at=1000.0, level="info", **fields):
    made = own_line(level, text, told("note", **fields))
    made.created = at
    return made


class Scripted:
    """Takes lines, or raises what stands next; `held`: waits before the first one until it is let go on."""

    def __init__(self, *errors, held=False) -> None:
        self.lines: list[str] = []
        self.left: Queue[str] = Queue()
        self.closed = False
        self.go_on = threading.Event()
        self._errors = list(errors)
        if not held:
            self.go_on.set()

    def write(self, record) -> None:
        self.go_on.wait(30)
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        self.lines.append(record.getMessage())
        self.left.put(record.getMessage())

    def close(self) -> None:
        self.closed = True


# ---- a reader that does not read, a disk that is full ----------------------------------------------------------------------------


def full_pipe():
    """Both ends of one that takes nothing more, and how many octets are in it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    return reading, writing, filled


def test_ten_thousand_lines_to_a_pipe_that_nobody_reads_delay_nobody():
    """What waits is bounded, and what is left out is counted where it would have stood. A put that waited would wait for ever."""
    reading, writing, filled = full_pipe()
    on_its_way = threading.Event()

    def write(descriptor, data):
        on_its_way.set()
        return os.write(descriptor, data)

    writer = LogWriter(StreamSink(writing, PLAIN, write))
    lines = [settled(line(f"line {number} {'x' * 200}")) for number in range(10_000)]
    writer.put(lines[0])
    assert on_its_way.wait(10), "the first one, before the queue is full"
    for each in lines[1:]:
        writer.put(each)
    assert writer.left_out == 10_000 - QUEUE_MOST - 1
    assert writer.trouble == "its reader does not read"
    lost = writer.left_out
    with open(reading, "rb") as reader:
        assert reader.read(filled) == bytes(filled)
        came = [reader.readline() for _ in range(10_000 - lost)]
        writer.put(line("at last"))
        writer.close(10)
        came += reader.readlines()
    assert came[-1] == b"INFO at last\n"
    assert came[-2] == f"WARNING {lost} lines of the log left out: they were not read in time\n".encode()
    assert [each.split()[2] for each in came[:-2]] == [str(number).encode() for number in range(len(came) - 2)]
    assert writer.trouble is None


def test_at_the_end_a_reader_that_does_not_read_is_waited_for_a_while_only():
    sink = Scripted(held=True)
    writer = LogWriter(sink)
    writer.put(line("never read"))
    began = time.monotonic()
    writer.close(0.05)
    assert time.monotonic() - began < 5
    assert sink.lines == []
    sink.go_on.set()


def test_at_the_end_what_waits_is_written():
    sink = Scripted()
    writer = LogWriter(sink)
    for number in range(QUEUE_MOST // 2):
        writer.put(line(f"line {number}"))
    writer.close(10)
    assert len(sink.lines) == QUEUE_MOST // 2
    assert sink.closed


def test_a_full_disk_costs_the_lines_and_one_line_says_so():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sink = Scripted(full, full, full)
    writer = LogWriter(sink)
    for number in range(4):
        writer.put(line(f"line {number}"))
    assert sink.left.get(timeout=10) == "3 lines of the log left out: No space left on device"
    assert sink.left.get(timeout=10) == "line 3"
    writer.close(10)
    assert (writer.left_out, writer.trouble) == (3, None)


def test_while_it_lasts_it_is_known():
    sink = Scripted(*[OSError(errno.ENOSPC, "No space left on device")] * 2)
    writer = LogWriter(sink)
    writer.put(line("a"))
    writer.put(line("b"))
    writer.close(10)
    assert (writer.left_out, writer.trouble) == (2, "No space left on device")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_device_that_is_full_raises_into_nobody():
    writer = LogWriter(StreamSink(os.open("/dev/full", os.O_WRONLY), PLAIN))
    writer.put(line("a"))
    writer.close(10)
    assert writer.trouble == "No space left on device"


def test_a_stderr_that_is_closed_costs_lines_alone():
    writer = LogWriter(NoSink())
    writer.put(line("a"))
    writer.close(10)
    assert (writer.left_out, writer.trouble) == (1, "stderr is closed")


def test_a_pipe_whose_reader_is_gone_costs_lines_alone():
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(StreamSink(writing, PLAIN))
    writer.put(line("a"))
    writer.close(10)
    assert writer.trouble == "Broken pipe"


def test_a_fault_of_a_sink_costs_one_line():
    sink = Scripted(RuntimeError("broken"))
    writer = LogWriter(sink)
    writer.put(line("a"))
    writer.put(line("b"))
    writer.close(10)
    assert sink.lines == ["1 line of the log left out: broken", "b"]


def test_another_sink_gets_what_comes_after_it():
    first, second = Scripted(), Scripted()
    writer = LogWriter(first)
    writer.put(line("a"))
    writer.use(second)
    writer.put(line("b"))
    writer.close(10)
    assert (first.lines, first.closed, second.lines) == (["a"], True, ["b"])


def test_a_descriptor_that_others_made_non_blocking_is_waited_for():
    reading, writing = os.pipe2(os.O_NONBLOCK)
    os.set_blocking(reading, True)
    sink, text = StreamSink(writing, PLAIN), "x" * 200_000
    came: list[bytes] = []
    reader = threading.Thread(target=lambda: came.append(open(reading, "rb").read()))  # noqa: SIM115 - closed with the thread
    reader.start()
    sink.write(line(text))
    sink.close()
    reader.join(10)
    assert came == [f"INFO {text}\n".encode()]


def test_a_line_that_was_cut_does_not_run_into_the_next():
    """As on a disk that fills up in the middle of one."""
    came = bytearray()
    room = [4, -1, 100, 100]

    def write(_: int, data: bytes) -> int:
        octets = room.pop(0)
        if octets < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        came.extend(data[:octets])
        return min(octets, len(data))

    sink = StreamSink(-1, PLAIN, write)
    with pytest.raises(OSError, match="No space"):
        sink.write(line("one"))
    sink.write(line("two"))
    sink.write(line("three"))
    assert bytes(came) == b"INFO\nINFO two\nINFO three\n"


def test_json_goes_the_same_way(tmp_path):
    file = tmp_path / "log"
    writer = LogWriter(StreamSink(os.open(file, os.O_WRONLY | os.O_CREAT), JsonFormatter()))
    writer.put(line("a", count=3))
    writer.close(10)
    assert '"text": "a", "count": 3}' in file.read_text()


# ---- the same line again and again -----------------------------------------------------------------------------------------------


def texts(fold, *lines):
    return [made.getMessage() for each in lines for made in fold.admit(each)]


def test_the_same_line_is_written_a_few_times_and_then_counted():
    fold = Fold()
    assert texts(fold, *[line("again", 1000 + n / 100) for n in range(100)]) == ["again"] * FOLD_FREE
    assert fold.holds
    assert texts(fold, line("else", 1000 + FOLD_S)) == [f"again ({100 - FOLD_FREE} more in 10 s)", "else"]
    assert not fold.holds


def test_what_is_folded_is_told_also_where_nothing_else_comes():
    fold = Fold()
    texts(fold, *[line("again", 1000, level="warning", reason="x")] * 5)
    (made,) = fold.end()
    assert made.getMessage() == "again (2 more in 10 s)"
    assert made.levelname == "WARNING"
    assert made.__dict__["fields"] == {"reason": "x", "more": 2}
    assert list(fold.end()) == []


def test_lines_that_differ_are_no_repetition():
    fold = Fold()
    mixed = [line("a"), line("a", level="warning"), line("a", tunnel="to-b"), line("b")]
    assert len(texts(fold, *mixed * FOLD_FREE)) == len(mixed) * FOLD_FREE


def test_after_a_while_it_begins_anew():
    fold = Fold()
    assert texts(fold, *[line("again", 1000 + n * FOLD_S) for n in range(10)]) == ["again"] * 10


def test_a_clock_that_is_set_back_holds_nothing_for_ever():
    fold = Fold()
    texts(fold, *[line("again", 5000)] * 5)
    assert texts(fold, line("else", 1000)) == ["again (2 more in 10 s)", "else"]


def test_what_is_compared_is_bounded_and_a_count_is_told_before_it_is_forgotten():
    fold = Fold()
    texts(fold, *[line("first")] * 5)
    said = texts(fold, *[line(f"line {number}") for number in range(FOLD_KEYS + 1)])
    assert "first (2 more in 10 s)" in said
    assert len(said) == FOLD_KEYS + 2
