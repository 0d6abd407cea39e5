"""What is heard and said where tokens are given, whoever judges (distribution's "token.md" and
"oauth.md").
"""

import json
import time

from entrepot.clock import Clock
from entrepot.engine.message import Request, Response, Trace
from entrepot.engine.problem import problem
from entrepot.engine.sealing import Passport, Sealer
from entrepot.oci.challenge import Challenge
from entrepot.oci.error_body import ErrorCode

# What clients are told, who ask for another one then. It is sealed for longer, see assembly.
EXPIRES_IN_S = 300
_BODY_LIMIT = 64 << 10


class Issuer:
    def __init__(self, sealer: Sealer, clock: Clock) -> None:
        self._sealer = sealer
        self._clock = clock

    def issue(
        self, passport: Passport, registry: str, trace: Trace, *, refresh_token: str = ""
    ) -> Response:
        """Where both names of it are known, as one is GET's and the other OAuth2's."""
        trace.cache = "hit"
        # Of who is known by keys alone, nothing can be asked upstream: that is not to outlast the
        # outage by long.
        most_s = EXPIRES_IN_S if passport.keys else float("inf")
        token = self._sealer.seal(passport, registry, most_s)
        issued_at = time.gmtime(self._clock.now())
        body = {
            "token": token,
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": EXPIRES_IN_S,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", issued_at),
        }
        if refresh_token:
            body["refresh_token"] = refresh_token
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Response(200, headers, json.dumps(body).encode(), trace=trace)


def wrong_credentials(service: str, trace: Trace, message: str = "") -> Response:
    """The same for whatever is wrong about them."""
    message = message or "wrong user name or password"
    response = problem(401, ErrorCode.UNAUTHORIZED, message, trace)
    response.headers["WWW-Authenticate"] = str(Challenge("basic", {"realm": service}))
    return response


async def read_form(request: Request) -> bytes | None:
    """None where it is larger than any that a client would send."""
    form = bytearray()
    if request.body is not None:
        async for part in request.body:
            form += part
            if len(form) > _BODY_LIMIT:
                return None
    return bytes(form)


def too_large(trace: Trace) -> Response:
    return problem(413, ErrorCode.UNSUPPORTED, "token request is too large", trace)
