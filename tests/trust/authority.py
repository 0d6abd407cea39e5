"""A CA as the proxy would make one, and a proxy that serves it."""

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.trust.machine import SCRIPT


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def sha256(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def anchor(self) -> str:
        return f"entrepot-ca-{self.sha256[:16]}.crt"


def make_authority(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(_certificate(name, key, name, key, is_ca=True), key)


def issue_leaf(authority: Authority, name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject.rdns[0].rfc4514_string().removeprefix("CN=")
    certificate = _certificate(name, key, issuer, authority.key, is_ca=False)
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(name))
        .issuer_name(_common_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@dataclass(slots=True)
class Proxy:
    """Serves /ca.crt and /setup/systemd as the real one does."""

    port: int
    bundle: bytes = b""
    fingerprints: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {
            "ENTREPOT_URL": self.url,
            "ENTREPOT_CA_SHA256": self.fingerprints,
        }

    @property
    def script(self) -> bytes:
        assignments = "".join(f"{name}='{value}'\n" for name, value in self.env.items())
        return f"#!/bin/sh\n{assignments}".encode() + SCRIPT.read_bytes()

    def serve(self, *authorities: Authority) -> None:
        self.bundle = b"".join(each.pem for each in authorities)
        self.fingerprints = " ".join(each.sha256 for each in authorities)

    def page(self, path: str) -> bytes | None:
        return {"/ca.crt": self.bundle, "/setup/systemd": self.script}.get(path)


@contextmanager
def running_proxy() -> Iterator[Proxy]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = proxy.page(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Length", str(len(page or b"")))
            self.end_headers()
            self.wfile.write(page or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        proxy = Proxy(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
