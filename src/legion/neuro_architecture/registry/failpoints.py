"""Named places where a test makes the machine fail: nothing happens unless `LEGION_FAILPOINTS` names them.

```
LEGION_FAILPOINTS="log.after-write=kill:3,log.before-sync=eio"
name=action[:pass][+]      pass: the how-manieth time the place is passed, 1 by default; `+`: from then on each time
kill                       SIGKILL of this process
eio enospc                 OSError with that number
short                      the write that stands there writes half at first
```
`PLACES` names them all and says what is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from legion.foundation.errors import ConfigError

__all__ = ["PLACES", "activated", "failpoint", "first_part"]

PLACES: Final = {
    "log.before-key": "nothing of a new log is there",
    "log.after-key": "its private key is durable, its folder knows nothing of it",
    "log.before-origin": "the key is found, the origin is not written",
    "log.after-origin": "the origin is written, key.pub is not",
    "log.after-key-pub": "the log has its identity and no entry",
    "log.before-roll": "a segment is due, the file is not made",
    "log.during-roll": "the file is made, its name may be lost",
    "log.after-roll": "the fresh segment is durable and empty",
    "log.before-cut": "a torn tail is found",
    "log.after-cut": "the torn tail is cut off, the commit is not written",
    "log.before-write": "nothing of the commit is written",
    "log.during-write": "a part of the commit is written; `short` makes it half",
    "log.after-write": "the commit is written, and not durable",
    "log.before-sync": "likewise; an error here is one of fdatasync",
    "log.after-sync": "the commit is durable, nobody was told",
    "log.before-undo": "a write failed and is about to be taken back",
    "log.before-offsets": "the offsets lag behind the segment",
    "log.during-offsets": "the offsets are written, their file is not cut to its length",
    "log.after-offsets": "the offsets are there, the tiles are not",
    "log.before-tile": "a full tile is not written",
    "log.during-tile": "the tile is written beside its name",
    "log.after-tile": "the tile has its name",
    "log.before-publish": "the file `checkpoint` lags behind",
    "log.during-publish": "the new checkpoint is written beside its name",
    "log.after-publish": "the new checkpoint has its name",
    "log.before-acknowledge": "all that is derived is written, nothing is remembered",
    "log.before-remember": "the largest checkpoint seen lags behind",
    "log.after-remember": "this machine remembers the commit, the writer was not told",
    "commit.before-append": "the entries are decided, the log has none of them",
    "commit.after-append": "the log has the entries, the index has none of them",
    "commit.after-apply": "log and index have them, the caller was not told",
    "index.before-rows": "the index's transaction is open and empty",
    "index.before-position": "the rows are in the transaction, the position is not moved",
    "index.after-position": "the position is moved, nothing is committed",
    "index.before-catch-up": "an index that lags was found",
    "index.after-clear": "the index's transaction has emptied it, about to fill it anew",
    "blob.before-copy": "the scratch file of a blob is empty",
    "blob.after-copy": "it holds the blob, and is not durable",
    "blob.after-sync": "it is durable and has no name",
    "blob.after-link": "the blob has its name, which may be lost",
    "blob.after-publish": "the blob and its name are durable, no entry names it",
    "export.before-write": "the file of an export is empty",
    "export.before-sync": "it is written, and not durable",
    "export.before-rename": "it is durable and has no name",
    "export.after-rename": "it has its name, which may be lost",
}

_RULE: Final = re.compile(r"(?P<name>[a-z.-]+)=(?P<action>kill|eio|enospc|short)(?::(?P<turn>[1-9]\d*))?(?P<on>\+?)")
_NUMBERS: Final = {"eio": errno.EIO, "enospc": errno.ENOSPC}


@dataclass(slots=True, kw_only=True)
class _Rule:
    action: str
    turn: int
    is_lasting: bool
    num_passes: int = 0

    def fires_at(self, turn: int) -> bool:
        return turn == self.turn or (self.is_lasting and turn > self.turn)


def failpoint(name: str) -> None:
    """Passes the place `name`; where a rule says so, the process dies or the disk refuses here.

    Raises:
        OSError: the rule's action is `eio` or `enospc`.
    """
    rule = _rules.get(name) if _rules else None
    if rule is None:
        return
    rule.num_passes += 1
    if not rule.fires_at(rule.num_passes):
        return
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif rule.action in _NUMBERS:
        number = _NUMBERS[rule.action]
        raise OSError(number, os.strerror(number), f"failpoint {name}")


def first_part(name: str, size_bytes: int) -> int:
    """How much a write of `size_bytes` at the place `name` writes at first: half where the next pass fires, else all.

    The caller passes the place by `failpoint` between the parts.
    """
    rule = _rules.get(name) if _rules else None
    return size_bytes // 2 if rule and rule.fires_at(rule.num_passes + 1) else size_bytes


@contextlib.contextmanager
def activated(rules: str) -> Iterator[None]:
    """Has these rules in this process, in the form of the environment variable, until the block ends.

    Raises:
        ConfigError: they cannot be understood.
    """
    before = dict(_rules)
    _rules.clear()
    _rules.update(_parse(rules))
    try:
        yield
    finally:
        _rules.clear()
        _rules.update(before)


def _parse(rules: str) -> dict[str, _Rule]:
    parsed = {}
    for text in filter(None, rules.split(",")):
        match = _RULE.fullmatch(text)
        if match is None:
            raise ConfigError(f"LEGION_FAILPOINTS has {text!r}", cause="a rule is name=kill|eio|enospc|short[:pass][+]")
        parsed[match["name"]] = _Rule(
            action=match["action"], turn=int(match["turn"] or 1), is_lasting=bool(match["on"])
        )
    return parsed


_rules: Final[dict[str, _Rule]] = _parse(os.environ.get("LEGION_FAILPOINTS", ""))
