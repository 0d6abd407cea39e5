"""`WWW-Authenticate` (RFC 9110 section 11.6.1), as registries use it."""

import re
from dataclasses import dataclass, field

_SCHEME = re.compile(r"\s*,*\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s+|\Z|(?=,))")
_PARAMETER = re.compile(
    r"\s*,*\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))"
)
_QUOTED_PAIR = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    scheme: str  # lower case
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        return self.parameters.get("service", "")

    @property
    def scope(self) -> str:
        return self.parameters.get("scope", "")

    def __str__(self) -> str:
        quoted = ",".join(
            '{}="{}"'.format(key, value.replace("\\", "\\\\").replace('"', '\\"'))
            for key, value in self.parameters.items()
        )
        return f"{self.scheme.capitalize()} {quoted}".rstrip()


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """All challenges of one header value; what cannot be read ends the list."""
    challenges: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            name, quoted, token = parameter.groups()
            value = token if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
            parameters[name.lower()] = value
            position = parameter.end()
        challenges.append(Challenge(match.group(1).lower(), parameters))
    return tuple(challenges)
