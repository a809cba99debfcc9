"""The engines that serve artefacts: how each is installed, found and asked."""
