"""All workloads, in the order in which they run."""

from bench.workloads.cold import COLD
from bench.workloads.images import IMAGES
from bench.workloads.pushes import PUSHES
from bench.workloads.slow import SLOW
from bench.workloads.small import SMALL
from bench.workloads.store import STORE
from bench.workloads.tunnels import TUNNELS
from bench.workloads.warm import WARM
from bench.workloads.workload import Workload

WORKLOADS: dict[str, Workload] = {
    each.name: each
    for each in sorted(
        (*WARM, *SMALL, *COLD, *IMAGES, *SLOW, *STORE, *TUNNELS, *PUSHES),
        key=lambda each: (not each.name.startswith("W"), each.name),
    )
}
