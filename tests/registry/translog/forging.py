"""What an attacker does who may write the folder and has a key of his own."""

from __future__ import annotations

import shutil

from legion.neuro_architecture.registry.translog import TransparencyLog
from legion.neuro_architecture.registry.translog.memory import LogMemory


def forge(folder, signer, entries, scratch):
    """Replaces the log in `folder` by one of the same origin with these entries, signed by `signer`."""
    origin = signer.verifier.name
    keys, forged = scratch / "attacker's keys", scratch / "forged"
    keys.mkdir()
    memory = LogMemory(keys, origin)
    memory.key_path.touch(0o600)
    memory.key_path.write_text(f"{signer.secret()}\n")
    forged.mkdir()
    (forged / "origin").write_text(f"{origin}\n")
    log = TransparencyLog(forged, keys=keys)
    log.append(entries)
    log.close()
    shutil.rmtree(folder)
    shutil.copytree(forged, folder)
