"""Who is served: by address, and by password where one is asked for. Fails closed."""

from entrepot.config.model import Clients
from entrepot.engine.audience import Networks
from entrepot.errors import TooManyGuesses
from entrepot.interception.tunnel import Refused
from entrepot.passwords.basic import basic_credentials
from entrepot.passwords.guesses import Guesses
from entrepot.passwords.users import Users

_ASKING = {"Proxy-Authenticate": 'Basic realm="Entrepot"'}
NO_PASSWORD = Refused(
    407,
    "this proxy asks for a user name and password: HTTPS_PROXY=http://user:password@host:port",
    _ASKING,
)
WRONG_PASSWORD = Refused(407, "the user name or password for this proxy is wrong", _ASKING)


class ClientPolicy:
    """ConfigError where the users cannot be read."""

    def __init__(self, settings: Clients, guesses: Guesses) -> None:
        self._networks = Networks(settings.allow)
        self._guesses = guesses
        self._users = Users.of(
            "clients",
            username=settings.username,
            password=settings.password,
            password_file=settings.password_file,
            htpasswd=settings.htpasswd,
        )

    def allows(self, peer: str) -> bool:
        return self._networks.include(peer)

    def admits(self, client: str, authorization: str) -> bool:
        """At once: who need not log in, and whose credentials are known to be right."""
        if self._users is None:
            return True
        credentials = basic_credentials(authorization)
        if credentials is None:
            return False
        return self._guesses.is_known(self._users, client, *credentials)

    async def knows(self, client: str, authorization: str) -> bool:
        """As `admits`, also where it takes time. TooManyGuesses from whom it is not heard."""
        if self._users is None:
            return True
        credentials = basic_credentials(authorization)
        if credentials is None:
            return False
        return await self._guesses.check(self._users, client, *credentials)

    async def judge(self, client: str, proxy_authorization: str) -> Refused | None:
        """None for who may use the proxy."""
        try:
            is_known = await self.knows(client, proxy_authorization)
        except TooManyGuesses as error:
            return Refused(429, str(error), {"Retry-After": str(error.retry_after_s)})
        return None if is_known else WRONG_PASSWORD
