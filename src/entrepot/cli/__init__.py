"""The command `entrepot`: one file a verb, which only parses and prints."""

from entrepot.cli.main import main

__all__ = ["main"]
