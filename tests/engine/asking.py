"""Asks for the parts of the engine that take them, and facts as they are kept."""

import asyncio
from dataclasses import dataclass

from entrepot.config.kinds import Seconds
from entrepot.config.model import Auth
from entrepot.engine.access import Access
from entrepot.engine.ask import Ask, Origin
from entrepot.engine.facts import Facts
from entrepot.engine.held import HeldManifests
from entrepot.engine.identity import PROXY, Identity
from entrepot.engine.message import Headers, Request, Trace
from entrepot.engine.single_flight import SingleFlight
from entrepot.oci.reference import Repository
from entrepot.oci.route import parse_route
from tests.support.clock import ManualClock
from tests.support.engine import NAME, Rig

APP = Repository("app")
VERDICT_TTL_S, OFFLINE_GRACE_S = 300, 1000


@dataclass(frozen=True, slots=True)
class Asking:
    """`Access` and `Origin` over the ledger of a rig."""

    rig: Rig
    facts: Facts
    origin: Origin
    access: Access

    def about(
        self, path: str, *, method: str = "GET", identity: Identity = PROXY, accept: str = ""
    ) -> Ask:
        site = self.rig.engine.sites.by_authority(NAME)
        assert site is not None
        headers = Headers([("accept", accept)] if accept else [])
        request = Request(method=method, path=path, host=NAME, headers=headers)
        route = parse_route(path)
        return Ask(request, site, route, getattr(route, "repository", None), identity, Trace())


def asking(rig: Rig, clock: ManualClock, tasks: asyncio.TaskGroup) -> Asking:
    facts = Facts(rig.ledger, clock, keep_s=10_000)
    settings = Auth(verdict_ttl=Seconds(VERDICT_TTL_S), offline_grace=Seconds(OFFLINE_GRACE_S))
    held = HeldManifests(rig.store, clock, limit=1 << 20)
    origin = Origin(facts, held, settings, clock=clock, revalidate_timeout_s=1)
    access = Access(facts, origin, SingleFlight(tasks), settings, clock=clock, negative_ttl_s=10)
    return Asking(rig, facts, origin, access)
