"""What `mitmdump -s` loads, as far as it is not what others load too."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.errors import ConfigError

with warnings.catch_warnings():
    # mitmproxy calls pyparsing by names that its newer versions warn of, once, when it is imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    from entrepot.interception.addon import EntrepotAddon
    from entrepot.mitmproxy_entry import addon_from_environment

RIGHT = "data: data\nregistries:\n  a.io: {exec: /nowhere/give}\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    path = tmp_path / "entrepot.yaml"
    monkeypatch.setenv("ENTREPOT_CONFIG", str(path))

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    return write


async def test_warnings_are_told(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(RIGHT)
    monkeypatch.setenv("DEBUG", "true")
    async with addon_from_environment()._opened() as addon:
        assert isinstance(addon, EntrepotAddon)
    assert "configuration: DEBUG has no effect" in caplog.text
    assert f"configuration: {file}:3: registries.a.io.exec: expected" in caplog.text


async def test_what_is_wrong_is_told_when_it_runs(write: Callable[[str], Path]) -> None:
    write("listem: x\n")
    addon = addon_from_environment()
    with pytest.raises(ConfigError, match="listem: unknown setting"):
        async with addon._opened():
            pass
