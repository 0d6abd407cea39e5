"""The generated part of docs/performance.md, which lies between two markers."""

BEGIN = "<!-- measured: written by make bench, not by hand -->"
END = "<!-- end of what was measured -->"


class NoMarkersError(ValueError):
    """The document has no place for what was measured."""


def filled(document: str, measured: str) -> str:
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoMarkersError(f"the document lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{measured.strip()}\n\n{END}{after}"
