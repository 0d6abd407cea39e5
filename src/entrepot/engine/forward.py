"""What is not cached: writes, uploads and paths outside the registry API, passed on streamed."""

from collections.abc import Mapping

from entrepot.engine.ask import Ask
from entrepot.engine.body import PassedBody
from entrepot.engine.facts import Facts
from entrepot.engine.message import Response
from entrepot.engine.problem import problem
from entrepot.engine.reply import CacheStatus, mark
from entrepot.oci.digest import Digest
from entrepot.oci.error_body import ErrorCode
from entrepot.oci.route import BlobRoute, ManifestRoute, Other
from entrepot.upstream.message import UpstreamRequest

# Connection-level or ours to say; everything else passes as it came.
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length", "authorization",
        "accept-encoding", "expect", "cookie",
    }
)  # fmt: skip


class Forward:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def respond(self, ask: Ask) -> Response:
        request = ask.request
        is_write = request.is_write
        is_api = not isinstance(ask.route, Other)
        if is_write and is_api and ask.site.settings.push != "allow":
            message = f"pushing to {ask.registry} through this proxy is not allowed (push: deny)"
            return problem(405, ErrorCode.UNSUPPORTED, message, ask.trace)
        answer = await ask.site.upstream.send(
            UpstreamRequest(
                method=request.method,
                path=request.target,
                headers=_passed(request.headers),
                repository=ask.repository,
                actions="pull,push" if is_write else "pull",
                authorization=ask.identity.authorization,
                # The operator's rights open repositories, not the rest of a registry's web site.
                is_anonymous=not is_api and not ask.identity.is_own,
                body=request.body,
                content_length=request.content_length,
            )
        )
        if is_write and answer.status < 400:  # noqa: PLR2004
            await self._forget(ask)
        headers = _passed(answer.headers) | mark(ask.trace, CacheStatus.PASS)
        length = answer.headers.get("Content-Length", "")
        body = PassedBody(answer, lambda _: None)
        size = int(length) if length.isdecimal() else None
        return Response(answer.status, headers, body, size, ask.trace)

    async def _forget(self, ask: Ask) -> None:
        """A write that succeeded changes what names mean, at once."""
        if isinstance(ask.route, ManifestRoute):
            if isinstance(ask.route.reference, Digest):
                await self._drop(ask, ask.route.reference)
            else:
                await self._facts.unbind(ask.registry, ask.route.repository, ask.route.reference)
        elif isinstance(ask.route, BlobRoute):
            await self._drop(ask, ask.route.digest)

    async def _drop(self, ask: Ask, digest: Digest) -> None:
        if ask.request.method == "DELETE" and ask.repository is not None:
            await self._facts.drop_member(ask.registry, ask.repository, digest)


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
