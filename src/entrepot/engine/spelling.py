r"""What a path may be to an upstream that reads it otherwise than we do.

Servers undo escapes once, twice or not at all, cut parameters off segments (`;x`), and disagree
on what `//`, `\` and dots mean. Whatever one of them may take for a path of the registry API is
treated as one.
"""

import re
from posixpath import normpath
from urllib.parse import unquote

from entrepot.oci.route import Route, UploadRoute

_UNESCAPED_MOST = 5
_PARAMETERS = re.compile(r";[^/]*")
# In the part of an upload's path that is the registry's own, left over after escapes are undone
# once: what another server may undo or cut off, to be led elsewhere.
_ODD = re.compile(r"[%;]")


def is_of_registry(path: str) -> bool:
    """Whether an upstream may take it for one below `/v2/`, be that below a prefix."""
    plain = path
    for _ in range(_UNESCAPED_MOST):
        plain = unquote(plain)
    plain = _PARAMETERS.sub("", plain.replace("\\", "/"))
    return "v2" in normpath("/" + plain.lstrip("/")).lower().split("/")


def hides_something(path: str, route: Route) -> bool:
    """Whether this is not surely the route that we think it is. All other routes have a grammar
    that leaves no room for it.
    """
    return isinstance(route, UploadRoute) and _ODD.search(unquote(path)) is not None
