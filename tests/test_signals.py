"""The first signal waits for a good moment, a second one does not; one Ctrl-C may come as two signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from pipeline import signals
from pipeline.signals import Stopped, deferred, install

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ALL}
    monkeypatch.setattr(signals, "_asked", None)
    install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ALL)
def test_a_signal_stops_at_once(number: signal.Signals) -> None:
    with pytest.raises(Stopped) as stopped:
        send(number)
    assert (stopped.value.number, stopped.value.name) == (number, number.name)
    assert not isinstance(stopped.value, Exception)


def test_the_first_signal_waits_for_a_good_moment() -> None:
    done: list[str] = []

    def train() -> None:
        with deferred() as found:
            assert not found.asked
            found.check()
            send(signal.SIGTERM)
            assert found.asked
            done.append("the step")
            found.check()
            done.append("never")

    with pytest.raises(Stopped, match="SIGTERM"):
        train()
    assert done == ["the step"]


def test_at_the_end_a_signal_that_waited_is_obeyed() -> None:
    done: list[str] = []

    def train() -> None:
        with deferred():
            send(signal.SIGHUP)
            done.append("all")

    with pytest.raises(Stopped, match="SIGHUP"):
        train()
    assert done == ["all"]


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def train() -> None:
        with deferred():
            send(signal.SIGTERM)
            send(signal.SIGINT)  # the same Ctrl-C
            done.append("the step")
            now = time.monotonic()
            monkeypatch.setattr(time, "monotonic", lambda: now + 1.1)
            send(signal.SIGINT)
            done.append("never")

    with pytest.raises(Stopped, match="SIGINT"):
        train()
    assert done == ["the step"]


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    install()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    send(signal.SIGHUP)
