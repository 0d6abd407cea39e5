"""What is not cached: writes, uploads and paths outside the registry API, passed on streamed."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from urllib.parse import parse_qs

from entrepot.engine.ask import Ask
from entrepot.engine.body import PassedBody
from entrepot.engine.evidence import created
from entrepot.engine.facts import Facts
from entrepot.engine.message import Headers, Response
from entrepot.engine.place import place_for_client
from entrepot.engine.pushes import PassedStep, Pushes, Word
from entrepot.engine.reply import CacheStatus, length_of, mark
from entrepot.engine.single_flight import SingleFlight
from entrepot.engine.uploads import Uploads
from entrepot.errors import InvalidReference, UpstreamError
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Reference, Repository, Tag, parse_reference, parse_repository
from entrepot.oci.route import BlobRoute, ManifestRoute, Other, UploadRoute
from entrepot.upstream.message import UpstreamRequest, UpstreamResponse

_UNAUTHORIZED = 401


class Forward:
    def __init__(
        self,
        facts: Facts,
        forgetting: SingleFlight[object, None],
        uploads: Uploads,
        pushes: Pushes,
    ) -> None:
        self._facts = facts
        self._forgetting = forgetting
        self._uploads = uploads
        self._pushes = pushes

    async def respond(self, ask: Ask) -> Response:
        if ask.request.is_write:
            answer, told = await self._write(ask)
        else:
            answer = await self._send(ask, ask.request.body)
            told = _for_client(ask, answer)
        if answer.status == _UNAUTHORIZED and ask.repository is not None:
            # Its own challenge may name a token service that clients reach past us, or not at all.
            await answer.aclose()
            raise UpstreamError(f"{ask.registry} answers 401", status=answer.status)
        headers = told | mark(ask.trace, CacheStatus.PASS)
        body = PassedBody(answer, lambda _: None)
        return Response(answer.status, headers, body, length_of(answer.headers), ask.trace)

    async def _send(self, ask: Ask, body: AsyncIterator[bytes] | None) -> UpstreamResponse:
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
                mounted_from=_source_of_mount(ask),
                authorization=ask.identity.authorization,
                # The operator's rights open repositories, not the rest of a registry's web site.
                is_anonymous=not is_api and not ask.identity.is_own,
                is_stranger=ask.identity.is_stranger,
                is_bulk=isinstance(ask.route, UploadRoute | Other),
                body=body,
                content_length=request.content_length,
            )
        )

    async def _write(self, ask: Ask) -> tuple[UpstreamResponse, dict[str, str]]:
        """The answer, and its headers as the client hears them.

        What was written is written, also when the pusher is gone or no answer came: then it may
        have been. So what is forgotten is forgotten to its end.
        """
        step = self._pushes.step(ask)
        body = ask.request.body
        try:
            answer = await self._send(ask, None if body is None else step.body(body))
        except BaseException as error:
            step.failed()
            if _may_have_arrived(error):
                self._forgetting.start(object(), lambda: self._forget(ask, {}))
            raise
        try:
            told = _for_client(ask, answer)
            await self._learn(ask, step, answer.status, Headers(told.items()))
        except BaseException:
            await answer.aclose()
            raise
        return answer, told

    async def _learn(self, ask: Ask, step: PassedStep, status: int, told: Headers) -> None:
        learned = created(ask, status, told)
        self._uploads.answered(ask, status, told)
        done = None
        if status < 400:  # noqa: PLR2004
            done = self._forgetting.start(object(), lambda: self._forget(ask, told, learned))
        await step.answered(ask, Word(status, told, learned))
        if done is not None:
            await asyncio.shield(done)

    async def _forget(
        self, ask: Ask, answer: Mapping[str, str], learned: Digest | None = None
    ) -> None:
        """A write changes what names mean, at once."""
        match ask.route:
            case ManifestRoute(repository=repository, reference=reference):
                await self._forget_manifest(ask, repository, reference)
            case BlobRoute(repository=repository, digest=digest):
                await self._facts.drop_member(ask.registry, repository, digest)
        for path in _written(ask, answer):
            await self._facts.unmark_absent(ask.registry, path)
        if learned is not None and ask.repository is not None:
            # The upstream's word, as that to a HEAD is. It says nothing of who may read.
            await self._facts.add_members(ask.registry, ask.repository, (learned,))

    async def _forget_manifest(
        self, ask: Ask, repository: Repository, reference: Reference
    ) -> None:
        if not isinstance(reference, Digest):
            await self._facts.unbind(ask.registry, repository, reference)
        elif ask.request.method == "DELETE":
            await self._facts.drop_member(ask.registry, repository, reference)
            await self._facts.unbind_where(
                ask.registry, repository, None, lambda known: known.digest == reference
            )
        for tag in _further_tags(ask):
            await self._facts.unbind(ask.registry, repository, tag)
        await self._facts.forget_listings(ask.registry, repository)


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
    for tag in _further_tags(ask):
        yield f"/v2/{ask.repository}/manifests/{tag}"
    if isinstance(ask.route, UploadRoute):
        query = parse_qs(ask.request.query)
        for digest in (*query.get("digest", ()), *query.get("mount", ())):
            yield f"/v2/{ask.repository}/blobs/{digest}"


def _further_tags(ask: Ask) -> Iterator[Tag]:
    """Which a manifest is given besides (distribution-spec 1.2, end-7b)."""
    if not isinstance(ask.route, ManifestRoute):
        return
    for text in parse_qs(ask.request.query).get("tag", ()):
        try:
            tag = parse_reference(text)
        except InvalidReference:
            continue  # which the upstream takes for none either
        if not isinstance(tag, Digest):
            yield tag


def _source_of_mount(ask: Ask) -> Repository | None:
    """Whose blob is mounted: the token must open that, too, or the upstream does not find it."""
    if not isinstance(ask.route, UploadRoute) or ask.request.method != "POST":
        return None
    query = parse_qs(ask.request.query)
    sources = query.get("from", ()) if "mount" in query else ()
    try:
        return parse_repository(sources[0]) if len(sources) == 1 else None
    except InvalidReference:
        return None


def _for_client(ask: Ask, answer: UpstreamResponse) -> dict[str, str]:
    return {
        name: place_for_client(ask, value) if name.lower() == "location" else value
        for name, value in _without(answer.headers, "content-length")
    }


def _without(headers: Mapping[str, str], unwanted: str) -> Iterator[tuple[str, str]]:
    """All that is end to end: `upstream` has its own eye on what is not."""
    return ((name, value) for name, value in headers.items() if name.lower() != unwanted)
