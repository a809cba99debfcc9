"""Tells files that run code when loaded, whatever their name: pickles of every protocol, and zip archives of them.

A scanner that looks for bad calls inside a pickle is bypassed structurally; so every pickle is refused. What is told
here goes beyond "the content is not what the name says", because a pickle can also be valid text (protocol 0), and a
tensor file can also be a valid zip archive.
"""

from __future__ import annotations

import pickletools
import zipfile
from typing import BinaryIO, Final

__all__ = ["code_in"]

_MOST_OPCODES: Final = 1 << 16
_LONGEST_LINE: Final = 1 << 16
# No text begins with so long a string and holds it: four letters read as a length are half a gigabyte at least.
_LONGEST_STRING: Final = 256 << 20
_IMPORTS: Final = frozenset({"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
_CALLS: Final = frozenset({"INST", "REDUCE", "BUILD", "OBJ", "NEWOBJ", "NEWOBJ_EX"})
_MEMO_WRITES: Final = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_MEMO_READS: Final = frozenset({"GET", "BINGET", "LONG_BINGET"})


def code_in(file: BinaryIO) -> str | None:
    """What of it runs code when loaded: a sentence, or None. Reads from the start and leaves the place anywhere."""
    file.seek(0)
    if _is_pickle(file):
        return "it is a pickle"
    file.seek(0)
    if _is_archive(file):
        return "it is a zip archive, as pickles of tensors are"
    return None


def _is_archive(file: BinaryIO) -> bool:
    """A random tail of weights may end like an archive; only one that lists members is one."""
    if not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return bool(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return False


def _is_pickle(file: BinaryIO) -> bool:
    """Whether an unpickler would call something on reading this, or read it to a value.

    Words can spell a few harmless opcodes (`N.`), so what imports nothing counts only where it is the whole file; no
    text spells thousands of them.
    """
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(
            pickletools.genops(_Bounded(file))  # type: ignore[arg-type]
        ):
            machine.step(opcode, argument)
            if machine.has_called or number >= _MOST_OPCODES:
                return True
    except _TooLongError:
        return True
    except (ValueError, IndexError):  # no such opcode, its argument torn, or no stack for it
        return False
    return machine.has_imported or not file.read(64).strip()


class _TooLongError(Exception):
    """A string that is there whole and longer than any text would spell."""


class _Bounded:
    """A file whose lines and strings are read without holding more than a bounded part of them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)

    def read(self, size: int) -> bytes:
        if size > self._size - self._file.tell():
            raise ValueError("a string ends beyond the file")
        if size > _LONGEST_STRING:
            raise _TooLongError
        return self._file.read(size)

    def readline(self) -> bytes:
        """The line, or its head and tail where it is long: enough to tell whether it is an argument."""
        line = self._file.readline(_LONGEST_LINE)
        if len(line) < _LONGEST_LINE:
            return line
        tail = line
        while not tail.endswith(b"\n") and (more := self._file.readline(_LONGEST_LINE)):
            tail = tail[-8:] + more
        return line[:64] + tail[-8:]


class _Machine:
    """The stack of an unpickler, as far as it says whether there is one: what lies on it does not matter."""

    def __init__(self) -> None:
        self.stack: list[bool] = []  # True is a mark
        self.memo: set[int] = set()
        self.has_imported = False
        self.has_called = False

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Raises ValueError or IndexError where an unpickler would fail."""
        if opcode.name in {"GLOBAL", "INST"}:
            _refuse_odd_names(str(argument))
        self._remember(opcode.name, argument)
        num_taken = len(opcode.stack_before)
        if pickletools.markobject in opcode.stack_before:
            num_taken = opcode.stack_before.index(pickletools.markobject)
            self._drop_to_mark()
        if len(self.stack) < num_taken:
            raise ValueError("nothing is on the stack")
        if num_taken:
            del self.stack[-num_taken:]
        self.stack += [item is pickletools.markobject for item in opcode.stack_after]
        self.has_imported |= opcode.name in _IMPORTS
        self.has_called |= self.has_imported and opcode.name in _CALLS

    def _remember(self, name: str, argument: object) -> None:
        if name == "MEMOIZE":
            self.memo.add(len(self.memo))
        elif name in _MEMO_WRITES and isinstance(argument, int):
            self.memo.add(argument)
        elif name in _MEMO_READS and argument not in self.memo:
            raise ValueError("nothing is remembered under this number")

    def _drop_to_mark(self) -> None:
        while not self.stack.pop():
            pass


def _refuse_odd_names(argument: str) -> None:
    """A module and a name in it are two words of identifiers; two lines of prose or numbers are not."""
    words = argument.split(" ")
    if len(words) != 2 or not all(part.isidentifier() for word in words for part in word.split(".")):
        raise ValueError("no module has such a name")
