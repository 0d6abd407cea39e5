"""A password file as Apache's htpasswd writes it, with bcrypt alone."""

import re
from dataclasses import dataclass

import bcrypt

from entrepot.errors import ConfigError

# Costs and digits as bcrypt's own (crypt_blowfish) takes them: of the salt's last digit only two
# bits count, and others would be refused when a password comes.
_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-7])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_BYTES_MAX = 72


@dataclass(frozen=True, slots=True, repr=False)
class PasswordHash:
    line: str

    def matches(self, password: str) -> bool:
        """Takes the CPU for milliseconds to seconds, as the hash's cost says."""
        # Bytes after the 72nd count for nothing, as with htpasswd (-v takes 72 of a password of 80)
        # and with Go's comparison, which registries use: a file means the same here as there.
        key = as_bytes(password)[:_BYTES_MAX]
        return bcrypt.checkpw(key, self.line.encode())


def as_bytes(text: str) -> bytes:
    """Of whatever a client sent: a lone surrogate makes it wrong, not an internal error."""
    return text.encode("utf-8", "surrogatepass")


def parse_htpasswd(text: str) -> dict[str, PasswordHash]:
    """ConfigError with the line; never with what stands there, which may be a password."""
    users: dict[str, PasswordHash] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, digest = line.partition(":")
        if not colon or not name:
            raise ConfigError(f"line {number}: expected name:hash, as `htpasswd -B` writes it")
        if not _HASH.fullmatch(digest):
            raise ConfigError(
                f"line {number}: expected a bcrypt hash of cost 4 to 17; `htpasswd -B` makes one"
            )
        if name in users:
            raise ConfigError(f"line {number}: this user has a line already")
        users[name] = PasswordHash(digest)
    if not users:
        raise ConfigError("expected at least one user; `htpasswd -B -c FILE NAME` makes one")
    return users
