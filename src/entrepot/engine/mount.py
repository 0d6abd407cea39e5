"""Uploads that begin with a layer of another repository (distribution-spec, "Mounting a blob")."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import unquote_plus

from entrepot.cache.permission import Grant
from entrepot.engine.message import Headers, Request
from entrepot.errors import InvalidReference
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.oci.reference import parse_repository

_MOUNT, _FROM = "mount", "from"
_SEPARATOR = re.compile(r"[&;]")  # some servers take either
# Go's FormValue, which distribution asks for the parameters, finds them in a body of these, too:
# seen to mount (201) with distribution 2.8.
_FORMS = ("x-www-form-urlencoded", "form-data")


def without_foreign_mount(request: Request, grant: Grant) -> Request:
    """As a plain upload where it would bring along what this user may not pull. The specification
    lets a registry answer so (202), and clients then send the layer; a refusal would end the push.
    """
    headers = _without_form(request.headers)
    parts = _SEPARATOR.split(request.query)
    fields = [_field(part) for part in parts]
    if _may_mount([value for name, value in fields if name == _FROM], grant):
        return replace(request, headers=headers)
    kept = [
        part for part, (name, _) in zip(parts, fields, strict=True) if name not in {_MOUNT, _FROM}
    ]
    if len(kept) == len(parts):
        return replace(request, headers=headers)
    return replace(request, headers=headers, query="&".join(kept))


def _may_mount(sources: list[str], grant: Grant) -> bool:
    """From all of them: which one a registry takes of several is its own choice. And which it takes
    where none is named.
    """
    try:
        repositories = [parse_repository(source) for source in sources]
    except InvalidReference:
        return False
    return bool(sources) and all(grant.may("pull", repository) for repository in repositories)


def _field(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return unquote_plus(name).strip().lower(), unquote_plus(value)


def _without_form(headers: Mapping[str, str]) -> Headers:
    return Headers(_harmless(headers))


def _harmless(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        is_type = name.lower() == "content-type"
        is_form = is_type and any(form in value.lower() for form in _FORMS)
        yield name, OCTET_STREAM if is_form else value
