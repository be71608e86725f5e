"""The spool sends everything in order, whatever the store does meanwhile, and says what it could not send."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ParityError
from pipeline.tracking.event_log import Event
from pipeline.tracking.spool import RefusedError, Spool, count_unsent, unsent


class Store:
    """What sends the events: it fails with `error`, if that is set, and of some events with those in `errors`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.errors: dict[int, Exception] = {}
        self.calls: list[list[int]] = []
        self.tried = threading.Event()

    def send(self, folder: Path, events: list[Event]) -> None:
        self.tried.set()
        if self.error:
            raise self.error
        numbers = [event["number"] for event in events]
        for number in numbers:
            if number in self.errors:
                raise self.errors[number]
        self.calls.append(numbers)

    @property
    def numbers(self) -> list[int]:
        return [number for call in self.calls for number in call]


def group(*numbers: int, kind: str = "values") -> list[Event]:
    return [{"kind": kind, "number": number, "path": "", "file": f"files/{number}.png"} for number in numbers]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("pipeline.tracking.spool._PATIENCE", 1.0)
    monkeypatch.setattr("pipeline.tracking.spool._LITTLE_PATIENCE", 0.1)
    yield
    unsent.clear()


def test_everything_is_sent_in_order_and_the_folder_is_empty_afterwards(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path, store.send)
    for number in range(100):
        spool.append(group(2 * number, 2 * number + 1))
    spool.append(group(200, kind="end"))
    spool.new_file("figure.png").write_bytes(b"PNG")
    spool.close()
    assert store.numbers == [*range(201)]
    assert store.calls[-1] == [200]  # its order matters, so it goes alone
    assert list(tmp_path.iterdir()) == []
    assert unsent == []


def test_files_of_one_name_do_not_get_in_each_others_way(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path, store.send)
    assert len({spool.new_file("figure.png") for _ in range(5)}) == 5
    spool.close()


def test_a_store_that_was_away_for_long_is_given_time_to_answer_at_the_end(store: Store, tmp_path: Path) -> None:
    store.error = ConnectionError()
    spool = Spool(tmp_path, store.send)
    spool.append(group(0))
    assert not spool.flush()  # waited in vain
    store.error = None
    while spool.error:  # the thread goes on trying
        store.tried.wait()
    store.error = ConnectionError()
    spool.append(group(1))
    threading.Timer(0.4, lambda: setattr(store, "error", None)).start()  # longer than after a wait in vain
    assert spool.flush()
    assert store.numbers == [0, 1]
    store.error = ConnectionError("no route to host")
    spool.append(group(2))
    spool.close()
    assert unsent == [f"1 of 3 records not sent, but kept in {tmp_path}: no route to host"]
    assert count_unsent(tmp_path) == 1


def test_what_was_not_sent_is_sent_by_the_next_who_opens_the_spool_and_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    spool = Spool(tmp_path, store.send)
    spool.append(group(0))
    assert spool.flush()
    store.error = ConnectionError()
    spool.append(group(1))
    spool.append(group(2, 3))
    spool.close()
    assert count_unsent(tmp_path) == 2
    store.error = None
    again = Spool(tmp_path, store.send)
    assert [event["number"] for event in again.events] == [0, 1, 2, 3]
    again.close()
    assert store.numbers == [0, 1, 2, 3]
    assert count_unsent(tmp_path) == 0


def test_what_is_refused_is_not_tried_again(store: Store, tmp_path: Path) -> None:
    store.error = RefusedError("the run was deleted")
    spool = Spool(tmp_path, store.send)
    spool.append(group(0))
    assert not spool.flush()
    store.error = None
    assert not spool.flush()
    spool.close()
    assert unsent == [f"1 of 1 record not sent, but kept in {tmp_path}: the run was deleted"]


@pytest.mark.parametrize("error", [RefusedError("too large"), ConnectionError("broken off")])
def test_what_is_not_taken_does_not_hold_up_the_rest(error: Exception, store: Store, tmp_path: Path) -> None:
    store.errors[1] = error
    spool = Spool(tmp_path, store.send)
    for number in range(4):
        spool.append(group(number, kind="artifact"))
    spool.append(group(4, kind="end"))
    while not spool.reason or set(store.numbers) < {0, 2, 3, 4}:
        spool.flush()
    spool.close()
    assert sorted(store.numbers) == [0, 2, 3, 4]
    assert unsent == [f"1 of 5 records not sent, but kept in {tmp_path}: {error}"]
    assert count_unsent(tmp_path) == 1
    store.errors.clear()
    Spool(tmp_path, store.send).close()
    assert sorted(store.numbers) == [0, 1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_has_something_else_is_reported_where_somebody_waits_and_the_rest_is_sent(
    store: Store, tmp_path: Path
) -> None:
    store.error = ParityError("another file")
    spool = Spool(tmp_path, store.send)
    spool.append(group(0, kind="model"))
    with pytest.raises(ParityError, match="another file"):
        spool.flush()
    store.error = None
    spool.append(group(1))
    assert spool.flush()
    spool.close()
    assert (store.numbers, unsent) == ([1], [])


def test_a_damaged_record_is_reported_and_the_rest_is_sent(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.error = ConnectionError()
    spool = Spool(tmp_path, store.send)
    for number in range(3):
        spool.append(group(number))
    spool.close()
    path = tmp_path / "events.jsonl"
    path.write_text(path.read_text().replace('number\\": 1', 'number\\": 7'))
    store.error = None
    Spool(tmp_path, store.send).close()
    assert capsys.readouterr().err == f"tracking: {path} is damaged: record 2 is lost\n"
    assert store.numbers == [0, 2]


def test_what_was_refused_does_not_undo_later_what_came_after_it(store: Store, tmp_path: Path) -> None:
    def values(number: int, **tags: str) -> Event:
        return {"kind": "values", "number": number, "tags": tags}

    def artifact(number: int, name: str) -> Event:
        return {"kind": "artifact", "number": number, "path": "figures", "file": f"files/{number}/{name}"}

    store.errors = {number: RefusedError("413") for number in range(4)}
    spool = Spool(tmp_path, store.send)
    spool.append([values(0, quality="worse", note="first"), artifact(1, "a.png"), artifact(2, "b.png")])
    spool.append([{"kind": "end", "number": 3, "status": "KILLED"}])
    spool.append([values(4, quality="better"), artifact(5, "a.png")])
    spool.append([{"kind": "end", "number": 6, "status": "FINISHED"}])
    assert not spool.flush()
    spool.close()
    assert sorted(store.numbers) == [4, 5, 6]

    store.errors = {}
    sent: list[Event] = []

    def send(folder: Path, events: list[Event]) -> None:
        sent.extend(events)

    Spool(tmp_path, send).close()
    assert sent == [values(0, note="first"), artifact(2, "b.png")]
