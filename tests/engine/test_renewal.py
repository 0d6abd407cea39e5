"""What is used is kept, and what is forgotten is forgotten at once."""

import pytest

from entrepot.config.model import TagRule, Tags
from tests.support.clock import ManualClock
from tests.support.engine import accepting, blob_path, config_for, manifest_path, open_engine
from tests.support.registry import ScriptedRegistry

DAY = 86400
TAG = manifest_path("1.0")


@pytest.mark.parametrize("days", [61, 150])
async def test_content_in_daily_use_outlives_what_is_kept_of_the_unused(
    registry: ScriptedRegistry, clock: ManualClock, days: int
) -> None:
    """`storage.inactive` is 60 days; the outage comes after it, and use goes on through it."""
    config = config_for(registry, tags=Tags(rules=(TagRule(match="*", immutable=True),)))
    image = registry.add_image("app", "1.0", (10_000,))
    layer = blob_path(image.blobs[-1].digest)
    by_digest = manifest_path(image.digest)
    async with open_engine(registry, clock, config=config) as rig:
        for day in range(days):
            if day == days - 30:
                registry.die()
            for path in (TAG, by_digest, layer):
                answer = await rig.ask(path, accepting(image))
                assert answer.status == 200, (day, path, answer)
            clock.advance(DAY + 1)
