"""Password files, with hashes that are cheap to check."""

from pathlib import Path

import bcrypt

CHEAPEST = 4


def line(name: str, password: str, *, cost: int = CHEAPEST, kind: str = "2y") -> str:
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()
    return f"{name}:${kind}{digest.removeprefix('$2b')}\n"


def write_htpasswd(directory: Path, **passwords: str) -> Path:
    path = directory / "htpasswd"
    path.write_text("".join(line(name, password) for name, password in passwords.items()))
    return path
