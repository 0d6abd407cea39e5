"""What `addons/registry_cache.py` loads: the same proxy, inside a mitmproxy that others run."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from entrepot.app import open_proxy
from entrepot.config.environment import CONFIG_VARIABLE
from entrepot.config.load import load_config
from entrepot.interception.addon import EntrepotAddon
from entrepot.interception.late_addon import LateAddon


def addon_from_environment() -> LateAddon:
    """The configuration is what the environment says; its `listen` is mitmproxy's to decide."""
    named = os.environ.get(CONFIG_VARIABLE)
    config = load_config(Path(named) if named else None, os.environ, {}).config

    @asynccontextmanager
    async def opened() -> AsyncIterator[EntrepotAddon]:
        async with open_proxy(config) as proxy:
            yield proxy.addon

    return LateAddon(opened)
