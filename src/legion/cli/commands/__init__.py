"""One module a command; heavy libraries load inside the functions."""
