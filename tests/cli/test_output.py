import io

import pytest

from legion.cli.output import number, table
from legion.cli.progress import TerminalProgress, duration


class _Clock:
    def __init__(self):
        self.seconds = 0.0

    def now(self):
        raise AssertionError("progress needs no wall time")

    def monotonic_s(self):
        return self.seconds


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_text_columns_stand_left_and_numbers_right():
    assert table(["name", "ms"], [["a", "1.5"], ["long", "12.5"]]) == "name    ms\na      1.5\nlong  12.5"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.12345, "0.123"), (3.0, "3"), (12345, "12,345"), (1234.5678, "1,234.568")]
)
def test_numbers_read_well(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (7800, "2 h 10 min"), (-1, "0 s")]
)
def test_durations_read_well(seconds, shown):
    assert duration(seconds) == shown


def test_plain_progress_writes_a_line_every_thirty_seconds_with_an_eta():
    clock, stream = _Clock(), io.StringIO()
    progress = TerminalProgress(stream, clock)
    progress.start("train", 100)
    for done in range(1, 71):
        clock.seconds = float(done)
        progress.advance(done, loss=0.5)
    assert stream.getvalue().splitlines() == [
        "train: 30/100 ETA 1 min 12 s loss 0.500",
        "train: 60/100 ETA 41 s loss 0.500",
    ]


def test_a_resumed_task_counts_only_its_own_work_in_the_eta():
    clock, stream = _Clock(), io.StringIO()
    progress = TerminalProgress(stream, clock)
    progress.start("train", 100)
    progress.advance(80)
    clock.seconds = 40.0
    progress.advance(90)
    assert stream.getvalue() == "train: 90/100 ETA 40 s\n"


def test_a_bar_on_a_terminal_is_redrawn_in_place():
    clock, stream = _Clock(), _Terminal()
    progress = TerminalProgress(stream, clock)
    progress.start("train", 2)
    progress.advance(1)
    progress.finish()
    assert stream.getvalue().startswith("\r\x1b[2Ktrain [████████████············] 1/2")
    assert stream.getvalue().endswith("train: done (0 s)\n")
