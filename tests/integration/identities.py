"""Users of the scripted registry, and all that the proxy ever says to a client."""

import base64
import ssl
from collections.abc import Mapping

from tests.integration.conftest import Setting
from tests.support.client import Answer, ProxyClient
from tests.support.registry import ScriptedRegistry

USERS = {"operator": "operator-password", "alice": "alice-password", "bob": "bob-password"}


def basic(user: str, password: str | None = None) -> str:
    pair = f"{user}:{USERS[user] if password is None else password}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


class Recorder(ProxyClient):
    """Keeps what it is told, headers and bodies."""

    def __init__(self, setting: Setting) -> None:
        trust = ssl.create_default_context(cadata=setting.proxy.ca_pem())
        super().__init__(setting.proxy.address, trust)
        self.heard: list[str] = []

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        answer = await super().request(method, url, headers, body)
        self.heard.append(f"{answer.headers} {answer.body!r}")
        return answer


def issued_tokens(registry: ScriptedRegistry) -> tuple[str, ...]:
    """By the registry's own token service, to whomever."""
    return tuple(registry.tokens._tokens)


async def token_past_the_proxy(direct: ProxyClient, registry: ScriptedRegistry, user: str) -> str:
    """As the buildx command line gets it: for any repository, it says which."""
    answer = await direct.request("GET", f"{registry.url}/v2/{REPOSITORY}/tags/list")
    return f"Bearer {await direct.token(answer.challenge, basic(user))}"


REPOSITORY = "secret/app"
