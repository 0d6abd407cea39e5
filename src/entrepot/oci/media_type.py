"""Media types of manifests, and what an `Accept` header lets a registry choose from."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
# Signed in place: its digest is of what the signatures leave out, and cannot be checked here.
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCTET_STREAM = "application/octet-stream"


def essence(value: str) -> str:
    """The type without its parameters: `a/b; charset=utf-8` is `a/b`."""
    return value.partition(";")[0].strip().lower()


def accepts(accept: str, media_type: str) -> bool:
    """Whether an `Accept` header lets a registry answer with this type; none lets it with any."""
    named = {essence(part) for part in accept.split(",")} - {""}
    return not named or bool(named & {media_type, "*/*", "application/*"})


def accept_key(accept: str) -> str:
    """One text for all `Accept` headers that let the registry choose from the same types.

    Order and weights are left out: registries return the stored type if it is accepted at all.
    """
    return ",".join(sorted({essence(part) for part in accept.split(",")} - {""}))
