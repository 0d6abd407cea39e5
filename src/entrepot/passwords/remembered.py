"""What has been found right, so that it need not be found out again for each connection."""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable

from entrepot.passwords.htpasswd import as_bytes

_FOR_S = 600.0  # since it was last asked for
_ENTRIES_MAX = 10_000


class Remembered:
    """Names and passwords are kept as a keyed hash: its key is nowhere but in this process."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._secret = secrets.token_bytes(32)
        self._asked: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, pair: tuple[str, str]) -> bool:
        mark, now = digest(self._secret, *pair), self._now()
        last = self._asked.get(mark)
        if last is None or not last <= now < last + _FOR_S:
            return False
        self._asked[mark] = now
        self._asked.move_to_end(mark)
        return True

    def add(self, user: str, password: str) -> None:
        mark = digest(self._secret, user, password)
        self._asked[mark] = self._now()
        self._asked.move_to_end(mark)
        if len(self._asked) > _ENTRIES_MAX:
            self._asked.popitem(last=False)

    def clear(self) -> None:
        self._asked.clear()


def digest(secret: bytes, user: str, password: str) -> bytes:
    """Of both, and of where one ends and the other begins."""
    name = as_bytes(user)
    text = len(name).to_bytes(8) + name + as_bytes(password)
    return hmac.digest(secret, text, hashlib.sha256)
