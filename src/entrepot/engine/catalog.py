"""A registry's catalog as somebody may see it, who may not pull from all that is in it.

The registry's own pages cannot be passed on with names left out: where a page ends is told by the
last name on it, which may be one of those. So pages are cut anew, from as many of the registry's
as it takes, and go on after a name that was shown.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from entrepot.engine.ask import Ask
from entrepot.errors import InvalidReference, UpstreamError
from entrepot.oci.reference import Repository, parse_repository

_PATH = "/v2/_catalog"
# What distribution gives when it is not asked for a number; it refuses more than 1000.
_USUAL = 100
_MOST = 1000
# Of the registry's, for one of ours: who may see little in a large registry waits for many.
_PAGES_MOST = 500


@dataclass(frozen=True, slots=True)
class Page:
    body: bytes
    link: str


@dataclass(frozen=True, slots=True)
class Shown:
    names: list[Repository]
    link: str

    @property
    def body(self) -> bytes:
        return json.dumps({"repositories": self.names}).encode() + b"\n"


async def visible_catalog(ask: Ask, page_of: Callable[[Ask], Awaitable[Page]]) -> Shown:
    asked = parse_qs(ask.request.query, keep_blank_values=True)
    number, last = asked.get("n", [""])[0], asked.get("last", [""])[0]
    is_number = number.isdecimal() and int(number[:9]) > 0
    most = min(int(number[:9]), _MOST) if is_number else _USUAL
    # What is no number is the registry's to refuse.
    query = {"n": str(max(most, _USUAL)) if is_number or not number else number}
    if last:
        query["last"] = last
    names: list[Repository] = []
    async for name in _names(ask, urlencode(query), page_of):
        if ask.grant.may("pull", name):
            if len(names) == most:  # one more to be seen: there is a next page
                following = urlencode({"last": names[-1], "n": most})
                return Shown(names, f'<{_PATH}?{following}>; rel="next"')
            names.append(name)
    return Shown(names, "")


async def _names(
    ask: Ask, query: str, page_of: Callable[[Ask], Awaitable[Page]]
) -> AsyncIterator[Repository]:
    asked: set[str] = set()
    while query not in asked:
        if len(asked) == _PAGES_MOST:
            raise UpstreamError(
                f"{ask.registry}: its catalog has too many pages to be looked through"
            )
        asked.add(query)
        request = replace(ask.request, method="GET", path=_PATH, query=query)
        page = await page_of(replace(ask, request=request))
        for name in _names_in(page, ask.registry):
            yield name
        query = _next(page.link)
        if not query:
            return


def _names_in(page: Page, registry: str) -> list[Repository]:
    try:
        document: Any = json.loads(page.body)
        return [_repository(name) for name in document["repositories"] or ()]
    except (ValueError, KeyError, TypeError, InvalidReference):
        raise UpstreamError(f"{registry} answers with something else than a catalog") from None


def _repository(name: object) -> Repository:
    if not isinstance(name, str):
        raise TypeError
    return parse_repository(name)


def _next(link: str) -> str:
    """The query of the next page; "" where there is none."""
    target, _, parameters = link.partition(">")
    if "next" not in parameters or not target.startswith("<"):
        return ""
    return urlsplit(target[1:]).query
