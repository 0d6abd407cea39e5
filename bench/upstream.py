"""The origin as a process: started, stocked, limited and counted."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.content import Blob
from bench.modules import module_command, module_environment
from tests.support.closing import Closing
from tests.support.pki import TestAuthority
from tests.support.ports import ReservedPort
from tests.support.processes import dying_with_parent

REPOSITORY = "app"


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes a second, in all and for each connection; 0: no limit."""

    total: float = 0
    each: float = 0


class Upstream(Closing):
    def __init__(
        self, authority: TestAuthority, prefix: list[str], address: str = "127.0.0.1"
    ) -> None:
        # Two names, as nginx compares those alone that are no addresses.
        certificate = authority.issue(address, "localhost")
        self._address = address
        self._reserved = ReservedPort("127.0.0.1")
        files = (str(certificate.certificate), str(certificate.key))
        command = module_command("origin", str(self._reserved.number), *files)
        self._process = subprocess.Popen(
            dying_with_parent([*prefix, *command]),
            env=module_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        return self._reserved.number

    @property
    def authority(self) -> str:
        return f"{self._address}:{self._reserved.number}"

    @property
    def url(self) -> str:
        return f"https://{self.authority}"

    def stock(self, blob: Blob) -> str:
        """The path under which it is from now on."""
        path = blob_path(blob.digest)
        self._tell(do="add", path=path, size=blob.size, digest=blob.digest, nonce=blob.nonce.hex())
        return path

    def stock_file(self, path: str, file: Path, digest: str, media_type: str) -> None:
        size = file.stat().st_size
        self._tell(
            do="add", path=path, size=size, digest=digest, media_type=media_type, file=str(file)
        )

    def limit(self, rate: Rate) -> None:
        """For what is asked for from now on; where there was a limit in all, also for what runs."""
        self._tell(do="limit", total=rate.total, each=rate.each)

    def forget(self) -> None:
        self._tell(do="forget")

    def body_bytes(self) -> int:
        """Sent since it last forgot."""
        return self._tell(do="count")

    def _tell(self, **order: str | float) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError("the upstream of the bench ended; its reason is above")
        return int(json.loads(line)["body_bytes"])


def blob_path(digest: str) -> str:
    return f"/v2/{REPOSITORY}/blobs/{digest}"


def manifest_path(reference: str) -> str:
    return f"/v2/{REPOSITORY}/manifests/{reference}"
