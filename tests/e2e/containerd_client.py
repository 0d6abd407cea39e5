"""containerd, by its own command line and by the kubelet's interface."""

from pathlib import Path
from subprocess import CompletedProcess

from tests.e2e.clients import (
    CALL_S,
    READY_S,
    ClientError,
    Credentials,
    Surroundings,
    digest_in,
    output_of,
)
from tests.support import grpc
from tests.support.processes import Program


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
        self._daemon = surroundings.start(
            "containerd", "--config", str(configuration), log="daemon.log"
        )
        self._daemon.wait_ready(lambda: self._run("default", "version").returncode == 0, READY_S)

    @property
    def trust(self) -> tuple[str, ...]:
        """Arguments of ctr, which does its own HTTP."""
        certs_d = self._surroundings.certs_d
        return () if certs_d is None else (f"--hosts-dir={certs_d}",)

    def output(self, namespace: str, *arguments: str, timeout_s: float = CALL_S) -> str:
        return output_of(self._run(namespace, *arguments, timeout_s=timeout_s))

    def start(self, namespace: str, *arguments: str, log: str) -> Program:
        return self._surroundings.start(*self._ctr(namespace), *arguments, log=log)

    def digest(self, namespace: str, image: str) -> str:
        return digest_in(self.output(namespace, "images", "ls", f"name=={image}"))

    def remove_all(self, namespace: str) -> None:
        names = self.output(namespace, "images", "ls", "--quiet").split()
        for number, name in enumerate(names, start=1):
            last = ("--sync",) if number == len(names) else ()  # collects what nothing names
            self.output(namespace, "images", "rm", *last, name)

    def close(self) -> None:
        self._daemon.kill()

    def _run(
        self, namespace: str, *arguments: str, timeout_s: float = CALL_S
    ) -> CompletedProcess[str]:
        return self._surroundings.run(*self._ctr(namespace), *arguments, timeout_s=timeout_s)

    def _ctr(self, namespace: str) -> tuple[str, ...]:
        return ("ctr", f"--address={self.socket}", f"--namespace={namespace}")


class Ctr:
    programs = Containerd.programs
    _NAMESPACE = "e2e"

    def __init__(self, daemon: Containerd) -> None:
        self._daemon = daemon

    def version(self) -> str:
        return self._daemon.output(self._NAMESPACE, "--version").strip()

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        self._output("pull", *self._user(credentials), image)
        return self._daemon.digest(self._NAMESPACE, image)

    def fetch(self, artifact: str) -> str:
        """All of its content, without unpacking it."""
        self._daemon.output(self._NAMESPACE, "content", "fetch", artifact)
        return self._daemon.digest(self._NAMESPACE, artifact)

    def push(
        self,
        archive: Path,
        image: str,
        credentials: Credentials | None = None,
        timeout_s: float = CALL_S,
    ) -> str:
        self._output("import", "--no-unpack", str(archive), timeout_s=timeout_s)
        self._output("push", *self._user(credentials), image, timeout_s=timeout_s)
        return self._daemon.digest(self._NAMESPACE, image)

    def start_push(
        self, archive: Path, image: str, credentials: Credentials | None = None
    ) -> Program:
        self._output("import", "--no-unpack", str(archive))
        arguments = ("images", "push", *self._user(credentials), image)
        return self._daemon.start(self._NAMESPACE, *arguments, log="push.log")

    def remove_all(self) -> None:
        self._daemon.remove_all(self._NAMESPACE)

    def close(self) -> None:
        pass

    def _user(self, credentials: Credentials | None) -> tuple[str, ...]:
        user = () if credentials is None else ("--user", credentials.pair)
        return (*self._daemon.trust, *user)

    def _output(self, *arguments: str, timeout_s: float = CALL_S) -> str:
        return self._daemon.output(self._NAMESPACE, "images", *arguments, timeout_s=timeout_s)


class Cri:
    """containerd as the kubelet uses it, by the container runtime interface's PullImage."""

    programs = Containerd.programs
    _NAMESPACE = "k8s.io"
    _SERVICE = "/runtime.v1.ImageService"

    def __init__(self, daemon: Containerd) -> None:
        self._daemon = daemon

    def version(self) -> str:
        answer = grpc.call(self._daemon.socket, "/runtime.v1.RuntimeService/Version", b"", READY_S)
        return answer.decode(errors="replace")

    def pull(self, image: str, credentials: Credentials | None = None) -> str:
        request = grpc.message(1, grpc.text(1, image))
        if credentials is not None:
            user = grpc.text(1, credentials.user) + grpc.text(2, credentials.password)
            request += grpc.message(2, user)
        try:
            grpc.call(self._daemon.socket, f"{self._SERVICE}/PullImage", request, CALL_S)
        except grpc.CallFailedError as error:
            raise ClientError(str(error)) from error
        return self._daemon.digest(self._NAMESPACE, image)

    def remove_all(self) -> None:
        self._daemon.remove_all(self._NAMESPACE)

    def close(self) -> None:
        pass
