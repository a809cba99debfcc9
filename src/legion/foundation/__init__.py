"""Floor 0: errors, canonical JSON, clocks, random streams, settings and files. Knows nothing of the product."""
