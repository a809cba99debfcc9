"""What this machine remembers of logs, outside their folders: which log stands where, its key, its largest checkpoint.

```
<log>: SHA-256 of the origin, 32 hex digits; <place>: SHA-256 of the folder's path, 32 hex digits
<keys>/<log>.key      the private key, `PRIVATE+KEY+name+hex+base64` as Go's sumdb/note has it, mode 0600
<keys>/<log>.vkey     the pinned verifier key
<keys>/<log>.seen     the largest checkpoint seen: two slots of 1024 bytes, written in turn, so that one is whole
<keys>/<place>.place  origin of the log in a folder
```
Rollback, replay of an older copy, a fork, and another key are found against this, so it must not lie in the log's
folder. The checkpoint is not synced at each commit: after a power failure it may be some seconds old.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import IntegrityError, InvalidValueError, WorldError
from legion.foundation.files import fsync_folder, write_text
from legion.neuro_architecture.registry.failpoints import failpoint
from legion.neuro_architecture.registry.translog.notes import Checkpoint, Signer, VerifierKey

__all__ = ["LogMemory", "PlaceMemory"]

log = logging.getLogger(__name__)

_SLOT_BYTES: Final = 1024
_DIGITS: Final = 32


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]


@final
class PlaceMemory:
    """Which log stands in a folder.

    Args:
        keys: The machine's folder of keys.
        folder: The registry's.
    """

    def __init__(self, keys: Path, folder: Path) -> None:
        self.path = keys / f"{_digest(str(folder.resolve()))}.place"

    def origin(self) -> str | None:
        """The origin of the log that was seen in the folder, or None where none was."""
        return _read_line(self.path)

    def remember(self, origin: str) -> None:
        """Binds the folder to a log; a folder that cannot be written is a warning."""
        try:
            _make_private(self.path.parent)
            write_text(self.path, origin + "\n")
        except (OSError, WorldError) as error:
            log.warning("cannot remember which log stands here: %s", error)


@final
class LogMemory:
    """What this machine knows of one log.

    Args:
        keys: The machine's folder of keys.
        origin: The log's name.
    """

    def __init__(self, keys: Path, origin: str) -> None:
        self._keys = keys
        self.origin = origin
        base = _digest(origin)
        self.key_path = keys / f"{base}.key"
        self.pin_path = keys / f"{base}.vkey"
        self.seen_path = keys / f"{base}.seen"
        self._slots: tuple[bytes, list[int]] = (b"", [-1, -1])  # the file as last met, and the sizes in it

    def signer(self) -> Signer | None:
        """The private key, or None where this machine has none.

        Raises:
            IntegrityError: the file is damaged or of another log.
            WorldError: others may read the file, or nobody can.
        """
        try:
            mode = self.key_path.stat().st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise WorldError(
                    f"others may read the private key {self.key_path}",
                    cause=f"its mode is {stat.S_IMODE(mode):04o}",
                    hint=f"chmod 600 {self.key_path}",
                )
            signer = Signer.parse(self.key_path.read_text(encoding="utf-8").removesuffix("\n"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except InvalidValueError as error:
            raise IntegrityError(f"the private key {self.key_path} is damaged", cause=error.cause) from error
        except (OSError, UnicodeDecodeError) as error:
            raise WorldError(f"cannot read the private key {self.key_path}", cause=str(error)) from error
        if signer.verifier.name != self.origin:
            raise IntegrityError(f"{self.key_path} is of log {signer.verifier.name!r}, not {self.origin!r}")
        return signer

    def create_signer(self) -> Signer:
        """A fresh private key, durable at return.

        Raises:
            WorldError: there is one, or the disk refused.
        """
        signer = Signer.generate(self.origin)
        try:
            _make_private(self._keys)
            failpoint("log.before-key")
            descriptor = os.open(self.key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                content = f"{signer.secret()}\n".encode()
                while content:  # a disk may take less than it was given
                    content = content[os.write(descriptor, content) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fsync_folder(self._keys)
            failpoint("log.after-key")
        except OSError as error:
            raise WorldError(f"cannot write the private key {self.key_path}", cause=str(error)) from error
        return signer

    def pinned(self) -> VerifierKey | None:
        """The key that signed the log when it was first seen, or None where it never was.

        Raises:
            IntegrityError: the file is damaged.
        """
        line = _read_line(self.pin_path)
        if line is None:
            return None
        try:
            return VerifierKey.parse(line)
        except InvalidValueError as error:
            raise IntegrityError(f"the pinned key {self.pin_path} is damaged", cause=error.message) from error

    def pin(self, key: VerifierKey) -> None:
        """Trusts this key from now on; a folder that cannot be written is a warning."""
        try:
            _make_private(self._keys)
            write_text(self.pin_path, f"{key}\n")
        except (OSError, WorldError) as error:
            log.warning("cannot pin the key of %s: %s", self.origin, error)

    def seen(self) -> Checkpoint | None:
        """The largest checkpoint seen; its signature is not verified.

        Raises:
            IntegrityError: both slots are damaged.
            WorldError: the file cannot be read.
        """
        try:
            content = self.seen_path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise WorldError(f"cannot read {self.seen_path}", cause=str(error)) from error
        slots = _parse_slots(content)
        if not any(slots) and content.strip(b"\0"):
            raise IntegrityError(
                f"the remembered checkpoint {self.seen_path} is damaged",
                hint="compare the log with a copy you trust, then delete the file",
            )
        return max(filter(None, slots), key=lambda checkpoint: checkpoint.size, default=None)

    def remember(self, checkpoint: Checkpoint) -> None:
        """Remembers a durable checkpoint where it is the largest; a file that cannot be written is a warning."""
        try:
            failpoint("log.before-remember")
            descriptor = self._open_seen()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                sizes = self._sizes(os.pread(descriptor, 2 * _SLOT_BYTES, 0).ljust(2 * _SLOT_BYTES, b"\0"))
                if checkpoint.size > max(sizes):
                    slot = sizes.index(min(sizes))
                    note = checkpoint.note.ljust(_SLOT_BYTES, b"\0")
                    os.pwrite(descriptor, note, slot * _SLOT_BYTES)
                    content = self._slots[0]
                    content = note + content[_SLOT_BYTES:] if slot == 0 else content[:_SLOT_BYTES] + note
                    sizes[slot] = checkpoint.size
                    self._slots = (content, sizes)
            finally:
                os.close(descriptor)
            failpoint("log.after-remember")
        except OSError as error:
            log.warning("cannot remember the checkpoint of %s: %s", self.origin, error)

    def _open_seen(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self.seen_path, flags, 0o644)
        except FileNotFoundError:
            _make_private(self._keys)
            return os.open(self.seen_path, flags, 0o644)

    def _sizes(self, content: bytes) -> list[int]:
        if content != self._slots[0]:
            self._slots = (content, [slot.size if slot else -1 for slot in _parse_slots(content)])
        return self._slots[1]


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _parse_slots(content: bytes) -> list[Checkpoint | None]:
    slots: list[Checkpoint | None] = []
    for start in (0, _SLOT_BYTES):
        note = content[start : start + _SLOT_BYTES].rstrip(b"\0")
        try:
            slots.append(Checkpoint.parse(note))
        except IntegrityError:
            slots.append(None)
    return slots


def _read_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"cannot read {path}", cause=str(error)) from error
