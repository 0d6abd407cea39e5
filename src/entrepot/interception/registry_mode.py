"""The local registries' own port, as a mode of mitmproxy: beside its proxies, with its own address.

mitmproxy finds modes by the names of their classes, so this one is known where it is imported.
"""

from typing import Literal

from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_servers import AsyncioServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode

from entrepot.config.convert import parse_address


class RegistryMode(ProxyMode):
    """`registry@address:port`"""

    description = "local registries"
    transport_protocol: Literal["tcp", "udp", "both"] = "tcp"

    def __post_init__(self) -> None:
        if self.data:
            raise ValueError("mode takes no arguments")


class RegistryTop(modes.HttpProxy):
    """As a proxy's connections begin: mitmproxy asks its addons what comes next."""


class RegistryServer(AsyncioServerInstance[RegistryMode]):
    def make_top_layer(self, context: Context) -> RegistryTop:
        return RegistryTop(context)


def spec_of(address: str) -> str:
    """For mitmproxy's option `mode`, from an address as settings have it."""
    host, port = parse_address(address)
    return f"registry@{host}:{port}"
