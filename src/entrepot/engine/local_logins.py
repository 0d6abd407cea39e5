"""Logins at registries of our own: judged here, and asked of nobody else.

A token says which user it was given to, and by which mark the password is known that was right.
It opens as long as there is that user with that password: who is taken from the file, or has
another password there, is nobody from then on. There is no password in it.

Docker keeps a refresh token in place of the password where it is given one. What ends it is the
same; and the end of the secret that sealed it, current or former.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import parse_qs

from entrepot.config.local import LocalRegistry
from entrepot.engine.identity import PROXY, Identity
from entrepot.engine.message import Request, Response, Trace
from entrepot.engine.problem import problem
from entrepot.engine.sealing import Passport, Sealer
from entrepot.engine.sites import Site
from entrepot.engine.token_reply import Issuer, read_form, too_large, wrong_credentials
from entrepot.oci.error_body import ErrorCode
from entrepot.passwords.basic import basic_credentials
from entrepot.passwords.guesses import Guesses
from entrepot.passwords.users import Users


def users_of(registries: Mapping[str, LocalRegistry]) -> dict[str, Users | None]:
    """None where nobody can log in. ConfigError where a file of them cannot be used."""
    return {
        name: Users.of(
            f"local_registries.{name}",
            username=settings.username,
            password=settings.password,
            password_file=settings.password_file,
            htpasswd=settings.htpasswd,
        )
        for name, settings in registries.items()
    }


class LocalLogins:
    """Of what TooManyGuesses is raised is for `Guesses` to say."""

    def __init__(
        self,
        users: Mapping[str, Users | None],
        guesses: Guesses,
        sealer: Sealer,
        issuer: Issuer,
        *,
        mark_keys: Sequence[bytes],
    ) -> None:
        """The first of the keys marks passwords; by the others they were marked before."""
        self._users = users
        self._guesses = guesses
        self._sealer = sealer
        self._issuer = issuer
        self._mark_keys = mark_keys

    def has_users(self, site: Site) -> bool:
        return self._users[site.name] is not None

    async def identify(self, request: Request, site: Site) -> Identity | None:
        """None where a token must be asked for (again)."""
        users = self._users[site.name]
        if users is None:  # open to all, and what they bring is no matter
            return PROXY
        authorization = request.headers.get("authorization", "").strip()
        if credentials := basic_credentials(authorization):
            is_right = await self._guesses.check(users, request.client, *credentials)
            return _identity(credentials[0]) if is_right else None
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        passport = self._sealer.open(value.strip(), site.name)
        if passport is not None and passport.is_anonymous:
            return PROXY
        known = self._confirmed(passport, users)
        return None if known is None else _identity(known.user)

    async def token(self, request: Request, site: Site, trace: Trace) -> Response:
        """To a GET with Basic or without, or to a form."""
        if request.method == "POST":
            return await self._exchange(request, site, trace)
        authorization = request.headers.get("authorization", "").strip()
        if not authorization:
            return self._issuer.issue(Passport(), site.name, trace)
        credentials = basic_credentials(authorization)
        if credentials is None:
            return problem(400, ErrorCode.UNSUPPORTED, "Basic credentials are expected", trace)
        is_offline = parse_qs(request.query).get("offline_token") == ["true"]
        return await self._log_in(request, site, credentials, trace, is_offline=is_offline)

    async def _exchange(self, request: Request, site: Site, trace: Trace) -> Response:
        content = await read_form(request)
        if content is None:
            return too_large(trace)
        fields = parse_qs(content.decode("latin-1"), keep_blank_values=True)
        form = {name: values[0] for name, values in fields.items()}
        match form.get("grant_type"):
            case "password":
                credentials = form.get("username", ""), form.get("password", "")
                is_offline = form.get("access_type") == "offline"
                return await self._log_in(request, site, credentials, trace, is_offline=is_offline)
            case "refresh_token":
                return self._refresh(site, form.get("refresh_token", ""), trace)
        message = "grant_type password or refresh_token is expected"
        return problem(400, ErrorCode.UNSUPPORTED, message, trace)

    async def _log_in(
        self,
        request: Request,
        site: Site,
        credentials: tuple[str, str],
        trace: Trace,
        *,
        is_offline: bool,
    ) -> Response:
        users = self._users[site.name]
        if users is None:
            return wrong_credentials(site.name, trace)
        # Before the password is looked at: should it change meanwhile, the token is of the old one.
        passport = self._passport(users, credentials[0])
        is_right = await self._guesses.check(users, request.client, *credentials)
        if not is_right or passport is None:
            return wrong_credentials(site.name, trace)
        refresh = self._sealer.seal_refresh(passport, site.name) if is_offline else ""
        return self._issuer.issue(passport, site.name, trace, refresh_token=refresh)

    def _refresh(self, site: Site, token: str, trace: Trace) -> Response:
        users = self._users[site.name]
        passport = self._sealer.open_refresh(token, site.name)
        known = self._confirmed(passport, users) if users is not None else None
        if known is None:
            return wrong_credentials(site.name, trace, "this login has ended; log in again")
        # Sealed anew, so that a client that keeps it outlives the secret of the one it came with.
        again = self._sealer.seal_refresh(known, site.name)
        return self._issuer.issue(known, site.name, trace, refresh_token=again)

    def _passport(self, users: Users, user: str) -> Passport | None:
        mark = users.mark_of(user, self._mark_keys[0])
        return None if mark is None else Passport(user=user, mark=mark)

    def _confirmed(self, passport: Passport | None, users: Users) -> Passport | None:
        """As it would be given now, if there is still that user with that password."""
        if passport is None or not passport.user:
            return None
        marks = [users.mark_of(passport.user, key) for key in self._mark_keys]
        return replace(passport, mark=marks[0]) if marks[0] and passport.mark in marks else None


def _identity(user: str) -> Identity:
    return Identity(f"user-{user}", user=user)
