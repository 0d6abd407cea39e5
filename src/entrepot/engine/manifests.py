"""Manifests: by tag under the cache rules, by digest once and for all."""

from collections.abc import Callable

from entrepot.cache.decide import Fetch, Pass, Revalidate, Serve, Situation, decide, is_trouble
from entrepot.cache.entitlement import Standing
from entrepot.cache.record import Binding
from entrepot.cache.rules import TagPolicies
from entrepot.clock import Clock
from entrepot.engine.access import Access
from entrepot.engine.ask import Ask, Origin
from entrepot.engine.body import PassedBody
from entrepot.engine.facts import Facts
from entrepot.engine.held import Held, HeldManifests
from entrepot.engine.message import Response
from entrepot.engine.reply import CacheStatus, content_headers, mark, matches_etag
from entrepot.engine.single_flight import SingleFlight
from entrepot.errors import DigestMismatch, InvalidReference, StorageError, UpstreamError
from entrepot.oci.digest import Digest
from entrepot.oci.manifest import Manifest
from entrepot.oci.media_type import OCTET_STREAM, essence
from entrepot.oci.reference import Repository, Tag
from entrepot.oci.route import ManifestRoute
from entrepot.upstream.message import UpstreamResponse


class _TooLargeError(Exception):
    """A manifest beyond the limit: passed on, not kept."""


class Manifests:
    def __init__(  # noqa: PLR0913 - collaborators, put together in one place
        self,
        held: HeldManifests,
        facts: Facts,
        origin: Origin,
        access: Access,
        *,
        policies: TagPolicies,
        fetches: SingleFlight[tuple[str, ...], Held | None],
        heads: SingleFlight[tuple[str, ...], Binding | None],
        limit: int,
        clock: Clock,
        fetched: Callable[[str, int], None],
    ) -> None:
        self._held = held
        self._facts = facts
        self._origin = origin
        self._access = access
        self._policies = policies
        self._fetches = fetches
        self._heads = heads
        self._limit = limit
        self._clock = clock
        self._fetched = fetched

    async def respond(self, ask: Ask, route: ManifestRoute) -> Response:
        try:
            if isinstance(route.reference, Digest):
                return await self._by_digest(ask, route.reference)
            return await self._by_tag(ask, route.repository, route.reference)
        except _TooLargeError:
            return await self._pass(ask)

    # By tag.

    async def _by_tag(self, ask: Ask, repository: Repository, tag: Tag) -> Response:
        policy = self._policies.of(ask.registry, repository, tag)
        if policy.negative_ttl_s and not policy.is_never_kept:
            await self._access.refuse_known_absence(ask, policy.negative_ttl_s)
        entry = await self._facts.tag(ask.registry, repository, tag, ask.accept)
        binding = entry if isinstance(entry, Binding) else None
        held = await self._held.get(binding.digest) if binding and not ask.is_head else None
        situation = Situation(
            entry=binding,
            is_servable=ask.is_head or held is not None,
            is_resting=ask.site.upstream.is_resting(),
            now=self._clock.now(),
        )
        match await self._entitled(ask, decide(situation, policy)):
            case Pass():
                return await self._pass(ask)
            case Serve(is_stale=is_stale):
                assert binding is not None
                status = CacheStatus.STALE_UNASKED if is_stale else CacheStatus.HIT
                return self._reply(ask, binding, held, status)
            case Revalidate(may_serve_stale=may_serve_stale):
                assert binding is not None
                stale = binding if may_serve_stale else None
                return await self._revalidate(ask, tag, stale, held)
            case Fetch():
                return await self._fetch_tag(ask, tag)

    async def _entitled(
        self, ask: Ask, action: Serve | Revalidate | Fetch | Pass
    ) -> Serve | Revalidate | Fetch | Pass:
        """Serving unasked takes a word of the upstream that this identity may read here."""
        if not isinstance(action, Serve):
            return action
        known = await self._access.standing(ask)
        if known is Standing.FRESH or (known is Standing.AGED and action.is_stale):
            return action
        return Revalidate(may_serve_stale=known is Standing.AGED)

    async def _revalidate(
        self, ask: Ask, tag: Tag, stale: Binding | None, held: Held | None
    ) -> Response:
        try:
            current = await self._head_tag(ask, tag, is_patient=stale is None)
        except UpstreamError as error:
            if is_trouble(error.status) and stale is not None and await self._may_bridge(ask):
                ask.trace.error = str(error)
                return self._reply(ask, stale, held, CacheStatus.STALE)
            await self._forget_if_gone(ask, tag, error)
            raise
        if current is None:
            return await self._fetch_tag(ask, tag)
        if ask.is_head:
            return self._reply(ask, current, None, CacheStatus.REVALIDATED)
        if held is None or held.digest != current.digest:
            held = await self._held.get(current.digest)
        if held is not None:
            return self._reply(ask, current, held, CacheStatus.REVALIDATED)
        return await self._fetch_tag(ask, tag)

    async def _may_bridge(self, ask: Ask) -> bool:
        return await self._access.standing(ask) is not Standing.UNKNOWN

    async def _forget_if_gone(self, ask: Ask, tag: Tag, error: UpstreamError) -> None:
        """404 for a tag once cached is an answer, not an outage."""
        if error.status == 404 and ask.repository is not None:  # noqa: PLR2004
            await self._facts.unbind(ask.registry, ask.repository, tag)

    async def _head_tag(self, ask: Ask, tag: Tag, *, is_patient: bool) -> Binding | None:
        """What the tag points to now; None where a HEAD does not say it."""

        async def head() -> Binding | None:
            try:
                response = await self._origin.head(ask, _accept(ask), is_patient=is_patient)
            except UpstreamError as error:
                if error.status in {405, 501}:  # some registries know no HEAD of manifests
                    return None
                raise
            binding = self._binding_of(response)
            if binding is not None:
                await self._bind(ask, tag, binding)
            return binding

        return await self._heads.run((ask.registry, ask.path, ask.accept, ask.identity.key), head)

    def _binding_of(self, response: UpstreamResponse) -> Binding | None:
        length = response.headers.get("Content-Length", "")
        media_type = essence(response.headers.get("Content-Type", ""))
        try:
            digest = Digest.parse(response.headers.get("Docker-Content-Digest", ""))
        except InvalidReference:
            return None
        if not length.isdecimal() or not media_type:
            return None
        return Binding(digest, media_type, int(length), self._clock.now())

    async def _bind(self, ask: Ask, tag: Tag, binding: Binding) -> None:
        assert ask.repository is not None
        await self._facts.bind(ask.registry, ask.repository, tag, ask.accept, binding)
        await self._facts.add_members(ask.registry, ask.repository, (binding.digest,))

    async def _fetch_tag(self, ask: Ask, tag: Tag) -> Response:
        if ask.is_head:
            current = await self._head_tag(ask, tag, is_patient=True)
            if current is not None:
                return self._reply(ask, current, None, CacheStatus.MISS)

        async def fetch() -> Held | None:
            held = await self._fetch(ask, None)
            now = self._clock.now()
            binding = Binding(held.digest, held.media_type, len(held.body), now)
            await self._bind(ask, tag, binding)
            return held

        key = ("tag", ask.registry, ask.path, ask.accept, ask.identity.key)
        try:
            held = await self._fetches.run(key, fetch)
        except UpstreamError as error:
            await self._forget_if_gone(ask, tag, error)
            raise
        return self._deliver(ask, held)

    # By digest.

    async def _by_digest(self, ask: Ask, digest: Digest) -> Response:
        held = await self._held.get(digest)
        if held is not None:
            await self._access.ensure(ask, digest)
            binding = Binding(digest, held.media_type, len(held.body), self._clock.now())
            return self._reply(ask, binding, held, CacheStatus.HIT)
        await self._access.refuse_known_absence(ask)
        if ask.is_head:
            binding_now = self._binding_of(await self._origin.head(ask, _accept(ask)))
            if binding_now is not None and binding_now.digest == digest:
                return self._reply(ask, binding_now, None, CacheStatus.MISS)
        key = ("digest", ask.registry, ask.path, ask.identity.key)
        held = await self._fetches.run(key, lambda: self._fetch(ask, digest))
        return self._deliver(ask, held)

    # Bytes.

    async def _fetch(self, ask: Ask, expected: Digest | None) -> Held:
        async with await self._origin.open(ask, "GET", _accept(ask)) as response:
            length = response.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) > self._limit:
                raise _TooLargeError
            body = await response.read(self._limit)
        self._fetched(ask.registry, len(body))
        digest = expected or _claimed(response) or Digest.of(body)
        if not digest.matches(body):
            raise DigestMismatch(f"{ask.registry} sent a manifest that is not {digest}")
        media_type = essence(response.headers.get("Content-Type", "")) or OCTET_STREAM
        held = Held(digest, media_type, body)
        await self._keep(ask, held)
        return held

    async def _keep(self, ask: Ask, held: Held) -> None:
        assert ask.repository is not None
        members = (held.digest, *_named(held))
        await self._facts.add_members(ask.registry, ask.repository, members)
        try:
            await self._held.put(held)
        except StorageError as error:
            ask.trace.error = str(error)  # served all the same, only not kept

    # Answers.

    def _deliver(self, ask: Ask, held: Held | None) -> Response:
        assert held is not None
        binding = Binding(held.digest, held.media_type, len(held.body), self._clock.now())
        return self._reply(ask, binding, held, CacheStatus.MISS)

    def _reply(
        self, ask: Ask, binding: Binding, held: Held | None, status: CacheStatus
    ) -> Response:
        age_s = self._clock.now() - binding.checked_at
        headers = {
            **content_headers(binding.digest, binding.media_type),
            **mark(ask.trace, status, age_s),
        }
        if matches_etag(ask.request.headers.get("if-none-match"), binding.digest):
            return Response(304, headers, trace=ask.trace)
        if ask.is_head:
            return Response(200, headers, b"", length=binding.size, trace=ask.trace)
        assert held is not None
        return Response(200, headers, held.body, trace=ask.trace)

    async def _pass(self, ask: Ask) -> Response:
        response = await self._origin.open(ask, ask.request.method, _accept(ask))
        headers = {
            name: response.headers[name]
            for name in ("Content-Type", "Docker-Content-Digest", "ETag")
            if name in response.headers
        }
        length = response.headers.get("Content-Length", "")
        body = PassedBody(response, lambda size: self._fetched(ask.registry, size))
        headers |= mark(ask.trace, CacheStatus.BYPASS)
        size = int(length) if length.isdecimal() else None
        return Response(response.status, headers, body, size, ask.trace)


def _accept(ask: Ask) -> dict[str, str]:
    return {"Accept": ask.accept} if ask.accept else {}


def _claimed(response: UpstreamResponse) -> Digest | None:
    try:
        return Digest.parse(response.headers.get("Docker-Content-Digest", ""))
    except InvalidReference:
        return None


def _named(held: Held) -> tuple[Digest, ...]:
    """What the manifest names is held by the repository that holds the manifest."""
    try:
        manifest = Manifest.parse(held.body, held.media_type)
    except InvalidReference:
        return ()
    return tuple(part.digest for part in (*manifest.manifests, *manifest.blobs))
