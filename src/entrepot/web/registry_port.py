"""What clients hear on the local registries' own port: those registries, and nothing else."""

from collections.abc import Awaitable, Callable

from entrepot.engine.local_names import LocalNames
from entrepot.engine.message import Request, Response, Trace
from entrepot.engine.problem import problem
from entrepot.engine.sites import Site
from entrepot.oci.error_body import ErrorCode

_TEXT = "text/plain; charset=utf-8"


class RegistryPort:
    """Fails closed: who is not named as one of ours is never asked for."""

    def __init__(
        self,
        names: LocalNames,
        *,
        serves: Callable[[str], bool],
        answer: Callable[[Request, Site], Awaitable[Response]],
        proxy: str,
    ) -> None:
        self._names = names
        self._serves = serves
        self._answer = answer
        self._proxy = proxy

    async def respond(self, request: Request) -> Response:
        if not self._serves(request.client):
            message = f"{request.client} is not among the clients that are served here"
            return problem(403, ErrorCode.DENIED, message)
        if request.scheme != "https":
            return problem(400, ErrorCode.UNSUPPORTED, _no_tls(request.host))
        if request.path in {"/", "/healthz"} and request.method in {"GET", "HEAD"}:
            return self._page(request)
        site = self._names.site(request.host)
        if site is None:
            message = f"{request.host or 'a request without Host'} is no registry of this port"
            return problem(421, ErrorCode.DENIED, f"{message}; it serves {self._listed()}")
        return await self._answer(request, site)

    def _page(self, request: Request) -> Response:
        text = "ok\n"
        if request.path == "/":
            text = (
                f"This is a container registry: {self._listed()}. To be used by docker, podman and"
                f" the like.\nMore is told by the proxy before it, at http://{self._proxy}/\n"
            )
        headers = {"Content-Type": _TEXT, "Cache-Control": "no-store"}
        trace = Trace(kind="page", reference=request.path)
        return Response(200, headers, text.encode(), trace=trace)

    def _listed(self) -> str:
        return ", ".join(self._names.all) or "none: the configuration names no local registry"


def _no_tls(host: str) -> str:
    return (
        f"this port speaks TLS: use https://{host}. For docker, take {host} out of its"
        f" insecure-registries, and put the CA into /etc/docker/certs.d/{host}/ca.crt"
    )


def not_here(request: Request, names: LocalNames, *, proxy: str) -> Response | None:
    """To who asks the proxy itself for a registry's content."""
    if request.path != "/v2" and not request.path.startswith("/v2/"):
        return None
    message = (
        f"this is the proxy's own port, and no registry: give clients HTTPS_PROXY=http://{proxy}"
        f" and name images without it, such as {next(iter(names.all), 'docker.io')}/NAME:TAG"
    )
    return problem(421, ErrorCode.UNSUPPORTED, message)
