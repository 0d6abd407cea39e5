"""Private content stays private: who may have what is in the store.

Content is named by digest and stored once, so knowing a digest must not be enough. It is served
to an identity only through a repository that the upstream lets this identity read (a verdict)
and that is known to hold it (a member): by the upstream's word, for a manifest may name what its
author never had. What is not known is asked of the upstream by a HEAD with the identity's own
rights. Fails closed: no answer and no earlier word means no content.
"""

from entrepot.cache.decide import is_trouble
from entrepot.cache.entitlement import Standing, standing
from entrepot.clock import Clock
from entrepot.config.model import Auth
from entrepot.engine.ask import Ask, Origin
from entrepot.engine.facts import Facts
from entrepot.engine.identity import Identity
from entrepot.engine.single_flight import SingleFlight
from entrepot.errors import UpstreamError
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository

# Some registries know no HEAD of manifests.
NO_HEAD = frozenset({405, 501})
_TOO_MANY = 429


class Access:
    def __init__(  # noqa: PLR0913 - collaborators, put together in one place
        self,
        facts: Facts,
        origin: Origin,
        probes: SingleFlight[tuple[str, str, str], None],
        settings: Auth,
        *,
        clock: Clock,
        negative_ttl_s: float,
    ) -> None:
        self._facts = facts
        self._origin = origin
        self._probes = probes
        self._settings = settings
        self._clock = clock
        self._negative_ttl_s = negative_ttl_s

    async def standing(self, ask: Ask) -> Standing:
        known = await self._standing_of(ask, ask.repository, ask.identity)
        if known is not Standing.UNKNOWN or not ask.identity.is_own:
            return known
        # What is open to who brings nothing is so to who brings credentials; but while the
        # upstream can judge those, it is asked.
        of_nobody = await self._standing_of(ask, ask.repository, ask.nobody)
        is_open = of_nobody is not Standing.UNKNOWN
        return Standing.AGED if is_open else Standing.UNKNOWN

    async def _standing_of(
        self, ask: Ask, repository: Repository | None, identity: Identity
    ) -> Standing:
        verdict = await self._facts.verdict(ask.registry, repository, identity)
        return standing(verdict, self._settings, self._clock.now())

    async def ensure(self, ask: Ask, digest: Digest) -> None:
        """Return if `ask` may have this content through its repository; else raise."""
        assert ask.repository is not None
        known = await self.standing(ask)
        is_member = await self._facts.is_member(ask.registry, ask.repository, digest)
        if known is Standing.FRESH and is_member:
            return
        may_bridge = known is not Standing.UNKNOWN and (
            is_member or await self._may_read_elsewhere(ask, digest)
        )
        if may_bridge and self.is_out_of_reach(ask):
            return
        try:
            await self._probe(ask, digest, is_patient=not may_bridge)
        except UpstreamError as error:
            if not (may_bridge and _is_outage(ask, error.status)):
                raise

    def is_out_of_reach(self, ask: Ask) -> bool:
        """Whether the upstream need not be asked now. A quota that is used up, maybe by others,
        must not keep the rights of somebody alive who has lost them.
        """
        upstream = ask.site.upstream
        return upstream.is_unreachable() if ask.identity.is_own else upstream.is_resting()

    async def bridges(self, ask: Ask, error: UpstreamError) -> bool:
        """Whether what is kept may be served to this identity in place of this answer."""
        known = await self.standing(ask)
        if known is Standing.FRESH:
            return is_trouble(error.status)
        return known is Standing.AGED and _is_outage(ask, error.status)

    async def _may_read_elsewhere(self, ask: Ask, digest: Digest) -> bool:
        """Whether this identity may have the same content from another repository of the registry
        that cannot be asked: layers are shared, and who has one of them never asks for it in the
        next repository.
        """
        for registry, repository in await self._facts.holders(digest):
            if registry == ask.registry and ask.grant.may("pull", repository):
                known = await self._standing_of(ask, repository, ask.identity)
                if known is not Standing.UNKNOWN:
                    return True
        return False

    async def refuse_known_absence(self, ask: Ask, ttl_s: float | None = None) -> None:
        """Raise what the upstream said a moment ago, if that was a no."""
        ttl_s = self._negative_ttl_s if ttl_s is None else ttl_s
        absence = await self._facts.absence(ask.registry, ask.path, ask.identity, ask.accept)
        if absence is not None and 0 <= self._clock.now() - absence.checked_at < ttl_s:
            ask.trace.cache = "negative"
            raise UpstreamError(
                f"{ask.registry} answered {absence.status} a moment ago", status=absence.status
            )

    async def _probe(self, ask: Ask, digest: Digest, *, is_patient: bool) -> None:
        async def probe() -> None:
            headers = {"Accept": ask.accept} if ask.accept else {}
            try:
                answer = await self._origin.head(ask, headers, is_patient=is_patient)
            except UpstreamError as error:
                if error.status not in NO_HEAD:
                    raise
                answer = await self._origin.open(ask, "GET", headers, is_patient=is_patient)
                await answer.aclose()
            claimed = answer.headers.get("Docker-Content-Digest", str(digest))
            if claimed != str(digest):
                raise UpstreamError(f"{ask.registry} has {claimed} in its place", status=404)
            assert ask.repository is not None
            await self._facts.add_members(ask.registry, ask.repository, (digest,))

        await self.refuse_known_absence(ask)
        await self._probes.run((ask.registry, ask.path, ask.identity.key), probe)


def _is_outage(ask: Ask, status: int | None) -> bool:
    return is_trouble(status) and not (status == _TOO_MANY and ask.identity.is_own)
