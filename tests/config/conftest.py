from pathlib import Path

import pytest

from tests.config.loading import Loading


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    return Loading(tmp_path)
