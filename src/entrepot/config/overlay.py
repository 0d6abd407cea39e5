"""A variable laid over the file: what it is in place of goes, too."""

from entrepot.config.tree import KeyPath, Mapping, Node, get, put

# Settings that say the same in another way. Two of them at once, from one source, are an error;
# from two sources the later one is meant.
_IN_PLACE_OF = {
    "secret": {"secret_file"},
    "secret_file": {"secret"},
    "username": {"htpasswd"},
    "password": {"password_file", "htpasswd"},
    "password_file": {"password", "htpasswd"},
    "htpasswd": {"username", "password", "password_file"},
}


def lay(tree: Mapping, path: KeyPath, node: Node) -> Mapping:
    """The tree with `node` at `path`, and without what the file has in its place."""
    *parents, key = path
    around = get(tree, tuple(parents))
    if isinstance(around, Mapping) and key in _IN_PLACE_OF:
        entries = {
            name: inner
            for name, inner in around.entries.items()
            if name not in _IN_PLACE_OF[key] or not inner.origin.line
        }
        around = Mapping(around.origin, entries)
        tree = put(tree, tuple(parents), around) if parents else around
    return put(tree, path, node)
