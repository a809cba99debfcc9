"""Floor 2: embedded assets, data sets, base models, and how examples become tensors."""
