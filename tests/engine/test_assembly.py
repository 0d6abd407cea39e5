import subprocess
import sys

from tests.support.content import Given
from tests.support.engine import Rig, blob_path
from tests.support.faults import Hold


def test_the_engine_is_put_together_without_mitmproxy() -> None:
    program = "import sys, entrepot.engine.assembly; sys.exit('mitmproxy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_closing_ends_what_runs(rig: Rig) -> None:
    content = rig.registry.add_blob("app", Given(bytes(300_000)))
    rig.registry.fault(Hold(100_000), path=blob_path(content))
    response = await rig.open(blob_path(content))
    assert len(rig.engine.blobs.fills()) == 1
    await rig.engine.aclose()
    assert rig.engine.blobs.fills() == ()
    await response.aclose()


async def test_closing_twice_does_nothing(rig: Rig) -> None:
    await rig.engine.aclose()
