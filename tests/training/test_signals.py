from __future__ import annotations

import os
import signal
import threading

import pytest

from deploykit.training.signals import Stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_patient_stop_notes_the_first_signal_and_obeys_the_second(number: int) -> None:
    before = signal.getsignal(number)
    with Stop().listening() as stop:
        stop.patient = True
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_an_impatient_stop_obeys_at_once() -> None:
    with Stop().listening(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_other_threads_leave_the_handlers() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with Stop().listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
