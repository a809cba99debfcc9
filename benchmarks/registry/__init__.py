"""The registry against others, and under load."""
