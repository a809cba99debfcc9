"""Named places where a test makes the machine fail: nothing happens unless `LEGION_FAILPOINTS` names them.

```
LEGION_FAILPOINTS="log.after-write=kill:3,log.before-sync=eio"
name=action[:pass][+]      pass: the how-manieth time the place is passed, 1 by default; `+`: from then on each time
kill                       SIGKILL of this process
eio enospc                 OSError with that number
short                      the write that stands there writes half at first
```
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

__all__ = ["activated", "failpoint", "first_part"]

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
