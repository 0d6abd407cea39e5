"""TLS towards clients: one OpenSSL context for each host, made anew when its leaf is renewed.

mitmproxy makes a context for each connection; keeping them saves most of what a handshake costs
in Python, and lets clients resume sessions.
"""

from collections import OrderedDict
from collections.abc import Callable

from OpenSSL import SSL

from entrepot.ca.leaf import Leaf

_CONTEXTS_MAX = 1000
_HTTP11 = b"http/1.1"


class ClientTls:
    def __init__(self, leaf_of: Callable[[str], Leaf]) -> None:
        self._leaf_of = leaf_of
        self._contexts: OrderedDict[str, tuple[Leaf, SSL.Context]] = OrderedDict()

    def connection(self, host: str) -> SSL.Connection:
        connection = SSL.Connection(self._context(host), None)
        connection.set_accept_state()
        return connection

    def _context(self, host: str) -> SSL.Context:
        leaf = self._leaf_of(host)
        known = self._contexts.get(host)
        if known is not None and known[0] is leaf:
            return known[1]
        context = _context(leaf)
        self._contexts[host] = (leaf, context)
        if len(self._contexts) > _CONTEXTS_MAX:
            self._contexts.popitem(last=False)
        return context


def _context(leaf: Leaf) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate(leaf.certificate)
    for certificate in leaf.chain:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(leaf.key)
    # HTTP/1.1 only: hyper-h2 is slow, and no client of registries asks for HTTP/2 on pulls.
    context.set_alpn_select_callback(
        lambda _, offered: _HTTP11 if _HTTP11 in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    context.set_session_id(b"entrepot")
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 34 kB less for each idle connection
    return context
