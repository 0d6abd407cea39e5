"""Which registry, repository, tag or digest is meant by what people write."""

from collections.abc import Iterable
from dataclasses import dataclass

from entrepot.config.model import Config
from entrepot.errors import ConfigError, InvalidReference
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag, parse_repository, parse_tag


@dataclass(frozen=True, slots=True)
class Name:
    repository: Repository
    tag: Tag | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


class Names:
    """Names with or without the host of a local registry in front. ConfigError where it is not
    clear which registry is meant.
    """

    def __init__(self, config: Config, chosen: str | None) -> None:
        self._hosts = {
            host.lower(): name
            for name, local in config.local_registries.items()
            for host in (name, *local.hosts)
        }
        if not self._hosts:
            raise ConfigError(
                "there are no local_registries in the settings: is their file named by --config?"
            )
        if chosen is not None and chosen.lower() not in self._hosts:
            raise ConfigError(f"{chosen} is none of the local registries: {self._all()}")
        self._chosen = self._hosts[chosen.lower()] if chosen else None

    def registry(self, texts: Iterable[str] = ()) -> str:
        """The one that is meant: it is named, or all names begin with its host, or it is the only
        one.
        """
        meant = {self._hosts[host] for text in texts if (host := self._split(text)[0])}
        if self._chosen is not None:
            meant.add(self._chosen)
        if not meant and len(set(self._hosts.values())) == 1:
            meant = set(self._hosts.values())
        if len(meant) != 1:
            raise ConfigError(f"name one of the registries by --registry: {self._all()}")
        return meant.pop()

    def path(self, text: str) -> str:
        """Without the host in front."""
        return self._split(text)[1]

    def parse(self, text: str) -> Name:
        """`repository`, `repository:tag`, `repository@digest` or `repository:tag@digest`."""
        path, at, digest = self.path(text).partition("@")
        repository, colon, tag = path.partition(":")
        if colon and "/" in tag:
            raise InvalidReference(f"{text}: {path.partition('/')[0]} is none of: {self._all()}")
        return Name(
            parse_repository(repository),
            parse_tag(tag) if colon else None,
            Digest.parse(digest) if at else None,
        )

    def _split(self, text: str) -> tuple[str, str]:
        host, slash, path = text.partition("/")
        return (host.lower(), path) if slash and host.lower() in self._hosts else ("", text)

    def _all(self) -> str:
        return ", ".join(sorted(set(self._hosts.values())))
