"""The file that a trace is, however it ends."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random

import pytest

from lrs_trio.errors import LrsError
from lrs_trio.events import EVENTS_VERSION, Event, EventKind
from lrs_trio.observe.recording import read_recording
from lrs_trio.observe.tracefile import CHUNK, Header, TraceReader, TraceWriter

START = Header("silo1", 77, 5.0, 9.0, "1.2.3")
HEADER = (
    b'{"format":"lrs-trio trace","version":2,"host":"silo1","pid":77,"time":5.0,"wall_clock":9.0,"program":"1.2.3"}\n'
)
LINE = b'{"time":6.0,"kind":"io.begun","serial":3}\n'
EVENT = Event(6.0, EventKind.IO_BEGUN, serial=3)


def written(tmp_path: Path, content: bytes, *, compressed: bool = True) -> Path:
    path = tmp_path / "trace"
    path.write_bytes(gzip.compress(content) if compressed else content)
    return path


def lines_in(path: Path) -> int:
    """How many complete lines can be read."""
    try:
        return 1 + len(list(TraceReader(path)))
    except LrsError as error:
        if "it has no header" in str(error):
            return 0
        raise


def test_any_program_that_knows_gzip_can_read_it() -> None:
    writer = TraceWriter(START)
    first = writer.flush()
    writer.add_event(EVENT)
    writer.add_message(7.1234567, 4, {"kind": "request", "id": 1, "ping": {}})
    assert gzip.decompress(first + writer.finish()) == (
        HEADER + LINE + b'{"time":7.123457,"connection":4,"kind":"request","id":1,"ping":{}}\n'
    )


def test_what_was_flushed_can_be_read_although_the_trace_goes_on(tmp_path: Path) -> None:
    writer = TraceWriter(START)
    content = b""
    for count in range(4):
        content += writer.flush()
        reader = TraceReader(written(tmp_path, content, compressed=False))
        assert reader.header == START
        assert len(list(reader)) == count
        writer.add_event(EVENT)


def test_a_file_that_is_cut_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    whole = gzip.compress(HEADER + LINE * 3 + b'{"time":8.0,"kind":"io.ended","detail":"x"}\n', mtime=0)
    counts = [lines_in(written(tmp_path, whole[:cut], compressed=False)) for cut in range(len(whole) + 1)]
    assert counts == sorted(counts)
    assert {counts[0], counts[-1]} == {0, 5}


@pytest.mark.parametrize("cut", range(len(LINE)))
def test_a_torn_last_line_is_left_out(tmp_path: Path, cut: int) -> None:
    assert read_recording(written(tmp_path, HEADER + LINE + LINE[:cut])).events == (EVENT,)


def test_long_files_are_read_piece_by_piece(tmp_path: Path) -> None:
    random = Random(1)
    lines = b"".join(b'{"time":6.0,"kind":"io.begun","detail":"%x"}\n' % random.getrandbits(1600) for _ in range(1000))
    path = written(tmp_path, HEADER + lines)
    assert path.stat().st_size > 2 * CHUNK
    assert len(read_recording(path).events) == 1000


def test_what_a_newer_daemon_tells_besides_is_left_out(tmp_path: Path) -> None:
    newer = b'{"time":6.0,"kind":"medium.dreamt"}\n{"time":6.0,"kind":"io.begun","serial":3,"mood":1,"size":"big"}\n'
    assert read_recording(written(tmp_path, HEADER + newer)).events == (EVENT,)


def test_the_version_is_that_of_the_events() -> None:
    assert b'"version":%d' % EVENTS_VERSION in HEADER


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a trace"),
        (HEADER[:-1], "is not a trace"),
        (b"root:x:0:0\n", "is not a trace"),
        (b"[" * 100_000 + b"\n", "is not a trace"),
        (b"\x80\xff\n", "is not a trace"),
        (b"[1]\n", "is not a trace"),
        (LINE, "is not a trace"),
        (HEADER.replace(b'"version":2', b'"version":1'), "is of version 1; this program reads version 2"),
        (HEADER.replace(b'"pid":77', b'"pid":null'), "line 1 "),
        (HEADER.replace(b"9.0", b"1e300"), "line 1 "),
        (HEADER.replace(b'"program"', b'"programme"'), "line 1 "),
        (HEADER + b"{}\n" + LINE, "line 2 "),
        (HEADER + LINE + b'{"time":true,"kind":"io.begun"}\n', "line 3 "),
        (HEADER + b'{"time":NaN,"kind":"io.begun"}\n', "line 2 "),
        (HEADER + b'{"time":1,"kind":"io.be\n' + LINE, "line 2 "),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(LrsError, match=said) as refused:
        read_recording(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("content", [HEADER, b"\x1f", b"\x1f\x8b\x08\x00oops", b"\0" * 100])
def test_what_is_not_compressed_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(LrsError, match="is not a trace"):
        read_recording(written(tmp_path, content, compressed=False))


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    random = Random(1)
    lines = b"".join(b'{"time":6.0,"kind":"io.begun","detail":"%x"}\n' % random.getrandbits(1600) for _ in range(1000))
    content = bytearray(gzip.compress(HEADER + lines))
    content[3 * CHUNK : 3 * CHUNK + 64] = bytes(64)
    with pytest.raises(LrsError, match="damaged after line"):
        read_recording(written(tmp_path, bytes(content), compressed=False))
