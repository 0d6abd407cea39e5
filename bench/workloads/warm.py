"""W1 and W2: a blob that is cached, for one client and for many."""

import threading
import time
from functools import partial

from bench.clients.curl import download, download_part
from bench.clients.drains import drain
from bench.content import GIB, write
from bench.machine import anonymous_mb, measured
from bench.peers.server import Server
from bench.results import CORES, CPU, MEMORY, OURS, RATE, Sheet
from bench.stage import Stage
from bench.targets import (
    DISTRIBUTION,
    FEW_CLIENTS,
    FILES,
    FILL,
    MANY_CLIENTS,
    NGINX,
    SQUID,
    STREAM,
    UNPINNED,
)
from bench.upstream import Rate
from bench.workloads.workload import Workload, rounds

_POLL_S = 0.02
_TRICKLE = Rate(total=200e3)


def one_stream(stage: Stage, sheet: Sheet) -> None:
    size, client = stage.scale.mib(1024, 256), stage.cores.on_client()
    path, blob = stage.new_blob(size)
    root = stage.new_directory("root")
    write(blob, root / path.removeprefix("/"))
    with stage.servers([OURS, NGINX, FILES, DISTRIBUTION, SQUID], root=root) as servers:
        for server in servers:
            download(server, path, size, client)  # fills its cache
        for server in rounds(stage.scale.rounds, servers):
            done, use = measured(server.pid, partial(download, server, path, size, client))
            sheet.add(STREAM, server.name, RATE, done.mb_s)
            sheet.add(STREAM, server.name, CPU, use.cpu_s / (size / GIB))
        for server in servers:
            sheet.add(STREAM, server.name, MEMORY, anonymous_mb(server.pid))
        for _ in range(stage.scale.fewer_rounds()):
            _running_fill(stage, sheet, servers[0], size)


def _running_fill(stage: Stage, sheet: Sheet, server: Server, size: int) -> None:
    """Three quarters are here and the rest trickles in, while another client reads what is here."""
    path, _ = stage.new_blob(size)
    client, here = stage.cores.on_client(), size * 3 // 4
    stage.upstream.forget()
    # What is limited at its beginning can be limited further while it runs.
    stage.upstream.limit(Rate(total=400e6))
    first = threading.Thread(target=partial(download, server, path, size, client))
    first.start()
    try:
        while stage.upstream.body_bytes() < here + (32 << 20):
            time.sleep(_POLL_S)
        stage.upstream.limit(_TRICKLE)
        done, use = measured(server.pid, partial(download_part, server, path, here, client))
        sheet.add(FILL, server.name, RATE, done.mb_s)
        sheet.add(FILL, server.name, CPU, use.cpu_s / (here / GIB))
    finally:
        stage.upstream.limit(Rate())
        first.join()


def many_streams(stage: Stage, sheet: Sheet) -> None:
    cases = {
        FEW_CLIENTS: (8, stage.scale.mib(256, 64)),
        MANY_CLIENTS: (64, stage.scale.mib(48, 12)),
    }
    client = stage.cores.on_client()
    with stage.servers([OURS, UNPINNED, NGINX, DISTRIBUTION]) as servers:
        for case, (count, size) in cases.items():
            path, _ = stage.new_blob(size)
            for server in servers:
                drain(server, path, size, 1, client)
            for server in rounds(stage.scale.rounds, servers):
                work = partial(drain, server, path, size, count, client)
                done, use = measured(server.pid, work)
                sheet.add(case, server.name, RATE, done.mb_s)
                sheet.add(case, server.name, CPU, use.cpu_s / (size * count / GIB))
                sheet.add(case, server.name, CORES, use.cpu_s / done.last_s)
        for server in servers:
            sheet.add(MANY_CLIENTS, server.name, MEMORY, anonymous_mb(server.pid))


WARM = (
    Workload(
        "W1",
        "a cached blob, one stream",
        ("curl", "nginx", "squid", "docker-registry"),
        one_stream,
    ),
    Workload("W2", "a cached blob, 8 and 64 streams", ("nginx", "docker-registry"), many_streams),
)
