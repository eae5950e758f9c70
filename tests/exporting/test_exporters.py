import contextlib
import signal
import threading

import pytest

from deploykit.base.errors import AnswerNo
from deploykit.exporting import exporters
from deploykit.exporting.exporters import interrupts_kept


def swallowing(*_):
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    raise AttributeError("partially initialized module 'torch' has no attribute 'fx'")


def failing(*_):
    raise AttributeError("no attribute 'fx'")


def export(tmp_path):
    return exporters.export_with("dynamo", None, None, ["output"], 20, dynamic=False, folder=tmp_path)


def test_an_interrupt_that_an_exporter_swallows_is_no_failure_of_it(monkeypatch, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(exporters, "_dynamo", swallowing)
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_exporter_that_fails_by_itself_is_said_to(monkeypatch, tmp_path):
    monkeypatch.setattr(exporters, "_dynamo", failing)
    with pytest.raises(AnswerNo, match="the dynamo exporter failed: AttributeError: no attribute 'fx'"):
        export(tmp_path)


def test_an_interrupt_that_leaves_no_trace_ends_the_block_too():
    def ignoring():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        ignoring()


def test_a_handler_that_only_takes_note_has_its_own_way_to_end():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with interrupts_kept():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_other_threads_are_left_alone():
    done = []

    def work():
        with interrupts_kept():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
