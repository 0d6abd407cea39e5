"""The clients that people use, each with its own trust store and its own place for images.

All are told of the proxy by HTTPS_PROXY, and of its CA in the way their users do it: dockerd,
containerd and ctr by the system's store, podman by `--cert-dir`, skopeo by SSL_CERT_FILE.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Protocol

from tests.support import grpc
from tests.support.netns import Namespace
from tests.support.processes import Program

_PULL_S = 60.0
_READY_S = 30.0
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class PullError(Exception):
    """The client refused; the message is what it said to its user."""


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str
    password: str

    @property
    def pair(self) -> str:
        return f"{self.user}:{self.password}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a client is given."""

    namespace: Namespace
    directory: Path  # its own
    proxy_url: str
    trusted: Path  # PEM of the authorities

    def environment(self) -> dict[str, str]:
        return {"HTTPS_PROXY": self.proxy_url, "HOME": str(self.directory)}


class Client(Protocol):
    def version(self) -> str: ...

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        """Returns the digest under which the client keeps it: an index's or an image's."""
        ...

    def remove_all(self) -> None:
        """Nothing is left of which the next pull could profit."""
        ...

    def close(self) -> None: ...


class Docker:
    """dockerd and its command line."""

    programs = ("dockerd", "docker", "containerd", "runc")

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        directory = surroundings.directory
        # Newer command lines build with a plugin only; Debian's has BuildKit's client in it.
        program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
        socket = f"unix://{directory}/docker.sock"
        self._docker = (program, "--host", socket, "--config", str(directory / "config"))
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
        self._daemon = _start(surroundings, command)
        self._daemon.wait_ready(lambda: self._run("version").returncode == 0, _READY_S)

    def version(self) -> str:
        return self._output("version", "--format", "{{.Server.Version}}").strip()

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        host = image.partition("/")[0]
        if credentials is not None:
            self._output("login", "-u", credentials.user, "-p", credentials.password, host)
        try:
            self._output("pull", image)
        finally:
            if credentials is not None:
                self._output("logout", host)
        (name,) = json.loads(self._output("inspect", "--format", "{{json .RepoDigests}}", image))
        return _digest_in(name)

    def build(self, directory: Path, tag: str) -> None:
        """With BuildKit, which fetches by itself, and whose tokens the command line fetches."""
        environment = self._surroundings.environment() | {"DOCKER_BUILDKIT": "1"}
        done = self._surroundings.namespace.run(
            *self._docker, "build", "-t", tag, str(directory), environment=environment
        )
        _output_of(done)

    def remove_all(self) -> None:
        if images := self._output("images", "--quiet").split():
            self._output("rmi", "--force", *set(images))
        self._output("builder", "prune", "--all", "--force")

    def close(self) -> None:
        self._daemon.kill()

    def _output(self, *arguments: str) -> str:
        return _output_of(self._run(*arguments))

    def _run(self, *arguments: str) -> CompletedProcess[str]:
        return self._surroundings.namespace.run(
            *self._docker,
            *arguments,
            environment={"HOME": str(self._surroundings.directory)},
            timeout_s=_PULL_S,
        )


class Containerd:
    """The daemon that `ctr` and the kubelet's interface share."""

    programs = ("containerd", "ctr", "runc")

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        directory = surroundings.directory
        self.socket = directory / "containerd.sock"
        configuration = directory / "config.toml"
        # Directories outside of ours are made unless they are named otherwise.
        configuration.write_text(f"""version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
address = "{self.socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{directory}/cni"
conf_dir = "{directory}/cni"
""")
        self._daemon = _start(surroundings, ["containerd", "--config", str(configuration)])
        self._daemon.wait_ready(lambda: self._run("default", "version").returncode == 0, _READY_S)

    def output(self, namespace: str, *arguments: str) -> str:
        """Of ctr, which does its own HTTP."""
        return _output_of(self._run(namespace, *arguments))

    def digest(self, namespace: str, image: str) -> str:
        return _digest_in(self.output(namespace, "images", "ls", f"name=={image}"))

    def remove_all(self, namespace: str) -> None:
        names = self.output(namespace, "images", "ls", "--quiet").split()
        for number, name in enumerate(names, start=1):
            last = ("--sync",) if number == len(names) else ()  # collects what nothing names
            self.output(namespace, "images", "rm", *last, name)

    def close(self) -> None:
        self._daemon.kill()

    def _run(self, namespace: str, *arguments: str) -> CompletedProcess[str]:
        return self._surroundings.namespace.run(
            "ctr",
            f"--address={self.socket}",
            f"--namespace={namespace}",
            *arguments,
            environment=self._surroundings.environment(),
            timeout_s=_PULL_S,
        )


class Ctr:
    """containerd's own command line."""

    programs = Containerd.programs
    _NAMESPACE = "e2e"

    def __init__(self, daemon: Containerd) -> None:
        self._daemon = daemon

    def version(self) -> str:
        return self._daemon.output(self._NAMESPACE, "--version").strip()

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        user = () if credentials is None else ("--user", credentials.pair)
        self._daemon.output(self._NAMESPACE, "images", "pull", *user, image)
        return self._daemon.digest(self._NAMESPACE, image)

    def fetch(self, artifact: str) -> str:
        """All of its content, without unpacking it."""
        self._daemon.output(self._NAMESPACE, "content", "fetch", artifact)
        return self._daemon.digest(self._NAMESPACE, artifact)

    def remove_all(self) -> None:
        self._daemon.remove_all(self._NAMESPACE)

    def close(self) -> None:
        pass


class Cri:
    """containerd as the kubelet uses it, by the container runtime interface's PullImage."""

    programs = Containerd.programs
    _NAMESPACE = "k8s.io"
    _SERVICE = "/runtime.v1.ImageService"

    def __init__(self, daemon: Containerd) -> None:
        self._daemon = daemon

    def version(self) -> str:
        answer = grpc.call(self._daemon.socket, "/runtime.v1.RuntimeService/Version", b"", _READY_S)
        return answer.decode(errors="replace")

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        request = grpc.message(1, grpc.text(1, image))
        if credentials is not None:
            user = grpc.text(1, credentials.user) + grpc.text(2, credentials.password)
            request += grpc.message(2, user)
        try:
            grpc.call(self._daemon.socket, f"{self._SERVICE}/PullImage", request, _PULL_S)
        except grpc.CallFailedError as error:
            raise PullError(str(error)) from error
        return self._daemon.digest(self._NAMESPACE, image)

    def remove_all(self) -> None:
        self._daemon.remove_all(self._NAMESPACE)

    def close(self) -> None:
        pass


class Podman:
    """Trusts what is in the directory it is pointed at, beside an empty system store."""

    programs = ("podman",)

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        directory = surroundings.directory
        self._certificates = directory / "certs"
        self._certificates.mkdir()
        shutil.copy(surroundings.trusted, self._certificates / "ca.crt")
        self._podman = (
            "podman",
            f"--root={directory}/root",
            f"--runroot={directory}/run",
            f"--tmpdir={directory}/tmp",
            "--storage-driver=overlay",
            "--cgroup-manager=cgroupfs",
            "--events-backend=none",
        )

    def version(self) -> str:
        return self._output("--version").strip()

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        user = () if credentials is None else ("--creds", credentials.pair)
        trust = f"--cert-dir={self._certificates}"
        self._output("pull", "--quiet", trust, *user, image)
        return self._output("image", "inspect", "--format", "{{.Digest}}", image).strip()

    def remove_all(self) -> None:
        self._output("rmi", "--all", "--force")

    def close(self) -> None:
        pass

    def _output(self, *arguments: str) -> str:
        environment = self._surroundings.environment() | _no_trust(self._surroundings.directory)
        return _output_of(
            self._surroundings.namespace.run(
                *self._podman, *arguments, environment=environment, timeout_s=_PULL_S
            )
        )


class Skopeo:
    """Copies into a directory; trusts what SSL_CERT_FILE names."""

    programs = ("skopeo",)

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._copy = surroundings.directory / "copy"

    def version(self) -> str:
        return self._output("--version").strip()

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        user = () if credentials is None else ("--src-creds", credentials.pair)
        self._output("--insecure-policy", "copy", *user, f"docker://{image}", f"dir:{self._copy}")
        digest = self._output("manifest-digest", str(self._copy / "manifest.json"))
        return digest.strip()

    def fetch(self, artifact: str) -> str:
        return self.pull(artifact)

    def remove_all(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)

    def close(self) -> None:
        pass

    def _output(self, *arguments: str) -> str:
        trust = _no_trust(self._surroundings.directory) | {
            "SSL_CERT_FILE": str(self._surroundings.trusted)
        }
        return _output_of(
            self._surroundings.namespace.run(
                "skopeo",
                *arguments,
                environment=self._surroundings.environment() | trust,
                timeout_s=_PULL_S,
            )
        )


def _start(surroundings: Surroundings, command: list[str]) -> Program:
    return Program(
        surroundings.namespace.command(*command),
        surroundings.directory / "daemon.log",
        surroundings.environment(),
    )


def _no_trust(directory: Path) -> dict[str, str]:
    """Go looks in these in place of the system's store."""
    empty = directory / "no-certificates"
    empty.mkdir(exist_ok=True)
    return {"SSL_CERT_FILE": str(empty / "none.pem"), "SSL_CERT_DIR": str(empty)}


def _output_of(done: CompletedProcess[str]) -> str:
    if done.returncode:
        raise PullError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def _digest_in(said: str) -> str:
    match = _DIGEST.search(said)
    assert match is not None, f"no digest in {said!r}"
    return match.group()
