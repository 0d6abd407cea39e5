"""Manifests: by tag under the cache rules, by digest once and for all."""

from collections.abc import Callable
from typing import assert_never

from entrepot.cache.decide import (
    Action,
    Fetch,
    Pass,
    Revalidate,
    Serve,
    Situation,
    decide,
    is_trouble,
    may_be_stale,
)
from entrepot.cache.entitlement import Standing
from entrepot.cache.record import Binding
from entrepot.cache.rules import Policy, TagPolicies
from entrepot.clock import Clock
from entrepot.engine.access import NO_HEAD, Access
from entrepot.engine.ask import Ask, Origin
from entrepot.engine.body import PassedBody
from entrepot.engine.facts import Facts
from entrepot.engine.held import Held, HeldManifests
from entrepot.engine.message import Response
from entrepot.engine.reply import CacheStatus, content_headers, length_of, mark, matches_etag
from entrepot.engine.single_flight import SingleFlight
from entrepot.errors import DigestMismatch, InvalidReference, StorageError, UpstreamError
from entrepot.oci.digest import Digest
from entrepot.oci.manifest import is_manifest
from entrepot.oci.media_type import DOCKER_SCHEMA1, OCTET_STREAM, accepts, essence
from entrepot.oci.reference import Repository, Tag
from entrepot.oci.route import ManifestRoute
from entrepot.upstream.message import UpstreamResponse


class _NotKeptError(Exception):
    """A manifest beyond the limit, or that cannot be checked: passed on."""


class Manifests:
    def __init__(  # noqa: PLR0913 - collaborators, put together in one place
        self,
        held: HeldManifests,
        facts: Facts,
        origin: Origin,
        access: Access,
        *,
        policies: TagPolicies,
        fetches: SingleFlight[tuple[str, ...], Held],
        heads: SingleFlight[tuple[str, ...], Binding | None],
        limit: int,
        clock: Clock,
        fetched: Callable[[str, int], None],
        delivered: Callable[[Ask, Held], None],
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
        self._delivered = delivered  # on a miss

    async def respond(self, ask: Ask, route: ManifestRoute) -> Response:
        try:
            if ask.is_head and ask.is_writable:
                return await self._existence(ask, route)
            return await self._from_cache(ask, route)
        except _NotKeptError:
            return await self._pass(ask)

    async def _from_cache(self, ask: Ask, route: ManifestRoute) -> Response:
        if isinstance(route.reference, Digest):
            return await self._by_digest(ask, route.reference)
        return await self._by_tag(ask, route.repository, route.reference)

    async def _existence(self, ask: Ask, route: ManifestRoute) -> Response:
        """For who may push, whether it is there is the upstream's to say, as with blobs."""
        if self._access.is_out_of_reach(ask):
            return await self._from_cache(ask, route)
        is_patient = not await self._is_known(ask, route)
        try:
            binding = await self._head(ask, is_patient=is_patient)
        except UpstreamError as error:
            if not is_trouble(error.status):
                raise
            return await self._from_cache(ask, route)
        if binding is None:
            return await self._from_cache(ask, route)
        return self._reply(ask, binding, None, CacheStatus.PASS)

    async def _is_known(self, ask: Ask, route: ManifestRoute) -> bool:
        """Whether there is something to fall back on, for one client or another."""
        if isinstance(route.reference, Digest):
            return await self._held.get(route.reference) is not None
        return bool(await self._facts.bindings(ask.registry, route.repository, route.reference))

    # By tag.

    async def _by_tag(self, ask: Ask, repository: Repository, tag: Tag) -> Response:
        policy = self._policies.of(ask.registry, repository, tag)
        if policy.negative_ttl_s and not policy.is_never_kept:
            await self._access.refuse_known_absence(ask, policy.negative_ttl_s)
        binding = await self._facts.tag(ask.registry, repository, tag, ask.accept)
        try:
            if binding is None and not policy.is_never_kept:
                stand_in = await self._stand_in(ask, repository, tag, policy)
                if stand_in is not None:
                    return await self._instead(ask, tag, stand_in)
            return await self._decided(ask, tag, binding, policy)
        except UpstreamError as error:
            await self._forget_if_gone(ask, repository, tag, error)
            raise

    async def _decided(
        self, ask: Ask, tag: Tag, binding: Binding | None, policy: Policy
    ) -> Response:
        held = await self._held.get(binding.digest) if binding and not ask.is_head else None
        situation = Situation(
            binding=binding,
            is_servable=ask.is_head or held is not None,
            is_resting=self._access.is_out_of_reach(ask),
            now=self._clock.now(),
        )
        action = decide(situation, policy)
        if isinstance(action, Serve) and binding is not None:
            assert ask.repository is not None
            if policy.is_immutable:
                await self._facts.keep_binding(
                    ask.registry, ask.repository, tag, ask.accept, binding
                )
            action = await self._entitled(ask, action, binding, policy)
        return await self._act(ask, tag, action, binding, held)

    async def _forget_if_gone(
        self, ask: Ask, repository: Repository, tag: Tag, error: UpstreamError
    ) -> None:
        """404 is an answer, not an outage; to a client that does not accept what others do, it is
        one for this client alone, and so it is to one that may not read there.
        """
        if error.status == 404 and await self._origin.is_absence_for_all(ask):  # noqa: PLR2004
            await self._facts.unbind_where(
                ask.registry,
                repository,
                tag,
                lambda binding: accepts(ask.accept, binding.media_type),
            )

    async def _stand_in(
        self, ask: Ask, repository: Repository, tag: Tag, policy: Policy
    ) -> Binding | None:
        """What the tag points to for clients that accept other things, if this one accepts it."""
        now = self._clock.now()
        fitting = [
            binding
            for binding in await self._facts.bindings(ask.registry, repository, tag)
            if accepts(ask.accept, binding.media_type) and may_be_stale(binding, policy, now)
        ]
        return max(fitting, key=lambda binding: binding.checked_at, default=None)

    async def _instead(self, ask: Ask, tag: Tag, stand_in: Binding) -> Response:
        """The upstream might have something better for this client: it is asked, by a HEAD where
        that will do. What others got is what there is while it cannot be.
        """
        held = None if ask.is_head else await self._held.get(stand_in.digest)
        if held is None and not ask.is_head:
            return await self._miss(ask, tag)
        known = await self._access.standing(ask)
        if known is not Standing.UNKNOWN and self._access.is_out_of_reach(ask):
            return self._reply(ask, stand_in, held, CacheStatus.STALE_UNASKED)
        return await self._revalidate(ask, tag, stand_in, held)

    async def _entitled(
        self, ask: Ask, action: Serve, binding: Binding, policy: Policy
    ) -> Serve | Revalidate:
        """Serving unasked takes a word of the upstream that this identity may read here."""
        known = await self._access.standing(ask)
        if known is Standing.FRESH or (known is Standing.AGED and action.is_stale):
            return action
        if policy.is_immutable:  # who may read is asked; what the tag points to is not
            path = f"/v2/{ask.repository}/manifests/{binding.digest}"
            await self._access.ensure(ask.about(path), binding.digest)
            return action
        return Revalidate(may_serve_stale=known is Standing.AGED)

    async def _act(
        self, ask: Ask, tag: Tag, action: Action, binding: Binding | None, held: Held | None
    ) -> Response:
        match action:
            case Pass():
                return await self._pass(ask)
            case Serve(is_stale=is_stale):
                assert binding is not None
                status = CacheStatus.STALE_UNASKED if is_stale else CacheStatus.HIT
                return self._reply(ask, binding, held, status)
            case Revalidate(may_serve_stale=may_serve_stale):
                stale = binding if may_serve_stale else None
                return await self._revalidate(ask, tag, stale, held)
            case Fetch():
                return await self._miss(ask, tag)
            case _:
                assert_never(action)

    async def _revalidate(
        self, ask: Ask, tag: Tag, stale: Binding | None, held: Held | None
    ) -> Response:
        try:
            current = await self._head_tag(ask, tag, stale)
            if current is not None and ask.is_head:
                return self._reply(ask, current, None, CacheStatus.REVALIDATED)
            now_held = await self._held.get(current.digest) if current is not None else None
            if current is not None and now_held is not None:
                return self._reply(ask, current, now_held, CacheStatus.REVALIDATED)
            return await self._fetch_tag(ask, tag, is_patient=stale is None)
        except UpstreamError as error:
            if stale is None or not await self._access.bridges(ask, error):
                raise
            ask.trace.error = str(error)
            return self._reply(ask, stale, held, CacheStatus.STALE)

    async def _miss(self, ask: Ask, tag: Tag) -> Response:
        if ask.is_head:
            current = await self._head_tag(ask, tag, None)
            if current is not None:
                return self._reply(ask, current, None, CacheStatus.MISS)
        return await self._fetch_tag(ask, tag)

    async def _head_tag(self, ask: Ask, tag: Tag, stale: Binding | None) -> Binding | None:
        """What the tag points to now; None where a HEAD does not say it."""
        moment = self._facts.unbindings

        async def head() -> Binding | None:
            binding = await self._head(ask, is_patient=stale is None)
            if binding is not None and await self._may_replace(stale, binding):
                await self._bind(ask, tag, binding, moment)
            return binding

        key = (ask.registry, ask.path, ask.accept, ask.identity.key, str(moment))
        return await self._heads.run(key, head)

    async def _may_replace(self, stale: Binding | None, binding: Binding) -> bool:
        """What can be served is kept until what the tag has moved to is here: Docker Hub's limit
        is on GET alone, so that HEAD may tell of what then cannot be had.
        """
        if stale is None or stale.digest == binding.digest:
            return True
        return await self._held.get(binding.digest) is not None

    async def _head(self, ask: Ask, *, is_patient: bool = True) -> Binding | None:
        """What a HEAD says is there; None where it does not, or the registry knows no HEAD."""
        try:
            response = await self._origin.head(ask, _accept(ask), is_patient=is_patient)
        except UpstreamError as error:
            if error.status in NO_HEAD:
                return None
            raise
        return self._binding_of(response)

    def _binding_of(self, response: UpstreamResponse) -> Binding | None:
        digest, length = _claimed(response), length_of(response.headers)
        media_type = essence(response.headers.get("Content-Type", ""))
        if digest is None or length is None or not media_type:
            return None
        return Binding(digest, media_type, length, self._clock.now())

    async def _bind(self, ask: Ask, tag: Tag, binding: Binding, moment: int) -> None:
        """Unless the tag may have been written since it was asked for."""
        assert ask.repository is not None
        if self._facts.unbindings == moment:
            await self._facts.bind(ask.registry, ask.repository, tag, ask.accept, binding)
            if self._facts.unbindings != moment:  # written while this was being written down
                await self._facts.unbind(ask.registry, ask.repository, tag)
        await self._facts.add_members(ask.registry, ask.repository, (binding.digest,))

    async def _fetch_tag(self, ask: Ask, tag: Tag, *, is_patient: bool = True) -> Response:
        moment = self._facts.unbindings

        async def fetch() -> Held:
            held = await self._fetch(ask, None, is_patient=is_patient)
            await self._bind(ask, tag, self._binding_to(held), moment)
            return held

        key = ("tag", ask.registry, ask.path, ask.accept, ask.identity.key, str(moment))
        return self._deliver(ask, await self._fetches.run(key, fetch))

    # By digest.

    async def _by_digest(self, ask: Ask, digest: Digest) -> Response:
        held = await self._held.get(digest)
        if held is not None:
            await self._access.ensure(ask, digest)
            return self._reply(ask, self._binding_to(held), held, CacheStatus.HIT)
        await self._access.refuse_known_absence(ask)
        if ask.is_head:
            binding_now = await self._head(ask)
            if binding_now is not None and binding_now.digest == digest:
                return self._reply(ask, binding_now, None, CacheStatus.MISS)
        key = ("digest", ask.registry, ask.path, ask.identity.key)
        held = await self._fetches.run(key, lambda: self._fetch(ask, digest))
        return self._deliver(ask, held)

    # Bytes.

    async def _fetch(self, ask: Ask, expected: Digest | None, *, is_patient: bool = True) -> Held:
        body = bytearray()
        async with await self._origin.open(
            ask, "GET", _accept(ask), is_patient=is_patient
        ) as response:
            media_type = essence(response.headers.get("Content-Type", "")) or OCTET_STREAM
            if (length_of(response.headers) or 0) > self._limit or media_type == DOCKER_SCHEMA1:
                raise _NotKeptError
            async for piece in response.chunks():
                self._fetched(ask.site.entry, len(piece))
                body += piece
                if len(body) > self._limit:
                    raise _NotKeptError
        digest = expected or _claimed(response) or Digest.of(bytes(body))
        if not digest.matches(bytes(body)):
            raise DigestMismatch(f"{ask.registry} sent a manifest that is not {digest}")
        if expected is None and not is_manifest(bytes(body)):
            raise UpstreamError(f"{ask.registry} sent something else than a manifest")
        held = Held(digest, media_type, bytes(body))
        await self._keep(ask, held)
        return held

    async def _keep(self, ask: Ask, held: Held) -> None:
        assert ask.repository is not None
        # Not what the manifest names: anybody can push one that names what is not theirs.
        await self._facts.add_members(ask.registry, ask.repository, (held.digest,))
        try:
            await self._held.put(held)
        except StorageError as error:
            ask.trace.error = str(error)  # served all the same, only not kept

    # Answers.

    def _deliver(self, ask: Ask, held: Held) -> Response:
        self._delivered(ask, held)
        return self._reply(ask, self._binding_to(held), held, CacheStatus.MISS)

    def _binding_to(self, held: Held) -> Binding:
        return Binding(held.digest, held.media_type, len(held.body), self._clock.now())

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
        body = PassedBody(response, lambda size: self._fetched(ask.site.entry, size))
        headers |= mark(ask.trace, CacheStatus.BYPASS)
        return Response(response.status, headers, body, length_of(response.headers), ask.trace)


def _accept(ask: Ask) -> dict[str, str]:
    return {"Accept": ask.accept} if ask.accept else {}


def _claimed(response: UpstreamResponse) -> Digest | None:
    try:
        return Digest.parse(response.headers.get("Docker-Content-Digest", ""))
    except InvalidReference:
        return None
