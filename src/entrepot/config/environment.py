"""Variables laid over the tree: names that others gave, ENTREPOT_<PATH>, the usual proxy ones."""

import difflib
import re
from collections.abc import Mapping as MappingOf

from entrepot.config import private_registry, rpardini
from entrepot.config.build import leaves
from entrepot.config.overlay import lay
from entrepot.config.tree import KeyPath, Mapping, Origin, Report, Scalar, get, put
from entrepot.config.variables import Variables

PREFIX = "ENTREPOT_"
REGISTRY_LISTEN = "REGISTRY_LISTEN"
# Read by the command line itself: where the file is.
CONFIG_VARIABLE = "ENTREPOT_CONFIG"
# curl reads the lower-case names first, and so do we. https:// comes first because registries
# speak it.
_PROXY = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
_NO_PROXY = ("no_proxy", "NO_PROXY")
PROXY_VARIABLES = frozenset({*_PROXY, *_NO_PROXY})

# Kubernetes describes each service of a namespace in the environment of its pods: one called
# `entrepot` makes ENTREPOT_PORT=tcp://10.0.0.1:3128 and the like.
_KUBERNETES = re.compile(
    r"[A-Z0-9_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)\Z"
)
_KUBERNETES_PORT = re.compile(r"(?:tcp|udp|sctp)://")


def apply(tree: Mapping, environ: MappingOf[str, str], report: Report) -> Mapping:
    variables = Variables(environ, report)
    tree = rpardini.apply(tree, variables, report)
    if listen := variables.text(REGISTRY_LISTEN):
        tree = put(tree, ("registry_listen",), listen)
    tree = _own(tree, variables, report)
    # Last: it is named by `hostname`.
    tree = private_registry.apply(tree, variables, report)
    for path, names in ((("upstream", "proxy"), _PROXY), (("upstream", "no_proxy"), _NO_PROXY)):
        value = variables.first(*names)
        # Set for a whole machine, these know less than what was written for this program.
        if value and get(tree, path) is None:
            tree = put(tree, path, value)
    return tree


def variable_names() -> dict[str, KeyPath]:
    """ENTREPOT_TAGS__TTL → (tags, ttl), for every setting that one text can express."""
    return {PREFIX + "__".join(path).upper(): path for path, _ in leaves()}


def _own(tree: Mapping, variables: Variables, report: Report) -> Mapping:
    known = variable_names()
    for name in variables.names():
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper == CONFIG_VARIABLE:
            continue
        value = variables.text(name)
        if upper in known:
            tree = lay(tree, known[upper], value) if value else tree
        elif not _is_kubernetes(upper, value):
            report.problem(Origin(name), (), _unknown(upper, known))
    return tree


def _is_kubernetes(name: str, value: Scalar | None) -> bool:
    text = value.text if value else ""
    return bool(
        _KUBERNETES.match(name) or (name.endswith("_PORT") and _KUBERNETES_PORT.match(text))
    )


def _unknown(name: str, known: dict[str, KeyPath]) -> str:
    if name.startswith(f"{PREFIX}REGISTRIES"):
        return "names no setting; registries are set by REGISTRIES, AUTH_REGISTRIES or the file"
    if name.startswith(f"{PREFIX}LOCAL_REGISTRIES"):
        return "names no setting; local registries are set by PRIVATE_REGISTRY or the file"
    if name.startswith(f"{PREFIX}TAGS__RULES"):
        return "names no setting; rules are set in the file"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"names no setting (two underscores between levels, as in ENTREPOT_TAGS__TTL){hint}"
