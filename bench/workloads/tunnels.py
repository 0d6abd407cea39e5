"""A tunnel to a host that is no registry, beside relays of TCP written in C."""

from contextlib import ExitStack
from functools import partial

from bench.clients.drains import drain
from bench.content import GIB
from bench.machine import measured
from bench.peers.entrepot import entrepot
from bench.peers.relays import ADDRESS, haproxy, network, socat
from bench.results import CPU, OURS, RATE, Sheet
from bench.stage import Stage
from bench.targets import STREAM
from bench.upstream import Upstream
from bench.workloads.workload import Workload, rounds
from tests.support import netns
from tests.support.processes import Seat


def tunnel(stage: Stage, sheet: Sheet) -> None:
    if reason := netns.why_impossible():
        sheet.leave_out(reason)
        return
    size = stage.scale.mib(1024, 256)
    with ExitStack() as stack:
        namespace = stack.enter_context(network(stage.new_directory("network")))
        server_side = namespace.command(*stage.cores.on_server())
        client_side = namespace.command(*stage.cores.on_client())
        upstream = stack.enter_context(Upstream(stage.authority, client_side, ADDRESS))
        path = upstream.stock(stage.mint.blob(size))
        proxy = entrepot(
            stage.new_directory(OURS),
            upstream,
            stage.authority,
            seat=Seat(prefix=server_side, entered=namespace.entered),
            name=OURS,
            ca=stage.directory / "ca",
            settings={"tunnel": {"ports": [upstream.port]}},
        )
        through = stack.enter_context(proxy)
        ours = through.to(upstream.authority, stage.authority.ca_file)
        relays = [
            stack.enter_context(
                relay(stage.new_directory("relay"), upstream, stage.authority, server_side)
            )
            for relay in (socat, haproxy)
        ]
        for server in rounds(stage.scale.rounds, [ours, *relays]):
            done, use = measured(server.pid, partial(drain, server, path, size, 1, client_side))
            sheet.add(STREAM, server.name, RATE, done.mb_s)
            sheet.add(STREAM, server.name, CPU, use.cpu_s / (size / GIB))


TUNNELS = (Workload("tunnel", "a tunnel to what is no registry", ("socat", "haproxy"), tunnel),)
