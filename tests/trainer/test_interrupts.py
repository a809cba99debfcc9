import os
import signal
import threading

import pytest

from legion.neuro_architecture.trainer.interrupts import hold_interrupts


def test_interrupt_arrives_when_the_block_is_whole():
    done = []

    def work():
        with hold_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("rest of the block")
        done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["rest of the block"]


def test_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with hold_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ValueError, match="inside"), hold_interrupts():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_may_use_it():
    failures = []

    def work():
        try:
            with hold_interrupts():
                pass
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
