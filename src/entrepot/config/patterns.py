"""Patterns that rules match names by: globs with * and ?, or regular expressions."""

import re

from entrepot.config.kinds import Expected

# What repositories and tags consist of (distribution-spec), with * and ?.
_REPOSITORY = re.compile(r"[a-z0-9._*?-]+(?:/[a-z0-9._*?-]+)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_.*?-]{1,128}\Z")


def check_regex(text: str) -> None:
    """Whether it is one, and stays one inside another, where (?i) must be written (?i:…)."""
    try:
        re.compile(text)
        re.compile(f".(?:{text})")
    except (re.error, RecursionError, OverflowError) as error:
        raise Expected(f"a regular expression that Python reads ({error})") from error


def match(text: str) -> str:
    if not text:
        raise Expected("a pattern such as quay.io/team/*:v*")
    if is_regex(text):
        _check_slashes(text)
    return text


def repository_match(text: str) -> str:
    if is_regex(text):
        _check_slashes(text)
    elif not _REPOSITORY.match(text):
        raise Expected("a repository such as team/app or team/*, in lower case, without tag")
    return text


def tag_match(text: str) -> str:
    if not _TAG.match(text):
        raise Expected("a tag such as latest, or a pattern such as v*")
    return text


def is_regex(text: str) -> bool:
    return text.startswith("/")


def _check_slashes(text: str) -> None:
    if len(text) <= len("//") or not text.endswith("/"):
        raise Expected("a regular expression between two slashes")
    check_regex(text[1:-1])
