"""A login asked about in words of our own.

What a client asks a token service is the client's choice, and some choices make one fail, which
then looks like an outage to be bridged: for who lost their rights, a way to keep them. So an outage
is believed where the same credentials fare no better without anything that was made up.
"""

import re
from urllib.parse import parse_qs, urlencode

from yarl import URL

from entrepot.engine.realms import Realm
from entrepot.errors import InvalidReference
from entrepot.oci.reference import parse_repository
from entrepot.upstream.token import CLIENT_ID, TokenRequest

_SCOPE = re.compile(
    r"repository(?:\([a-z]+\))?:(?P<name>[^:]+):(?:pull|push|delete|\*)(?:,(?:pull|push|delete|\*))*"
)
_SHOWN = ("username", "password", "refresh_token")


def plain_question(realm: Realm, method: str, query: str, form: bytes) -> tuple[str, str, bytes]:
    """Method, URL and form. To be sent with the Authorization that came with the request."""
    # Byte by byte: what is no UTF-8 may be somebody's password.
    fields = parse_qs(form.decode("latin-1"), encoding="latin-1")
    asked = parse_qs(query).get("scope", []) + fields.get("scope", [])
    scope = " ".join(dict.fromkeys(filter(_is_plain, " ".join(asked).split())))
    if method != "POST":
        return "GET", str(TokenRequest(URL(realm.url), realm.service, scope).url), b""
    shown = {name: fields[name][0] for name in _SHOWN if name in fields}
    known = {
        "grant_type": "refresh_token" if "refresh_token" in shown else "password",
        "service": realm.service,
        "client_id": CLIENT_ID,
        "scope": scope,
    }
    return "POST", realm.url, urlencode(known | shown, encoding="latin-1").encode()


def _is_plain(scope: str) -> bool:
    match = _SCOPE.fullmatch(scope)
    if match is None:
        return False
    try:
        parse_repository(match["name"])
    except InvalidReference:
        return False
    return True
