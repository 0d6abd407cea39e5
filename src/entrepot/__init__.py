"""Entrepot: a forward HTTPS proxy that holds what container registries send."""

from importlib.metadata import version

__version__ = version("entrepot")
