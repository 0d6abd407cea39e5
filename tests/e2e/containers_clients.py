"""podman and skopeo, which share their way to registries."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.clients import (
    CALL_S,
    Credentials,
    Surroundings,
    no_trust,
    output_of,
)
from tests.support.processes import Program


class _Tool:
    """Each user's logins are in a file of their own."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._logged_in: set[tuple[str, Credentials]] = set()
        self._digest_file = surroundings.directory / "pushed-digest"

    def close(self) -> None:
        pass

    def _is_logged_in(self, image: str, credentials: Credentials) -> bool:
        return (image.partition("/")[0], credentials) in self._logged_in

    def _auth_file(self, credentials: Credentials) -> str:
        return f"--authfile={self._surroundings.directory}/auth-{credentials.user}.json"

    def _user(
        self, image: str, credentials: Credentials | None, option: str = "--creds"
    ) -> tuple[str, ...]:
        if credentials is None:
            return ()
        if self._is_logged_in(image, credentials):
            return (self._auth_file(credentials),)
        return (option, credentials.pair)


class Podman(_Tool):
    """Trusts what is in the directory it is pointed at, beside an empty system store."""

    programs = ("podman",)

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        directory = surroundings.directory
        self._trust: tuple[str, ...] = ()
        if surroundings.certs_d is None:
            certificates = directory / "certs"
            certificates.mkdir()
            shutil.copy(surroundings.trusted, certificates / "ca.crt")
            self._trust = (f"--cert-dir={certificates}",)
        # Podman takes no path of more than 50 characters for this.
        self._run_root = TemporaryDirectory(prefix="podman-")
        self._podman = (
            "podman",
            f"--root={directory}/root",
            f"--runroot={self._run_root.name}",
            f"--tmpdir={directory}/tmp",
            "--storage-driver=overlay",
            "--cgroup-manager=cgroupfs",
            "--events-backend=none",
        )

    def version(self) -> str:
        return self._output("--version").strip()

    def login(self, host: str, credentials: Credentials) -> str:
        user = ("--username", credentials.user, "--password", credentials.password)
        said = self._output("login", *self._trust, self._auth_file(credentials), *user, host)
        self._logged_in.add((host, credentials))
        return said

    def logout(self, host: str, credentials: Credentials) -> None:
        self._output("logout", self._auth_file(credentials), host)
        self._logged_in.discard((host, credentials))

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        self._output("pull", "--quiet", *self._access(image, credentials), image)
        return self._output("image", "inspect", "--format", "{{.Digest}}", image).strip()

    def push(
        self,
        archive: Path,
        image: str,
        credentials: Credentials | None = None,
        timeout_s: float = CALL_S,
    ) -> str:
        self._output("load", "--quiet", "--input", str(archive), timeout_s=timeout_s)
        self._output(*self._push(image, credentials), timeout_s=timeout_s)
        return self._digest_file.read_text().strip()

    def start_push(
        self, archive: Path, image: str, credentials: Credentials | None = None
    ) -> Program:
        self._output("load", "--quiet", "--input", str(archive))
        command = (*self._podman, *self._push(image, credentials))
        return self._surroundings.start(
            *command, log="push.log", environment=no_trust(self._surroundings.directory)
        )

    def remove_all(self) -> None:
        self._output("rmi", "--all", "--force")

    def close(self) -> None:
        self._run_root.cleanup()

    def _push(self, image: str, credentials: Credentials | None) -> tuple[str, ...]:
        digest = f"--digestfile={self._digest_file}"
        return ("push", digest, *self._access(image, credentials), image)

    def _access(self, image: str, credentials: Credentials | None) -> tuple[str, ...]:
        return (*self._trust, *self._user(image, credentials))

    def _output(self, *arguments: str, timeout_s: float = CALL_S) -> str:
        empty = no_trust(self._surroundings.directory)
        return output_of(
            self._surroundings.run(
                *self._podman, *arguments, environment=empty, timeout_s=timeout_s
            )
        )


class Skopeo(_Tool):
    """Copies into a directory; trusts what SSL_CERT_FILE names."""

    programs = ("skopeo",)

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._copy = surroundings.directory / "copy"

    def version(self) -> str:
        return self._output("--version").strip()

    def login(self, host: str, credentials: Credentials) -> str:
        user = ("--username", credentials.user, "--password", credentials.password)
        said = self._output("login", self._auth_file(credentials), *user, host)
        self._logged_in.add((host, credentials))
        return said

    def logout(self, host: str, credentials: Credentials) -> None:
        self._output("logout", self._auth_file(credentials), host)
        self._logged_in.discard((host, credentials))

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        access = self._user(image, credentials, "--src-creds")
        self._output("--insecure-policy", "copy", *access, f"docker://{image}", f"dir:{self._copy}")
        digest = self._output("manifest-digest", str(self._copy / "manifest.json"))
        return digest.strip()

    def fetch(self, artifact: str) -> str:
        return self.pull(artifact)

    def push(
        self,
        archive: Path,
        image: str,
        credentials: Credentials | None = None,
        timeout_s: float = CALL_S,
    ) -> str:
        self._output(*self._push(archive, image, credentials), timeout_s=timeout_s)
        return self._digest_file.read_text().strip()

    def start_push(
        self, archive: Path, image: str, credentials: Credentials | None = None
    ) -> Program:
        command = ("skopeo", *self._push(archive, image, credentials))
        return self._surroundings.start(*command, log="push.log", environment=self._trust())

    def remove_all(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)

    def _push(self, archive: Path, image: str, credentials: Credentials | None) -> tuple[str, ...]:
        digest = f"--digestfile={self._digest_file}"
        access = self._user(image, credentials, "--dest-creds")
        copied = (f"docker-archive:{archive}", f"docker://{image}")
        return ("--insecure-policy", "copy", digest, *access, *copied)

    def _trust(self) -> dict[str, str]:
        if self._surroundings.certs_d is not None:
            return {}
        empty = no_trust(self._surroundings.directory)
        return empty | {"SSL_CERT_FILE": str(self._surroundings.trusted)}

    def _output(self, *arguments: str, timeout_s: float = CALL_S) -> str:
        return output_of(
            self._surroundings.run(
                "skopeo", *arguments, environment=self._trust(), timeout_s=timeout_s
            )
        )
