"""Debian's docker-registry (CNCF distribution) as an upstream that nobody here has written."""

import http.client
import shutil
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from tests.support.images import Manifest
from tests.support.pki import ServerCertificate
from tests.support.processes import Program, Seat

PROGRAM = "docker-registry"
_READY_S = 20.0


class Distribution:
    """Plain, with TLS, and with users asks for basic authentication. Its data outlives `stop`;
    several may have one `storage`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seat: Seat | None = None,
        certificate: ServerCertificate | None = None,
        user: tuple[str, str] | None = None,
        storage: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.seat = seat or Seat()
        self._reserved = self.seat.reserve_port()
        self.port = self._reserved.number if self._reserved else self.seat.port
        self._certificate = certificate
        self._user = user
        self._directory = directory
        self._storage = storage or directory / "storage"
        self._program: Program | None = None
        (directory / "config.yml").write_text(yaml.safe_dump(self._config()))

    @property
    def url(self) -> str:
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://{self.seat.address}:{self.port}"

    @property
    def log(self) -> str:
        """What it said, a line for each request among it."""
        return (self._directory / "registry.log").read_text()

    @property
    def pid(self) -> int:
        assert self._program is not None, "it is not running"
        return self._program.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        command = [*self.seat.prefix, PROGRAM, "serve", str(self._directory / "config.yml")]
        self._program = Program(command, self._directory / "registry.log")
        try:
            self._program.wait_ready(self._answers, _READY_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """At once, as machines fail."""
        if self._program is not None:
            self._program.kill()
            self._program = None

    def push(self, repository: str, tag: str, manifest: Manifest) -> None:
        base = f"/v2/{repository}"
        for digest, content in manifest.all_blobs().items():
            begun = self._request("POST", f"{base}/blobs/uploads/", b"", {}, 202)
            location = urlsplit(begun.headers["Location"])
            target = f"{location.path}?{location.query}&digest={digest}"
            body = b"".join(content.chunks(0, content.size))
            self._request("PUT", target, body, {}, 201)
        for each in reversed(tuple(manifest.all_manifests())):  # children before who names them
            reference = tag if each is manifest else each.digest
            headers = {"Content-Type": each.media_type}
            self._request("PUT", f"{base}/manifests/{reference}", each.body, headers, 201)

    def _answers(self) -> bool:
        try:
            return self._exchange("GET", "/v2/", b"", {}).status in {200, 401}
        except OSError:
            return False

    def _request(
        self, method: str, target: str, body: bytes, headers: dict[str, str], expected: int
    ) -> http.client.HTTPResponse:
        answer = self._exchange(method, target, body, headers)
        if answer.status != expected:
            raise OSError(f"{method} {target} was answered {answer.status}")
        return answer

    def _exchange(
        self, method: str, target: str, body: bytes, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        if self._user is not None:
            encoded = b64encode(":".join(self._user).encode()).decode()
            headers = {"Authorization": f"Basic {encoded}", **headers}
        with self.seat.entered():
            connection = self._connection()
            connection.connect()
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._certificate is None:
            return http.client.HTTPConnection(self.seat.address, self.port)
        # The test is about others' trust; this is its own registry, on its own address.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(self.seat.address, self.port, context=context)

    def _config(self) -> dict[str, Any]:
        listens: dict[str, Any] = {
            "addr": f"{self.seat.address}:{self.port}",
            "secret": "the same for all on one storage",
        }
        if self._certificate is not None:
            listens["tls"] = {
                "certificate": str(self._certificate.certificate),
                "key": str(self._certificate.key),
            }
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self._storage)}},
            "http": listens,
        }
        if self._user is not None:
            file = self._directory / "htpasswd"
            command = ["htpasswd", "-Bbn", *self._user]
            file.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
            config["auth"] = {"htpasswd": {"realm": "distribution", "path": str(file)}}
        return config


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None and shutil.which("htpasswd") is not None
