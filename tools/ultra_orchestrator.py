"""Generate, train, evaluate, integrate: a thin shim over the `legion` command."""

import sys

from _shim import run

run(sys.argv[1:], "tools/ultra_orchestrator.py")
