"""What `addons/registry_cache.py` loads: the same proxy, inside a mitmproxy that others run."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from entrepot.app import open_proxy
from entrepot.config.environment import CONFIG_VARIABLE
from entrepot.config.load import load_config
from entrepot.interception.addon import EntrepotAddon
from entrepot.interception.late_addon import LateAddon

logger = logging.getLogger(__name__)


def addon_from_environment() -> LateAddon:
    """The configuration is what the environment says; its `listen` is mitmproxy's to decide."""

    # Read when mitmproxy runs, where what is wrong is told in a line: a script that fails while it
    # is loaded shows a traceback.
    @asynccontextmanager
    async def opened() -> AsyncIterator[EntrepotAddon]:
        named = os.environ.get(CONFIG_VARIABLE)
        loaded = load_config(Path(named) if named else None, os.environ, {})
        for warning in (*loaded.warnings, *loaded.obstacles):
            logger.warning("configuration: %s", warning)
        async with open_proxy(loaded.config) as proxy:
            yield proxy.addon

    return LateAddon(opened)
