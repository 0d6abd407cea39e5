"""Whether the operator's rules let a request through, and with whose rights it goes on."""

from posixpath import normpath
from urllib.parse import unquote

from entrepot.engine.ask import Ask
from entrepot.errors import Denied


class Gate:
    """Passed by every request for a registry, whatever its route. Fails closed."""

    async def admit(self, ask: Ask) -> Ask:
        """As it goes on. Denied where rules forbid it, UpstreamError(401) where a login helps."""
        is_push = ask.request.is_write and _is_of_registry(ask.path)
        if is_push and ask.site.settings.push != "allow":
            raise Denied(
                f"pushing to {ask.registry} through this proxy is not allowed (push: deny)",
                status=405,
            )
        return ask


def _is_of_registry(path: str) -> bool:
    """Whether an upstream may take it for one below `/v2/`, however that is spelled."""
    plain = normpath("/" + unquote(path).lstrip("/"))
    return plain == "/v2" or plain.startswith("/v2/")
