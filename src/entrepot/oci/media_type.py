"""Media types of manifests, and what an `Accept` header lets a registry choose from."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCTET_STREAM = "application/octet-stream"

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})


def essence(value: str) -> str:
    """The type without its parameters: `a/b; charset=utf-8` is `a/b`."""
    return value.partition(";")[0].strip().lower()


def accept_key(accept: str) -> str:
    """One text for all `Accept` headers that let the registry choose from the same types.

    Order and weights are left out: registries return the stored type if it is accepted at all.
    """
    return ",".join(sorted({essence(part) for part in accept.split(",")} - {""}))
