"""Writes what stands now (slots, snapshots, metrics, digests, commit): a thin shim over `legion baseline`."""

import sys

from _shim import run

run(["baseline", *sys.argv[1:]], "tools/baseline_snapshot.py")
