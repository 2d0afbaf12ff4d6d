"""The log is written by a thread of its own: whoever has something to say leaves it there and goes on.

A reader that does not read, a disk that is full and a descriptor that is closed cost lines, which are counted, and nothing else.
The same line again and again is folded.
"""

from __future__ import annotations

import copy
import logging
import os
import select
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from ipsec_dp.gateway.log_events import LEFT_OUT, PACKAGE
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE_MOST: Final = 2048  # lines that wait
FOLD_S: Final = 10.0  # within which the same line is told with a count
FOLD_FREE: Final = 3  # of the same lines are written as they come: two alike need not be one thing
FOLD_KEYS: Final = 256  # lines that are compared
CLOSE_S: Final = 2.0  # that what waits has to be written at the end


class Sink(Protocol):
    """Where lines go."""

    def write(self, record: logging.LogRecord) -> None:
        """One line, waiting as long as it takes. Raises OSError."""

    def close(self) -> None:
        """Nothing more comes."""


def own_line(level: str, text: str, fields: dict[str, object]) -> logging.LogRecord:
    """A line of the log about itself; `fields`: of `told`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    record = logging.LogRecord(f"{PACKAGE}.gateway", number, __file__, 0, text, None, None)
    record.__dict__.update(fields)
    return record


class StreamSink:
    """A descriptor, which is closed with it: each line is whole, or begins on a line of its own after one that is not."""

    def __init__(self, descriptor: int, form: logging.Formatter, write: Callable[[int, bytes], int] = os.write) -> None:
        self._descriptor, self._form, self._write = descriptor, form, write
        self._begun = False  # a line that is not at its end

    def write(self, record: logging.LogRecord) -> None:
        data = self._form.format(record).encode(errors="backslashreplace") + b"\n"
        if self._begun:
            data = b"\n" + data
        while data:
            try:
                count = self._write(self._descriptor, data)
            except BlockingIOError:  # whoever has it too made it so
                select.select([], [self._descriptor], [])
                continue
            data = data[count:]
            self._begun = bool(data)

    def close(self) -> None:
        os.close(self._descriptor)


class NoSink:
    """There is nothing to write to."""

    def write(self, _: logging.LogRecord) -> None:
        raise OSError("stderr is closed")

    def close(self) -> None:
        pass


@dataclass(slots=True)
class _Seen:
    """A line that came `times`, the last of them `last`, first at `since`."""

    since: float
    last: logging.LogRecord
    times: int = 1


class Fold:
    """Of the same line that comes more than FOLD_FREE times within FOLD_S, the rest is one line with a count."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], _Seen] = {}  # the oldest first

    @property
    def holds(self) -> bool:
        """Whether something is still to be told."""
        return any(seen.times > FOLD_FREE for seen in self._seen.values())

    def admit(self, record: logging.LogRecord) -> Iterator[logging.LogRecord]:
        """What is to be written now that this line came."""
        for key, seen in tuple(self._seen.items()):
            if abs(record.created - seen.since) < FOLD_S and len(self._seen) <= FOLD_KEYS:
                break
            yield from self._told(self._seen.pop(key))
        key = record.levelno, record.name, getattr(record, "tunnel", None), record.msg
        seen_before = self._seen.get(key)
        if seen_before is None:
            self._seen[key] = _Seen(record.created, record)
            yield record
            return
        seen_before.times += 1
        seen_before.last = record
        if seen_before.times <= FOLD_FREE:
            yield record

    def end(self) -> Iterator[logging.LogRecord]:
        """What is to be written where nothing came for FOLD_S."""
        for seen in self._seen.values():
            yield from self._told(seen)
        self._seen.clear()

    def _told(self, seen: _Seen) -> Iterator[logging.LogRecord]:
        more = seen.times - FOLD_FREE
        if more > 0:
            made = copy.copy(seen.last)
            made.msg = f"{made.msg} ({more} more in {FOLD_S:g} s)"
            made.__dict__["fields"] = getattr(made, "fields", {}) | {"more": more}
            yield made


class LogWriter:
    """Writes to `sink`, whose end is `close`'s. Lines are `settled`; who puts them is serialized by a lock of logging's."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._fold = sink, Fold()
        self._queue: SimpleQueue[logging.LogRecord | Sink | None] = SimpleQueue()
        self._unqueued = 0  # lines for which there was no room, since the last that had some
        self._unwritten = 0
        self._refusal: str | None = None
        self.left_out = 0  # lines, in all
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """Why lines are lost now."""
        return "its reader does not read" if self._unqueued else self._refusal

    def put(self, record: logging.LogRecord) -> None:
        """Never waits."""
        if self._queue.qsize() >= QUEUE_MOST:
            self._unqueued += 1
            self.left_out += 1
            return
        self._tell_unqueued()
        self._queue.put(record)

    def _tell_unqueued(self) -> None:
        if self._unqueued:
            missed, self._unqueued = self._unqueued, 0
            self._queue.put(_missed(missed, "they were not read in time"))

    def use(self, sink: Sink) -> None:
        """What comes from now on goes there."""
        self._queue.put(sink)

    def close(self, within_s: float = CLOSE_S) -> None:
        """Writes what waits, as far as that goes in time. Nothing may be put any more."""
        self._tell_unqueued()
        self._queue.put(None)
        self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            try:
                came = self._queue.get(timeout=FOLD_S if self._fold.holds else None)
            except Empty:
                self._write_all(self._fold.end())
                continue
            if isinstance(came, logging.LogRecord):
                self._write_all(self._fold.admit(came))
                continue
            self._write_all(self._fold.end())
            self._sink.close()
            if came is None:
                return
            self._sink = came

    def _write_all(self, records: Iterator[logging.LogRecord]) -> None:
        for record in records:
            try:
                if self._unwritten:
                    self._sink.write(_missed(self._unwritten, self._refusal or ""))
                    self._unwritten = 0
                self._sink.write(record)
                self._refusal = None
            except Exception as error:  # noqa: BLE001 - one line is lost, whatever it is, and not the log
                self._refusal = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
                self._unwritten += 1
                self.left_out += 1


def _missed(count: int, why: str) -> logging.LogRecord:
    text = f"{count} line{'' if count == 1 else 's'} of the log left out: {why}"
    return own_line("warning", text, told(LEFT_OUT, count=count))
