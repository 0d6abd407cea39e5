"""Basic credentials (RFC 7617) as they stand in a header."""

import base64


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """User and password; None where there are none, or none that can be read."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        data = base64.b64decode(value.strip(), validate=True)
    except ValueError:  # characters that are none of base64's, too
        return None
    user, colon, password = _text(data).partition(":")
    return (user, password) if colon else None


def _text(data: bytes) -> str:
    """Clients say it in UTF-8; old ones, and curl on some systems, as their terminal has it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
