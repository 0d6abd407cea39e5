"""dockerd and its command line."""

import json
from pathlib import Path
from subprocess import CompletedProcess

from tests.e2e.clients import (
    CALL_S,
    READY_S,
    Credentials,
    Surroundings,
    digest_in,
    output_of,
)
from tests.support.processes import Program

NOBODY = "nobody"


class Docker:
    programs = ("dockerd", "docker", "containerd", "runc")

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        directory = surroundings.directory
        # Newer command lines build with a plugin only; Debian's has BuildKit's client in it.
        program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
        socket = f"unix://{directory}/docker.sock"
        self._docker = (program, "--host", socket)
        self._logged_in: set[tuple[str, Credentials]] = set()
        (directory / "daemon.json").write_text("{}")
        command = [
            "dockerd",
            f"--config-file={directory}/daemon.json",
            f"--data-root={directory}/root",
            f"--exec-root={directory}/exec",
            f"--pidfile={directory}/pid",
            f"--host={socket}",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--storage-driver=overlay2",
        ]
        self._daemon = surroundings.start(*command, log="daemon.log")
        self._daemon.wait_ready(lambda: self._run("version").returncode == 0, READY_S)

    def version(self) -> str:
        return self._output("version", "--format", "{{.Server.Version}}").strip()

    def login(self, host: str, credentials: Credentials) -> str:
        user = ("--username", credentials.user, "--password", credentials.password)
        said = self._output("login", *user, host, user=credentials.user)
        self._logged_in.add((host, credentials))
        return said

    def logout(self, host: str, credentials: Credentials) -> None:
        self._output("logout", host, user=credentials.user)
        self._logged_in.discard((host, credentials))

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        self._as(credentials, image, "pull", image)
        (name,) = json.loads(self._output("inspect", "--format", "{{json .RepoDigests}}", image))
        return digest_in(name)

    def push(
        self,
        archive: Path,
        image: str,
        credentials: Credentials | None = None,
        timeout_s: float = CALL_S,
    ) -> str:
        self._output("load", "--input", str(archive), timeout_s=timeout_s)
        return digest_in(self._as(credentials, image, "push", image, timeout_s=timeout_s))

    def start_push(
        self, archive: Path, image: str, credentials: Credentials | None = None
    ) -> Program:
        """Who has credentials must be logged in."""
        self._output("load", "--input", str(archive))
        user = NOBODY if credentials is None else credentials.user
        return self._surroundings.start(*self._as_user(user), "push", image, log="push.log")

    def build(self, directory: Path, tag: str) -> None:
        """With BuildKit, which fetches by itself, and whose tokens the command line fetches."""
        command = (*self._as_user(NOBODY), "build", "-t", tag, str(directory))
        output_of(self._surroundings.run(*command, environment={"DOCKER_BUILDKIT": "1"}))

    def remove_all(self) -> None:
        if images := self._output("images", "--quiet").split():
            self._output("rmi", "--force", *set(images))
        self._output("builder", "prune", "--all", "--force")

    def close(self) -> None:
        self._daemon.kill()

    def _as(
        self,
        credentials: Credentials | None,
        image: str,
        *arguments: str,
        timeout_s: float = CALL_S,
    ) -> str:
        """Logged in for this once, unless that was done before."""
        if credentials is None:
            return self._output(*arguments, timeout_s=timeout_s)
        host = image.partition("/")[0]
        is_passing = (host, credentials) not in self._logged_in
        if is_passing:
            self.login(host, credentials)
        try:
            return self._output(*arguments, user=credentials.user, timeout_s=timeout_s)
        finally:
            if is_passing:
                self.logout(host, credentials)

    def _output(self, *arguments: str, user: str = NOBODY, timeout_s: float = CALL_S) -> str:
        return output_of(self._run(*arguments, user=user, timeout_s=timeout_s))

    def _run(
        self, *arguments: str, user: str = NOBODY, timeout_s: float = CALL_S
    ) -> CompletedProcess[str]:
        return self._surroundings.namespace.run(
            *self._as_user(user),
            *arguments,
            environment={"HOME": str(self._surroundings.directory)},
            timeout_s=timeout_s,
        )

    def _as_user(self, user: str) -> tuple[str, ...]:
        return (*self._docker, "--config", str(self._surroundings.directory / f"config-{user}"))
