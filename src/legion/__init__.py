"""LEGION: an agent platform whose models are adapted, measured and shipped by evidence."""

__version__ = "4.1.0"
