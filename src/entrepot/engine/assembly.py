"""The engine put together: once for each configuration that is in force."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from entrepot.cache.rules import TagPolicies, negative_ttl_s
from entrepot.clock import Clock
from entrepot.config.kinds import DAY
from entrepot.config.model import Config
from entrepot.engine.access import Access
from entrepot.engine.ask import Origin
from entrepot.engine.blobs import Blobs
from entrepot.engine.door import Door
from entrepot.engine.facts import Facts
from entrepot.engine.forward import Forward
from entrepot.engine.gate import Gate
from entrepot.engine.held import HeldManifests
from entrepot.engine.listings import Listings
from entrepot.engine.local_logins import LocalLogins, users_of
from entrepot.engine.logins import Logins
from entrepot.engine.manifests import Manifests
from entrepot.engine.pushes import Pushes
from entrepot.engine.read_ahead import ReadAhead
from entrepot.engine.realms import Realms
from entrepot.engine.sealing import Sealer, Secrets
from entrepot.engine.service import Service
from entrepot.engine.single_flight import SingleFlight
from entrepot.engine.sites import Sites
from entrepot.engine.token_reply import Issuer
from entrepot.engine.token_service import TokenService
from entrepot.engine.uploads import Uploads
from entrepot.local.keeper import Doorkeeper
from entrepot.local.pushed import PushTimes
from entrepot.passwords.guesses import Guesses
from entrepot.storage.base import ContentStore, Ledger
from entrepot.upstream.fleet import Upstreams

# Longer than clients are told (token_reply.EXPIRES_IN_S): some never look, and show a token until
# it is refused. A large layer that was sent with it would be lost then.
_TOKEN_LIFETIME_S = 3600
# It is kept by docker in place of the password, which has no end; it ends with that.
_REFRESH_LIFETIME_S = 3650 * DAY


@dataclass(frozen=True, slots=True)
class Ground:
    """What an engine stands on."""

    store: ContentStore
    ledger: Ledger
    clock: Clock
    secrets: Secrets
    guesses: Guesses
    keeper: Doorkeeper  # of writes to local registries
    uploads: Uploads
    tasks: asyncio.TaskGroup


class Engine:
    """What answers requests for registries. Owns its upstreams, its fills, and what is pushed."""

    def __init__(
        self,
        config: Config,
        ground: Ground,
        upstreams: Upstreams,
        fetched: Callable[[str, int], None],
    ) -> None:
        self.upstreams = upstreams
        ground.keeper.serve(config.local_registries)
        self.sites = Sites(config.served, upstreams.get, upstreams.beside, config.local_registries)
        auth = config.auth
        facts = Facts(
            ground.ledger,
            ground.clock,
            keep_s=config.storage.inactive,
            passing_s=auth.verdict_ttl + min(auth.offline_grace, DAY),
        )
        held = HeldManifests(ground.store, ground.clock, limit=config.upstream.max_manifest)
        origin = Origin(
            facts,
            held,
            auth,
            clock=ground.clock,
            revalidate_timeout_s=config.upstream.revalidate_timeout,
        )
        access = Access(
            facts,
            origin,
            SingleFlight(ground.tasks),
            config.auth,
            clock=ground.clock,
            negative_ttl_s=negative_ttl_s(config.tags.ttl),
        )
        self.pushes = Pushes(
            ground.store,
            held,
            ground.tasks,
            limit=config.upstream.max_manifest,
            keeps=config.storage.keep_pushes,
        )
        self.blobs = Blobs(
            ground.store,
            facts,
            origin,
            access,
            starting=SingleFlight(ground.tasks),
            tasks=ground.tasks,
            retries=config.upstream.retries,
            fetched=fetched,
            wait_admitted=self.pushes.wait_admitted,
        )
        self.read_ahead = ReadAhead(
            self.blobs,
            ground.tasks,
            max_size=config.storage.max_size,
            is_on=config.upstream.read_ahead,
        )
        manifests = Manifests(
            held,
            facts,
            origin,
            access,
            policies=TagPolicies(
                config.tags,
                {name: local.tag_ttl for name, local in config.local_registries.items()},
            ),
            fetches=SingleFlight(ground.tasks),
            heads=SingleFlight(ground.tasks),
            limit=config.upstream.max_manifest,
            clock=ground.clock,
            fetched=fetched,
            delivered=self.read_ahead.begin_nowait,
        )
        listings = Listings(ground.ledger, origin, access, settings=config.tags, clock=ground.clock)
        tokens = self._tokens(config, ground, facts)
        uploads = ground.uploads
        self.service = Service(
            tokens,
            Gate(tokens.must_authenticate),
            uploads=uploads,
            door=Door(ground.keeper, PushTimes(ground.ledger, ground.clock)),
            manifests=manifests,
            blobs=self.blobs,
            listings=listings,
            forward=Forward(facts, SingleFlight(ground.tasks), uploads, self.pushes),
        )

    def _tokens(self, config: Config, ground: Ground, facts: Facts) -> TokenService:
        secrets, clock = ground.secrets, ground.clock
        sealer = Sealer(
            secrets,
            clock,
            lifetime_s=_TOKEN_LIFETIME_S,
            refresh_lifetime_s=_REFRESH_LIFETIME_S,
        )
        issuer = Issuer(sealer, clock)
        return TokenService(
            self.sites,
            Realms(ground.ledger, SingleFlight(ground.tasks)),
            sealer,
            issuer,
            logins=Logins(facts, config.auth, clock, secrets.keys("identities")),
            local=LocalLogins(
                users_of(config.local_registries),
                ground.guesses,
                sealer,
                issuer,
                mark_keys=secrets.keys("marks of passwords"),
            ),
        )

    async def aclose(self) -> None:
        await self.read_ahead.aclose()
        await self.blobs.aclose()
        await self.pushes.aclose()
        await self.upstreams.aclose()
