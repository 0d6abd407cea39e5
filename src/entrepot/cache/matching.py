"""How the `match` of a rule is read, whatever the rule is about."""

import re
from collections.abc import Iterable


def pattern_of(match: str) -> re.Pattern[str]:
    """For `fullmatch`: `/regular expression/` anywhere in the name, or a glob whose * crosses
    slashes.
    """
    if len(match) > 1 and match.startswith("/") and match.endswith("/"):
        return re.compile(f".*(?:{match[1:-1]}).*")
    return re.compile("".join(_translate(match)))


def _translate(glob: str) -> Iterable[str]:
    for character in glob:
        yield {"*": ".*", "?": "."}.get(character) or re.escape(character)
