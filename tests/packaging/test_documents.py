"""The documentation's links lead somewhere, and the Makefile's help tells of every target."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SKIPPED = {".venv", ".git", ".data", "node_modules", "build", "dist"}
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^(?: {4}|\t)[^\n]*$|^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    found = sorted(ROOT.rglob("*.md"))
    return [path for path in found if _SKIPPED.isdisjoint(path.relative_to(ROOT).parts)]


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(_CODE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (document.parent / name).resolve() if name else document
        assert linked.exists(), f"{target}: there is no such file"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked.read_text()), f"{target}: there is no such heading"


def test_help_tells_of_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9]+):", makefile, re.MULTILINE)) - {"help"}
    told = set(re.findall(r"echo 'make ([a-z0-9]+)", makefile))
    assert targets == told


def test_the_operator_is_told_of_every_page_and_signal() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    for word in ("/healthz", "/readyz", "/metrics", "SIGTERM", "SIGHUP", "make run"):
        assert word in text
