"""The variables of a private registry, under the names that its containers are given."""

from entrepot.config.convert import registry_name
from entrepot.config.kinds import Expected
from entrepot.config.model import Config
from entrepot.config.overlay import lay
from entrepot.config.tree import KeyPath, Mapping, Report, Scalar, get
from entrepot.config.variables import Variables, unquoted

_UPSTREAM = "PRIVATE_REGISTRY"
_USERNAME = "USERNAME"
_HTPASSWD = "HTPASSWD_FILE"
_ANONYMOUS = "ANONYMOUS"
_READ_ONLY = "READ_ONLY"
_SETTINGS = {
    _USERNAME: "username",
    "PASSWORD": "password",
    "PASSWORD_FILE": "password_file",
    _HTPASSWD: "htpasswd",
    _ANONYMOUS: "anonymous",
    _READ_ONLY: "read_only",
}
KNOWN = frozenset({_UPSTREAM, *_SETTINGS})
_USERS = ("username", "htpasswd", "anonymous", "access")
_PASSWORDS = ("PASSWORD", "PASSWORD_FILE")


def apply(tree: Mapping, variables: Variables, report: Report) -> Mapping:
    """Lays them over the one registry they can be meant for, or says why there is none."""
    given = {name: value for name in _SETTINGS if (value := variables.text(name))}
    upstream = variables.text(_UPSTREAM)
    path = _own_name(tree) if upstream else _only_one(tree)
    if path is None:
        if upstream is None and any(map(_is_for_us, given.values())):
            report.warn(_no_effect(tree, sorted(given)))
        return tree  # a hostname that is none is for `build` to tell
    if upstream:
        value = Scalar(upstream.origin, unquoted(upstream.text))
        tree = lay(tree, (*path, "upstream"), value)
    for name, value in given.items():
        if name != _USERNAME or _is_meant(tree, path, given):
            tree = lay(tree, (*path, _SETTINGS[name]), value)
    return tree


def _is_for_us(value: Scalar) -> bool:
    """Shells set USERNAME for purposes of their own, and compose files what is off anyway."""
    name = value.origin.label
    is_off = name == _READ_ONLY and value.text.lower() in {"false", "no", "off", "0"}
    return name != _USERNAME and not is_off


def _own_name(tree: Mapping) -> KeyPath | None:
    """Clients know it by the proxy's own name."""
    hostname = get(tree, ("hostname",))
    try:
        name = registry_name(hostname.text if isinstance(hostname, Scalar) else Config().hostname)
    except Expected:
        return None
    return ("local_registries", name)


def _only_one(tree: Mapping) -> KeyPath | None:
    names = _names(tree)
    return ("local_registries", names[0]) if len(names) == 1 else None


def _names(tree: Mapping) -> list[str]:
    written = get(tree, ("local_registries",))
    return list(written.entries) if isinstance(written, Mapping) else []


def _is_meant(tree: Mapping, path: KeyPath, given: dict[str, Scalar]) -> bool:
    """USERNAME, where a password comes with it, or nothing else says who the users are."""
    if any(name in given for name in _PASSWORDS):
        return True
    has_users = any(get(tree, (*path, key)) is not None for key in _USERS)
    return not has_users and not {_HTPASSWD, _ANONYMOUS} & given.keys()


def _no_effect(tree: Mapping, names: list[str]) -> str:
    what = f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect"
    if _names(tree):
        return f"{what}: there are several local registries; their users are said in the file"
    return (
        f"{what}: there is no private registry; {_UPSTREAM}=http://registry:5000 or"
        " local_registries in the file names one"
    )
