"""What each registry asks for: remembered, so that a restart with the upstream down still knows."""

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass

from entrepot.config.model import DOCKER_HUB
from entrepot.engine.single_flight import SingleFlight
from entrepot.engine.sites import Site
from entrepot.errors import StorageError, UpstreamError
from entrepot.storage.base import Ledger

_KEEP_S = 365 * 86400
# Hosts of a pattern are the clients' choice; what is forgotten is in the ledger.
_IN_MEMORY_MAX = 2000


@dataclass(frozen=True, slots=True)
class Realm:
    scheme: str  # bearer, basic or none
    url: str = ""
    service: str = ""


# Asked for by every client on first contact, also when that is offline.
_WELL_KNOWN = {DOCKER_HUB: Realm("bearer", "https://auth.docker.io/token", "registry.docker.io")}


class Realms:
    def __init__(self, ledger: Ledger, flights: SingleFlight[str, Realm | None]) -> None:
        self._ledger = ledger
        self._flights = flights
        self._known: OrderedDict[str, Realm | None] = OrderedDict()

    async def known(self, site: Site) -> Realm | None:
        """What is known without asking anybody."""
        if site.name not in self._known:
            self._remember(site, await self._kept(site))
        return self._known[site.name]

    async def of(self, site: Site) -> Realm | None:
        """What is known, made fresh behind the client's back; None: nothing, and nobody answers."""
        known = await self.known(site)
        if known is None:
            return await self._flights.run(site.name, lambda: self._ask(site))
        if not site.upstream.is_resting():
            self._flights.start(site.name, lambda: self._ask(site))
        return known

    async def _ask(self, site: Site) -> Realm | None:
        try:
            challenge = await site.upstream.challenge()
        except UpstreamError:
            return await self.known(site)
        if challenge is None:
            realm = Realm("none")
        elif challenge.scheme == "bearer":
            realm = Realm("bearer", challenge.realm, challenge.service)
        else:
            realm = Realm("basic")
        if await self.known(site) != realm:
            self._remember(site, realm)
            await self._keep(site, realm)
        return realm

    def _remember(self, site: Site, realm: Realm | None) -> None:
        self._known[site.name] = realm
        self._known.move_to_end(site.name)
        if len(self._known) > _IN_MEMORY_MAX:
            self._known.popitem(last=False)

    async def _kept(self, site: Site) -> Realm | None:
        try:
            data = await self._ledger.get(f"realm/{site.name}")
            return Realm(**json.loads(data)) if data else _WELL_KNOWN.get(site.name)
        except (StorageError, ValueError, TypeError):
            return _WELL_KNOWN.get(site.name)

    async def _keep(self, site: Site, realm: Realm) -> None:
        try:
            value = json.dumps(asdict(realm)).encode()
            await self._ledger.put(f"realm/{site.name}", value, _KEEP_S)
        except StorageError:
            return  # asked again after a restart
