"""The proxy's ports as modes of mitmproxy: that of the forward proxy, and the local registries' own
beside it, with its own address.

mitmproxy finds modes by the names of their classes, so these are known where they are imported. In
a mitmproxy of others the forward proxy is its own mode, `regular`.
"""

from typing import Literal

from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_specs import ProxyMode

from entrepot.config.convert import parse_address
from entrepot.interception.client_protocol import DirectServer

FORWARD = "forward"


class RegistryMode(ProxyMode):
    """`registry@address:port`"""

    description = "local registries"
    transport_protocol: Literal["tcp", "udp", "both"] = "tcp"

    def __post_init__(self) -> None:
        if self.data:
            raise ValueError("mode takes no arguments")


class RegistryTop(modes.HttpProxy):
    """As a proxy's connections begin: mitmproxy asks its addons what comes next."""


class ForwardMode(ProxyMode):
    """`forward`, as mitmproxy's `regular`"""

    description = "forward proxy"
    transport_protocol: Literal["tcp", "udp", "both"] = "tcp"

    def __post_init__(self) -> None:
        if self.data:
            raise ValueError("mode takes no arguments")


class ForwardServer(DirectServer[ForwardMode]):
    def make_top_layer(self, context: Context) -> modes.HttpProxy:
        return modes.HttpProxy(context)


class RegistryServer(DirectServer[RegistryMode]):
    def make_top_layer(self, context: Context) -> RegistryTop:
        return RegistryTop(context)


def spec_of(address: str) -> str:
    """For mitmproxy's option `mode`, from an address as settings have it."""
    host, port = parse_address(address)
    return f"registry@{host}:{port}"
