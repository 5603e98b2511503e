"""What the tests of the built layer share."""

from pathlib import Path

import pytest

from tests import layers


@pytest.fixture(scope="session")
def layer_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer as one ZIP file."""
    base = tmp_path_factory.getbasetemp()
    return layers.layer_zip(base.parent if base.name.startswith("popen-") else base)


@pytest.fixture(scope="session")
def opt(layer_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer as it lies in /opt."""
    return layers.unpack(layer_zip, tmp_path_factory.mktemp("layer") / "opt")
