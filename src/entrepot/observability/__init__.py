"""Readers of what the components say of themselves: log lines and metrics.

Components return frozen statistics and emit `Exchange` values; nothing here is asked for anything
else, and nothing that is served depends on it.
"""
