"""Floor 1: frozen values and ports. Every stage takes and returns these; nothing here loads torch."""
