"""A registry that asks for tokens, and the service that gives them."""

import base64
import json

from aiohttp import web

from tests.upstream.bench import SECRET, USER

GOOD_BASIC = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()


class TokenRealm:
    """Gives what is asked for, to who brings nobody's credentials or the right ones."""

    def __init__(self) -> None:
        self.valid: dict[str, str] = {}  # token: its scopes
        self.expires_in = 300
        self.status = 200
        self.private = ""  # a repository that only who has credentials gets

    async def __call__(self, request: web.Request) -> web.Response:
        authorization = request.headers.get("Authorization")
        if self.status != web.HTTPOk.status_code:
            return web.Response(status=self.status)
        if authorization not in {None, GOOD_BASIC}:
            return web.Response(status=401)
        scope = " ".join(request.query.getall("scope", []))
        if self.private and self.private in scope and authorization is None:
            return web.Response(status=403)
        token = f"{SECRET}-token-{len(self.valid)}"
        self.valid[token] = scope
        body = {"token": token, "expires_in": self.expires_in}
        return web.Response(text=json.dumps(body), content_type="application/json")


class TokenRegistry:
    def __init__(self, realm: TokenRealm, realm_url: str, service: str = "registry.test") -> None:
        self.realm = realm
        self.realm_url = realm_url
        self.service = service
        self.scope_of_all = ""  # whatever is asked for

    async def __call__(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        needed = self.scope_of_all or _scope(request)
        scopes = self.realm.valid.get(token) if scheme == "Bearer" else None
        if scopes is not None and (not needed or needed in scopes.split()):
            return web.Response(text="content")
        scope = f',scope="{needed}"' if needed else ""
        challenge = f'Bearer realm="{self.realm_url}",service="{self.service}"{scope}'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})


def _scope(request: web.Request) -> str:
    name = request.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
    if not name:
        return ""
    actions = "pull" if request.method in {"GET", "HEAD"} else "pull,push"
    return f"repository:{name}:{actions}"
