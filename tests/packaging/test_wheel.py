"""What users install."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.checkout import copy_checkout


@pytest.fixture(scope="module")
def wheel(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    directory = tmp_path_factory.mktemp("wheel")
    checkout = copy_checkout(repository_root, directory / "checkout")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", directory, checkout],
        check=True,
        capture_output=True,
    )
    (file,) = directory.glob("*.whl")
    return zipfile.Path(zipfile.ZipFile(file))


def test_the_trust_scripts_are_inside(wheel: zipfile.Path, repository_root: Path) -> None:
    inside = {script.name: script.read_bytes() for script in (wheel / "entrepot/trust").iterdir()}
    source = (repository_root / "ca/trust").iterdir()
    assert inside == {script.name: script.read_bytes() for script in source}
    assert "systemd.sh" in inside


def test_nothing_lands_beside_the_package(wheel: zipfile.Path) -> None:
    top = {re.sub(r"-.*", "", entry.name) for entry in wheel.iterdir()}
    assert top == {"entrepot"}


def test_every_module_is_inside(wheel: zipfile.Path, repository_root: Path) -> None:
    names = set(wheel.root.namelist())
    source = repository_root / "src"
    for file in (source / "entrepot").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert str(file.relative_to(source)) in names
