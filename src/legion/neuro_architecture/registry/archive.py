"""One kind of file for many: a tape archive (POSIX ustar) that can be written in exactly one way.

Chosen over zip, because it is read front to back and says everything once: no second directory that may contradict the
first, no compression that may swell, no extra fields. Every header is computed from a name and a size alone (mode 0644,
owner, group and time 0) and compared byte for byte; padding and end are zero bytes. So `tar -xf` reads it, and each
byte of it is either content or accounted for. What an archive may otherwise hold (links, devices, folders, extended
headers, sparse files, absolute names, names that climb) is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal, final

__all__ = [
    "BLOCK_BYTES",
    "CHUNK_BYTES",
    "MAX_MEMBER_BYTES",
    "Flaw",
    "FlawError",
    "FlawKind",
    "Member",
    "end_of_archive",
    "header_of",
    "padding_of",
    "read_members",
]

BLOCK_BYTES: Final = 512
CHUNK_BYTES: Final = 1 << 20
MAX_MEMBER_BYTES: Final = 8**11 - 1  # eleven octal digits
MAX_NAME_BYTES: Final = 100
_SIZE: Final = slice(124, 136)
_TYPE: Final = slice(156, 157)
_CHECKSUM: Final = slice(148, 156)
_TYPES: Final = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"x": "an extended header",
    b"g": "a global extended header",
    b"L": "a long name of GNU tar",
    b"K": "a long link of GNU tar",
    b"S": "a sparse file of GNU tar",
    b"\0": "a file of the old form",
}

FlawKind = Literal[
    "altered",
    "duplicate",
    "forbidden",
    "key not trusted",
    "missing",
    "out of order",
    "too large",
    "trailing data",
    "truncated",
    "unexpected",
]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing in an archive that is not as it was written.

    Attributes:
        member: Name of the file in it that is concerned, or `(archive)` for what lies between files.
        offset: Where in the archive it is, or where the member's content begins, in bytes.
        kind: What is wrong.
        detail: One sentence.
    """

    member: str
    offset: int
    kind: FlawKind
    detail: str

    def __str__(self) -> str:
        return f"{self.member} at byte {self.offset}: {self.kind}: {self.detail}"


class FlawError(Exception):
    """An archive cannot be read beyond a flaw."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(str(flaw))
        self.flaw = flaw


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in an archive.

    Attributes:
        name: Its name.
        start: Where its content begins.
        size: How long that is.
    """

    name: str
    start: int
    size: int

    @property
    def stop(self) -> int:
        """Where its padding ends and the next header begins."""
        return self.start + self.size + len(padding_of(self.size))


def header_of(name: str, size: int) -> bytes:
    """The one header of a file of this name and size, 512 bytes.

    Raises:
        ValueError: the name is not ASCII or longer than 100 bytes, or the size is 8 GiB or more.
    """
    if not 0 <= size <= MAX_MEMBER_BYTES:
        raise ValueError(f"{name} has {size} bytes; an archive's file has at most {MAX_MEMBER_BYTES}")
    encoded = name.encode("ascii")
    if not 0 < len(encoded) <= MAX_NAME_BYTES:
        raise ValueError(f"a name of {len(encoded)} bytes; an archive's name has 1 to {MAX_NAME_BYTES}")
    fields = (
        encoded.ljust(MAX_NAME_BYTES, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0",  # owner
        b"0000000\0",  # group
        b"%011o\0" % size,
        b"00000000000\0",  # time
        b" " * 8,  # checksum, counted as blanks
        b"0",  # a file
        bytes(100),  # no link
        b"ustar\00000",
        bytes(64),  # no names of owner and group
        b"0000000\0" * 2,  # no device
        bytes(167),  # no prefix, and padding
    )
    header = bytearray(b"".join(fields))
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


def padding_of(size: int) -> bytes:
    """What fills the last block of a content of this size."""
    return bytes(-size % BLOCK_BYTES)


def end_of_archive() -> bytes:
    """What stands behind the last file: two empty blocks."""
    return bytes(2 * BLOCK_BYTES)


def read_members(file: BinaryIO, length: int) -> Iterator[Member]:
    """The files of an archive in order. Whoever asks for the next has moved nothing; content is not read here.

    Args:
        file: The archive, seekable.
        length: Its bytes.

    Raises:
        FlawError: a header, padding or the end is not what it must be, byte for byte.
    """
    position = 0
    while True:
        file.seek(position)
        header = file.read(BLOCK_BYTES)
        if len(header) < BLOCK_BYTES:
            raise FlawError(_flaw(position, "truncated", f"it ends after {length} bytes, without an end mark"))
        if not any(header):
            _check_end(file, position, length)
            return
        member = _member(header, position)
        if member.stop > length:
            detail = f"it says {member.size} bytes, the archive ends after {length - member.start}"
            raise FlawError(Flaw(member=member.name, offset=position, kind="truncated", detail=detail))
        yield member
        _check_padding(file, member)
        position = member.stop


def _member(header: bytes, position: int) -> Member:
    name = header[:MAX_NAME_BYTES].rstrip(b"\0").decode("ascii", "backslashreplace")
    shown = name or "(archive)"
    kind = _TYPES.get(header[_TYPE])
    if kind is not None and _is_summed(header):
        detail = f"it is {kind}; only plain files may be here"
        raise FlawError(Flaw(member=shown, offset=position, kind="forbidden", detail=detail))
    digits = header[_SIZE].rstrip(b"\0")
    if len(digits) != 11 or not digits.isdigit() or b"8" in digits or b"9" in digits:
        detail = f"its header states no size but {digits!r}"
        raise FlawError(Flaw(member=shown, offset=position + _SIZE.start, kind="altered", detail=detail))
    size = int(digits, 8)
    try:
        expected = header_of(name, size)
    except ValueError as error:
        raise FlawError(Flaw(member=shown, offset=position, kind="altered", detail=str(error))) from error
    if header != expected:
        at = next(index for index, (one, other) in enumerate(zip(header, expected, strict=True)) if one != other)
        detail = "its header is not the one that its name and size ask for"
        raise FlawError(Flaw(member=shown, offset=position + at, kind="altered", detail=detail))
    return Member(name=name, start=position + BLOCK_BYTES, size=size)


def _is_summed(header: bytes) -> bool:
    """Whether the checksum holds, so that the odd type was meant and is no flipped byte."""
    blank = bytearray(header)
    blank[_CHECKSUM] = b" " * 8
    return header[_CHECKSUM].rstrip(b"\0 ") == b"%06o" % sum(blank)


def _check_padding(file: BinaryIO, member: Member) -> None:
    file.seek(member.start + member.size)
    found = file.read(member.stop - member.start - member.size)
    at = next((index for index, byte in enumerate(found) if byte), None)
    if at is not None:
        detail = "there is something behind its content where zero bytes belong"
        offset = member.start + member.size + at
        raise FlawError(Flaw(member=member.name, offset=offset, kind="altered", detail=detail))


def _check_end(file: BinaryIO, position: int, length: int) -> None:
    stop = position + 2 * BLOCK_BYTES
    if length > stop:
        raise FlawError(_flaw(stop, "trailing data", f"{length - stop} bytes follow the end mark"))
    if length < stop:
        raise FlawError(_flaw(length, "truncated", "its end mark is cut off"))
    file.seek(position)
    found = file.read(2 * BLOCK_BYTES)
    at = next((index for index, byte in enumerate(found) if byte), None)
    if at is not None:
        raise FlawError(_flaw(position + at, "altered", "its end mark is not all zero bytes"))


def _flaw(offset: int, kind: FlawKind, detail: str) -> Flaw:
    return Flaw(member="(archive)", offset=offset, kind=kind, detail=detail)
