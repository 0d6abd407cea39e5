"""W6: a whole image, cold and warm, by the clients that people use."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.clients.containers import ImageClient, Skopeo, docker
from bench.image import stock_image
from bench.peers.server import Server
from bench.results import OURS, SECONDS, Sheet
from bench.stage import Stage
from bench.targets import DIRECT, NGINX
from bench.tools import missing
from bench.upstream import REPOSITORY, Rate
from bench.workloads.workload import Workload, rounds
from tests.support.ports import ReservedPort
from tests.support.processes import Seat

_LAYERS = 6
_TAG = "1.0"
_GIGABIT = Rate(total=125e6)


def images(stage: Stage, sheet: Sheet) -> None:
    stock_image(stage, _TAG, _LAYERS, stage.scale.mib(96, 20))
    reserved = ReservedPort("127.0.0.1")  # which dockerd is told once
    prefix = stage.cores.on_client()
    with ExitStack() as stack:
        with _server(stage, OURS, reserved) as server:
            trust = stage.directory / "both.pem"
            trust.write_text(server.trust.read_text())
        clients: list[ImageClient] = [Skopeo(stage.directory, prefix)]
        if os.geteuid() == 0 and not missing(["dockerd", "docker"]):
            place, proxy = stage.new_directory("docker"), f"127.0.0.1:{reserved.number}"
            clients.append(stack.enter_context(docker(place, prefix, trust, proxy)))
        else:
            sheet.leave_out("dockerd needs root and docker.io")
        stage.upstream.limit(_GIGABIT)
        for client in clients:
            for name in rounds(stage.scale.rounds, [OURS, DIRECT, NGINX]):
                _round(stage, sheet, client, name, reserved)
    stage.upstream.limit(Rate())


def _round(
    stage: Stage, sheet: Sheet, client: ImageClient, name: str, reserved: ReservedPort
) -> None:
    """Caches are cold because they are new."""
    image = f"{REPOSITORY}:{_TAG}"
    with _server(stage, name, reserved) as server:
        os.sync()
        sheet.add(f"{client.name}, cold", name, SECONDS, client.pull(server, image))
        if name != DIRECT:
            sheet.add(f"{client.name}, warm", name, SECONDS, client.pull(server, image))


@contextmanager
def _server(stage: Stage, name: str, reserved: ReservedPort) -> Iterator[Server]:
    if name == OURS:
        seat = Seat(port=reserved.number, prefix=stage.cores.on_server())
        with stage.entrepot(stage.new_directory(name), name, seat) as server:
            yield server
    else:
        with stage.servers([name]) as (server,):
            yield server


IMAGES = (Workload("W6", "a whole image by skopeo and dockerd", ("skopeo", "nginx"), images),)
