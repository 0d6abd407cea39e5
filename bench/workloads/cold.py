"""W4 and W5: what nobody has asked for before, by one client and by a herd."""

import os
from functools import partial

from bench.clients.curl import download
from bench.clients.drains import drain
from bench.content import GIB
from bench.machine import measured
from bench.results import CPU, FIRST_BYTE, OURS, SECONDS, UPSTREAM, Sheet
from bench.stage import Stage
from bench.targets import DIRECT, EACH, GIGABIT, HERD, NGINX, UNLIMITED
from bench.upstream import Rate
from bench.workloads.workload import Workload, rounds

_HERD = 50
_SLOW = Rate(total=10e6)


def one_cold(stage: Stage, sheet: Sheet) -> None:
    cases = {
        GIGABIT: (Rate(total=125e6), stage.scale.mib(1024, 128)),
        UNLIMITED: (Rate(), stage.scale.mib(1024, 256)),
        EACH: (Rate(total=125e6, each=25e6), stage.scale.mib(256, 64)),
    }
    client = stage.cores.on_client()
    with stage.servers([OURS, DIRECT, NGINX]) as servers:
        for server in servers:  # connections, tokens and certificates are there
            path, blob = stage.new_blob(1 << 20)
            download(server, path, blob.size, client)
        for case, (rate, size) in cases.items():
            for server in rounds(stage.scale.rounds, servers):
                path, _ = stage.new_blob(size)
                os.sync()  # what the one before wrote is not this one's to wait for
                stage.upstream.limit(rate)
                done, use = measured(server.pid, partial(download, server, path, size, client))
                sheet.add(case, server.name, SECONDS, done.seconds)
                sheet.add(case, server.name, FIRST_BYTE, done.first_byte_s * 1000)
                if server.name != DIRECT:
                    sheet.add(case, server.name, CPU, use.cpu_s / (size / GIB))
    stage.upstream.limit(Rate())


def herd(stage: Stage, sheet: Sheet) -> None:
    """For direct: one client alone."""
    size, client = stage.scale.mib(256, 32), stage.cores.on_client()
    with stage.servers([OURS, DIRECT, NGINX]) as servers:
        stage.upstream.limit(_SLOW)
        for server in rounds(stage.scale.fewer_rounds(), servers):
            path, _ = stage.new_blob(size)
            stage.upstream.forget()
            done = drain(server, path, size, 1 if server.name == DIRECT else _HERD, client)
            sheet.add(HERD, server.name, SECONDS, done.last_s)
            sheet.add(HERD, server.name, UPSTREAM, stage.upstream.body_bytes() / size)
    stage.upstream.limit(Rate())


COLD = (
    Workload("W4", "a blob that is not cached, one client", ("curl", "nginx"), one_cold),
    Workload("W5", "a blob that is not cached, a herd", ("nginx",), herd),
)
