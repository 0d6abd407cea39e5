"""What is not cached: writes, uploads and paths outside the registry API, passed on streamed."""

import asyncio
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs

from entrepot.engine.ask import Ask
from entrepot.engine.body import PassedBody
from entrepot.engine.facts import Facts
from entrepot.engine.message import Headers, Response
from entrepot.engine.reply import CacheStatus, length_of, mark
from entrepot.engine.single_flight import SingleFlight
from entrepot.engine.uploads import Uploads
from entrepot.errors import InvalidReference, UpstreamError
from entrepot.oci.digest import Digest
from entrepot.oci.route import BlobRoute, ManifestRoute, Other, UploadRoute
from entrepot.upstream.message import UpstreamRequest, UpstreamResponse


class Forward:
    def __init__(
        self, facts: Facts, forgetting: SingleFlight[object, None], uploads: Uploads
    ) -> None:
        self._facts = facts
        self._forgetting = forgetting
        self._uploads = uploads

    async def respond(self, ask: Ask) -> Response:
        answer = await (self._write(ask) if ask.request.is_write else self._send(ask))
        headers = dict(_without(answer.headers, "content-length"))
        headers |= mark(ask.trace, CacheStatus.PASS)
        body = PassedBody(answer, lambda _: None)
        return Response(answer.status, headers, body, length_of(answer.headers), ask.trace)

    async def _send(self, ask: Ask) -> UpstreamResponse:
        request = ask.request
        is_api = not isinstance(ask.route, Other)
        upstream = ask.site.upstream if is_api else ask.site.at(request.host)
        return await upstream.send(
            UpstreamRequest(
                method=request.method,
                path=request.target,
                headers=Headers(_without(request.headers, "cookie")),
                repository=ask.repository,
                actions="pull,push" if request.is_write else "pull",
                authorization=ask.identity.authorization,
                # The operator's rights open repositories, not the rest of a registry's web site.
                is_anonymous=not is_api and not ask.identity.is_own,
                is_stranger=ask.identity.is_stranger,
                is_bulk=isinstance(ask.route, UploadRoute | Other),
                body=request.body,
                content_length=request.content_length,
            )
        )

    async def _write(self, ask: Ask) -> UpstreamResponse:
        """What was written is written, also when the pusher is gone or no answer came: then it may
        have been. So what is forgotten is forgotten to its end.
        """
        try:
            answer = await self._send(ask)
            self._uploads.answered(ask, answer)
        except BaseException as error:
            if _may_have_arrived(error):
                self._forgetting.start(object(), lambda: self._forget(ask, {}))
            raise
        if answer.status < 400:  # noqa: PLR2004
            done = self._forgetting.start(object(), lambda: self._forget(ask, answer.headers))
            try:
                await asyncio.shield(done)
            except BaseException:
                await answer.aclose()
                raise
        return answer

    async def _forget(self, ask: Ask, answer: Mapping[str, str]) -> None:
        """A write changes what names mean, at once."""
        match ask.route:
            case ManifestRoute(repository=repository, reference=reference):
                if not isinstance(reference, Digest):
                    await self._facts.unbind(ask.registry, repository, reference)
                elif ask.request.method == "DELETE":
                    await self._facts.drop_member(ask.registry, repository, reference)
                    await self._facts.unbind_where(
                        ask.registry, repository, None, lambda known: known.digest == reference
                    )
            case BlobRoute(repository=repository, digest=digest):
                await self._facts.drop_member(ask.registry, repository, digest)
        for path in _written(ask, answer):
            await self._facts.unmark_absent(ask.registry, path)


def _may_have_arrived(error: BaseException) -> bool:
    """Whether the upstream may have done what it gave no answer to."""
    if isinstance(error, UpstreamError):
        return error.was_sent
    return not isinstance(error, InvalidReference)


def _written(ask: Ask, answer: Mapping[str, str]) -> Iterator[str]:
    """The paths at which there may be something now: who pushes has asked for them before."""
    yield ask.path
    if isinstance(ask.route, ManifestRoute) and "Docker-Content-Digest" in answer:
        yield f"/v2/{ask.repository}/manifests/{answer['Docker-Content-Digest']}"
    if isinstance(ask.route, UploadRoute):
        query = parse_qs(ask.request.query)
        for digest in (*query.get("digest", ()), *query.get("mount", ())):
            yield f"/v2/{ask.repository}/blobs/{digest}"


def _without(headers: Mapping[str, str], unwanted: str) -> Iterator[tuple[str, str]]:
    """All that is end to end: `upstream` has its own eye on what is not."""
    return ((name, value) for name, value in headers.items() if name.lower() != unwanted)
