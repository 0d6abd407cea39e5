"""Who may be sent the credentials of a registry.

A registry names its own token service ("realm"), so whoever can answer in its place could have
the credentials sent anywhere. They go to the registry's own hosts, to hosts of the same
registrable domain (registry.gitlab.com: gitlab.com), and to those the operator names.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import resources

from publicsuffix2 import PublicSuffixList
from yarl import URL

from entrepot.upstream.address import parse_literal

_DEFAULT_PORTS = {"https": 443, "http": 80}

# Domains whose hosts belong to different tenants, as the public suffix list says of others; the
# copy that publicsuffix2 brings is of 2019. A host in one of them shares its domain with nobody:
# too much here costs an operator a line under `realms`, too little would cost a password.
_SHARED = (
    "amazonaws.com", "amazonaws.com.cn", "awsapps.com", "azure.com", "azure.net", "azurecr.cn",
    "azurecr.io", "azurecr.us", "cloudflarestorage.com", "deno.dev", "digitaloceanspaces.com",
    "fly.dev", "googleapis.com", "googleusercontent.com", "jfrog.io", "netlify.app", "on.aws",
    "ondigitalocean.app", "onrender.com", "pages.dev", "pkg.dev", "r2.dev", "scw.cloud",
    "vercel.app", "windows.net", "workers.dev",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """RFC 6454: what two URLs must have in common to be of one server."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: URL) -> "Origin":
        """ValueError where there is no host, or a scheme that is not HTTP."""
        host = (url.raw_host or "").lower().rstrip(".")
        if url.scheme not in _DEFAULT_PORTS or not host:
            raise ValueError("not an HTTP URL with a host")
        return cls(url.scheme, host, url.port or _DEFAULT_PORTS[url.scheme])

    @property
    def is_plain(self) -> bool:
        return self.scheme == "http"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def is_trusted_realm(realm: Origin, own: Collection[Origin], named: Collection[str] = ()) -> bool:
    """Whether credentials of the registry whose origins are `own` may be sent to `realm`."""
    if realm.is_plain:
        # Readable on the way; only where the registry itself is, which the operator chose.
        return any(origin.is_plain and origin.host == realm.host for origin in own)
    if any(entry.lower() in {realm.host, str(realm)} for entry in named):
        return True
    return any(
        origin.host == realm.host or _share_domain(origin.host, realm.host) for origin in own
    )


def _share_domain(one: str, other: str) -> bool:
    domain = registrable_domain(one)
    return domain is not None and domain == registrable_domain(other)


def registrable_domain(host: str) -> str | None:
    """None where a host stands for itself alone: addresses, single labels, names in domains that
    tenants share, and names below no known suffix (`.lan`, `.internal`, `.cluster.local`).
    """
    if parse_literal(host) is not None or "." not in host:
        return None
    if any(host == shared or host.endswith(f".{shared}") for shared in _SHARED):
        return None
    suffix = public_suffixes().get_tld(host, strict=True)
    if suffix is None or suffix == host:
        return None
    labels = host.removesuffix(f".{suffix}").rpartition(".")[2]
    return f"{labels}.{suffix}"


@cache
def public_suffixes() -> PublicSuffixList:
    """Read once, in 40 ms; through importlib because the package's own way is deprecated."""
    text = resources.files("publicsuffix2").joinpath("public_suffix_list.dat")
    return PublicSuffixList(text.read_text("utf-8").splitlines())
