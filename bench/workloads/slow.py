"""W8: a thousand readers that take 64 KB/s each, and one that is fast."""

import time
from functools import partial

from bench.clients.curl import download
from bench.clients.drains import crowd
from bench.machine import anonymous_mb, measured
from bench.results import CORES, MEMORY, OURS, RATE, Sheet
from bench.stage import Stage
from bench.targets import ALONE, CROWD, NGINX
from bench.workloads.workload import Workload

_RATE = 64e3


def slow_readers(stage: Stage, sheet: Sheet) -> None:
    size, client = stage.scale.mib(512, 256), stage.cores.on_client()
    count = stage.scale.choose(1_000, 200)
    settle = partial(time.sleep, stage.scale.choose(8, 3))
    path, _ = stage.new_blob(size)
    for names in [[OURS], [NGINX]] * stage.scale.fewer_rounds():
        # Started anew: memory that was taken once is seldom given back.
        with stage.servers(names) as (server,):
            download(server, path, size, client)
            sheet.add(ALONE, server.name, MEMORY, anonymous_mb(server.pid))
            for _ in range(stage.scale.rounds):
                alone = download(server, path, size, client)
                sheet.add(ALONE, server.name, RATE, alone.mb_s)
            with crowd(server, path, count, client, rate=_RATE):
                _, use = measured(server.pid, settle)
                sheet.add(CROWD, server.name, MEMORY, anonymous_mb(server.pid))
                sheet.add(CROWD, server.name, CORES, use.cores)
                for _ in range(stage.scale.rounds):
                    beside = download(server, path, size, client)
                    sheet.add(CROWD, server.name, RATE, beside.mb_s)


SLOW = (Workload("W8", "a thousand slow readers", ("curl", "nginx"), slow_readers),)
