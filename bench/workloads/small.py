"""W3 and W7: small requests, as many as can be, and beside big downloads."""

from functools import partial

from bench.clients.curl import download
from bench.clients.drains import crowd
from bench.clients.hey import Load, Requests, requests
from bench.machine import measured
from bench.results import CPU_EACH, MEDIAN, OURS, REQUESTS, TAIL, Sheet
from bench.stage import Stage
from bench.targets import BUSY, DISTRIBUTION, IDLE, KEPT, NEW, NGINX, SQUID
from bench.workloads.workload import Workload, rounds
from tests.support.client import ACCEPT

_ACCEPT = f"Accept: {ACCEPT}"
_CLIENTS = 16
_DOWNLOADS = 8


def cached_manifests(stage: Stage, sheet: Sheet) -> None:
    path, body = stage.small_manifest()
    kept = {OURS: stage.scale.choose(32_000, 8_000), NGINX: 80_000, SQUID: 60_000}
    new = {NGINX: 4_000}
    client = stage.cores.on_client()
    with stage.servers([OURS, NGINX, DISTRIBUTION, SQUID]) as started:
        servers = [server.with_header(_ACCEPT) for server in started]
        for server in servers:
            download(server, path, len(body), client)
        for server in rounds(stage.scale.rounds, servers):
            for case, count in (
                (KEPT, kept.get(server.name, 3_200)),
                (NEW, new.get(server.name, stage.scale.choose(1_600, 800))),
            ):
                load = Load(_CLIENTS, count, keep_alive=case == KEPT)
                work = partial(requests, server, path, client, load)
                done, use = measured(server.pid, work)
                _note(sheet, case, server.name, done)
                sheet.add(case, server.name, REQUESTS, done.per_s)
                sheet.add(case, server.name, CPU_EACH, use.cpu_s * 1000 / done.count)


def beside_downloads(stage: Stage, sheet: Sheet) -> None:
    """Both servers with the same clients: what hey itself waits for its core shows in both."""
    small, body = stage.small_manifest()
    size, client = stage.scale.mib(256, 128), stage.cores.on_client()
    big, _ = stage.new_blob(size)
    load = Load(clients=4, seconds=stage.scale.choose(5, 2), each_per_s=50)
    with stage.servers([OURS, NGINX]) as started:
        servers = [server.with_header(_ACCEPT) for server in started]
        for server in servers:
            download(server, small, len(body), client)
            download(server, big, size, client)
        for server in rounds(stage.scale.rounds, servers):
            _note(sheet, IDLE, server.name, requests(server, small, client, load))
            with crowd(server, big, _DOWNLOADS, client):
                _note(sheet, BUSY, server.name, requests(server, small, client, load))


def _note(sheet: Sheet, case: str, server: str, done: Requests) -> None:
    sheet.add(case, server, MEDIAN, done.median_ms)
    sheet.add(case, server, TAIL, done.tail_ms)


SMALL = (
    Workload(
        "W3", "cached manifests", ("hey", "nginx", "squid", "docker-registry"), cached_manifests
    ),
    Workload("W7", "small requests beside 8 downloads", ("hey", "nginx"), beside_downloads),
)
