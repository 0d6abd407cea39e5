"""The real proxy as a process, started, watched and killed by tests."""

import http.client
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import Program, Seat

_READY_S = 30.0
# Coverage is written at a regular end only.
_IS_MEASURED = "COVERAGE_PROCESS_START" in os.environ or "COVERAGE_PROCESS_CONFIG" in os.environ
_PAGE_TIMEOUT_S = 10.0
_RSS_ANON = re.compile(r"^RssAnon:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What /metrics said at one moment."""

    samples: tuple[tuple[str, Mapping[str, str], float], ...]

    def value(self, name: str, **labels: str) -> float:
        """The sum over all samples of that name with at least these labels."""
        return sum(
            value
            for sample, found, value in self.samples
            if sample == name and labels.items() <= found.items()
        )


class ProxyProcess:
    """`entrepot serve` on a port of its own, which it keeps over restarts, as it does its data."""

    def __init__(
        self,
        config: Mapping[str, Any],
        directory: Path,
        *,
        seat: Seat | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.seat = seat or Seat()
        self._reserved = self.seat.reserve_port()
        self.port = self._reserved.number if self._reserved else self.seat.port
        self.data = directory / "data"
        self.log = directory / "proxy.log"
        self._config_file = directory / "entrepot.yaml"
        self._environment = environment
        self._program: Program | None = None
        self.configure(config)

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write what the next start reads, or a reload."""
        self._config_file.write_text(yaml.safe_dump(dict(config)))

    @property
    def address(self) -> tuple[str, int]:
        return self.seat.address, self.port

    @property
    def url(self) -> str:
        return f"http://{self.seat.address}:{self.port}"

    @property
    def pid(self) -> int:
        return self._running.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            # Pytest shows it with the failure: what the proxy said is half of what happened.
            sys.stderr.write(self.log_tail() + "\n")
        if self._program is None:
            return
        if _IS_MEASURED:
            self.terminate()
        else:
            self.kill9()

    def start(self) -> None:
        assert self._program is None, "it is running"
        command = [
            *self.seat.prefix,
            sys.executable,
            "-m",
            "entrepot",
            "serve",
            "--config",
            str(self._config_file),
            "--listen",
            f"{self.seat.address}:{self.port}",
            "--data",
            str(self.data),
        ]
        self._program = Program(command, self.log, self._environment)
        try:
            self._program.wait_ready(self.is_ready, _READY_S)
        except BaseException:
            self.kill9()
            raise

    def terminate(self) -> int:
        """SIGTERM, and wait: running transfers are finished. Returns the exit status."""
        program, self._program = self._running, None
        return program.terminate()

    def kill9(self) -> None:
        program, self._program = self._running, None
        program.kill()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def restart(self) -> None:
        self.terminate()
        self.start()

    @property
    def is_running(self) -> bool:
        return self._program is not None

    def is_ready(self) -> bool:
        try:
            return self.page("/readyz")[0] == http.client.OK
        except OSError:
            return False

    def page(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """One of its own pages, asked for in origin-form."""
        with self.seat.entered():
            connection = http.client.HTTPConnection(*self.address, timeout=_PAGE_TIMEOUT_S)
            connection.connect()
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ca_pem(self) -> str:
        status, body = self.page("/ca.crt")
        assert status == http.client.OK, f"/ca.crt was answered {status}"
        return body.decode()

    def metrics(self) -> Metrics:
        status, body = self.page("/metrics")
        assert status == http.client.OK, f"/metrics was answered {status}"
        families = text_string_to_metric_families(body.decode())
        return Metrics(
            tuple((s.name, s.labels, s.value) for family in families for s in family.samples)
        )

    def anonymous_memory(self) -> int:
        """Bytes of its own that it and its children hold; page cache and mapped files not."""
        return sum(_anonymous_memory(pid) for pid in _with_children(self.pid))

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-20_000:] if self.log.exists() else ""

    @property
    def _running(self) -> Program:
        assert self._program is not None, "it is not running"
        return self._program


def _with_children(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _with_children(int(child))
    return found


def _anonymous_memory(pid: int) -> int:
    match = _RSS_ANON.search(Path(f"/proc/{pid}/status").read_text())
    return int(match.group(1)) * 1024 if match else 0
