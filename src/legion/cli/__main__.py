"""`python -m legion.cli`."""

from legion.cli.app import main

main()
