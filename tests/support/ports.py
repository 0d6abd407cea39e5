"""Ports that stay a test's own, also while nobody listens on them."""

import socket
import weakref


class ReservedPort:
    """Bound, and never listened on: who connects is refused, and nobody else on this machine is
    given it, as happens to one that was chosen and let go. Servers set SO_REUSEADDR and may listen
    on it all the same. Held until it is no longer referred to.
    """

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        weakref.finalize(self, sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, 0))
        number = sock.getsockname()[1]
        assert isinstance(number, int)
        self.number = number
