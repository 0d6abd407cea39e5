"""Certificates for hosts, of an authority that nobody else knows."""

import ssl
import time

from cryptography.hazmat.primitives.asymmetric import ec

from entrepot.ca.issuer import Issuer, make_root, pem
from entrepot.ca.leaf import Leaf, issue_leaf

HOST = "registry.test"


class Leaves:
    """Issues one for each host, and keeps it until told to renew."""

    def __init__(self) -> None:
        self.root: Issuer = make_root(time.time())
        self.failure: Exception | None = None
        self._known: dict[str, Leaf] = {}
        self._key = ec.generate_private_key(ec.SECP256R1())

    def leaf(self, host: str) -> Leaf:
        if self.failure is not None:
            raise self.failure
        if host not in self._known:
            self._known[host] = issue_leaf(self.root, host, self._key, time.time())
        return self._known[host]

    def renew(self) -> None:
        self._known.clear()

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=pem([self.root.anchor]).decode())
