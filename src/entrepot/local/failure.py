"""The one way in which a job fails."""

from entrepot.errors import EntrepotError


class JobFailed(EntrepotError):  # noqa: N818 - reads as what it says
    """What was to be done to a local registry was not, or not all of it; the message says why."""
