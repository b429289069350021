"""What a client of the load does with its answers."""

from __future__ import annotations

from math import inf

import pytest

from benchmarks.driver import frames, scripts
from benchmarks.driver.frames import Body
from benchmarks.driver.scripts import Book, Kind, Performer, Requests, Script, WrongAnswerError
from benchmarks.harness import LIBRARY
from lrs_trio.wire import lrs_pb2

MEDIA = ("/d1", "/d2", "/d3")


def medium(name: str) -> lrs_pb2.ResourceId:
    return lrs_pb2.ResourceId(family=lrs_pb2.DIR, name=name, library=LIBRARY)


def write_granted(*names: str) -> lrs_pb2.Response:
    media = [lrs_pb2.WriteGranted.Medium(medium=medium(name), root=name) for name in names]
    return lrs_pb2.Response(write=lrs_pb2.WriteGranted(media=media))


def read_granted(name: str) -> lrs_pb2.Response:
    return lrs_pb2.Response(
        read=lrs_pb2.ReadGranted(media=[lrs_pb2.ReadGranted.Medium(medium=medium(name), root=name)])
    )


def synced(*names: str) -> lrs_pb2.Response:
    return lrs_pb2.Response(release=lrs_pb2.Released(media=[medium(name) for name in names]))


PONG = lrs_pb2.Response(ping=True)
REFUSED = lrs_pb2.Response(error=lrs_pb2.Error(rc=-28, kind=lrs_pb2.KIND_WRITE))


def begun(kind: Kind, *, number: int = 0, ends: float = inf) -> tuple[Script, list[Body], Book]:
    """A script that has sent its first request, what it sends, and its book."""
    sent: list[Body] = []
    book = Book(0, ends)
    script = Performer(number, Requests(MEDIA), book, sent.append, files=False).script(kind)
    next(script)
    return script, sent, book


def test_a_write_cycle_releases_what_was_granted_and_is_counted_when_that_is_synced() -> None:
    script, sent, book = begun("write")
    script.send(write_granted("/d2"))
    assert sent == [frames.write(1), frames.release_written(("/d2",))]
    assert (book.all_cycles, len(book.took), book.released) == (0, 0, {})
    script.send(synced("/d2"))
    assert (book.all_cycles, len(book.took), book.released) == (1, 1, {("/d2",): 1})
    assert sent[2:] == [frames.write(1)]


def test_two_copies_are_released_together() -> None:
    script, sent, book = begun("write two copies")
    script.send(write_granted("/d3", "/d1"))
    script.send(synced("/d3", "/d1"))
    assert sent == [frames.write(2), frames.release_written(("/d3", "/d1")), frames.write(2)]
    assert book.released == {("/d3", "/d1"): 1}


def test_reads_go_through_all_media_and_wait_for_no_answer_of_their_releases() -> None:
    script, sent, book = begun("read", number=1)
    for name in ("/d2", "/d3", "/d1"):
        script.send(read_granted(name))
    names = ("/d2", "/d3", "/d1", "/d2")
    pairs = [body for name in names for body in (frames.read(name), frames.release_read(name))]
    assert sent == pairs[:-1]
    assert (book.all_cycles, book.released) == (3, {})


@pytest.mark.parametrize("number", [0, 1])
def test_a_mixed_client_reads_and_writes_in_turn(number: int) -> None:
    script, sent, _ = begun("mixed", number=number)
    name = MEDIA[number]
    reading = [frames.read(name), frames.release_read(name)]
    writing = [frames.write(1), frames.release_written((name,))]
    for _ in range(2):
        if sent[-1] == frames.write(1):
            script.send(write_granted(name))
            script.send(synced(name))
        else:
            script.send(read_granted(name))
    assert sent[:4] == (writing + reading if number else reading + writing)


@pytest.mark.parametrize(("begins", "ends", "counted"), [(0, inf, 1), (inf, inf, 0), (0, 0, 0)])
def test_only_cycles_in_the_window_are_counted_and_none_begins_after_it(
    begins: float, ends: float, counted: int
) -> None:
    sent: list[Body] = []
    book = Book(begins, ends)
    script = Performer(0, Requests(MEDIA), book, sent.append, files=False).script("ping")
    next(script)
    if ends:
        script.send(PONG)
        assert len(sent) == 2
    else:
        with pytest.raises(StopIteration):
            script.send(PONG)
        assert len(sent) == 1
    assert (book.all_cycles, book.cycles, len(book.took)) == (1, counted, counted)


@pytest.mark.parametrize(
    ("begun", "ended", "counted", "noted"),
    [
        (5, 8, 0, 0),
        (5, 12, 1, 1),
        (12, 18, 1, 1),
        (12, 90, 0, 1),
        (5, 90, 0, 1),
        (20, 21, 0, 0),
    ],
    ids=["before", "into", "in", "out of", "all through", "after"],
)
def test_how_long_cycles_took_is_noted_of_all_that_were_under_way_in_the_window(
    monkeypatch: pytest.MonkeyPatch, begun: float, ended: float, counted: int, noted: int
) -> None:
    monkeypatch.setattr(scripts, "perf_counter", lambda: ended)
    book = Book(10, 20)
    assert book.note(begun) == (ended < 20)
    assert (book.all_cycles, book.cycles, book.took) == (1, counted, [ended - begun] * noted)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("ping", REFUSED),
        ("write", REFUSED),
        ("write", PONG),
        ("write", write_granted("/d1", "/d2")),
        ("write two copies", write_granted("/d1", "/d1")),
        ("read", REFUSED),
        ("read", read_granted("/d3")),
    ],
)
def test_another_answer_than_that_is_an_error(kind: Kind, answer: lrs_pb2.Response) -> None:
    script, _, book = begun(kind)
    with pytest.raises(WrongAnswerError, match="was answered with"):
        script.send(answer)
    assert book.all_cycles == 0


def test_a_release_that_fails_is_an_error() -> None:
    script, _, book = begun("write")
    script.send(write_granted("/d1"))
    with pytest.raises(WrongAnswerError, match="a release of"):
        script.send(REFUSED)
    assert book.released == {}
