"""The search beside others: on a table that was trained once, and live."""
