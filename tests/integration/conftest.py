"""What the tests of the built layer share."""

from pathlib import Path

import pytest

from tests import layers


@pytest.fixture(scope="session")
def layer_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer as one ZIP file."""
    return layers.layer_zip(shared(tmp_path_factory))


def shared(factory: pytest.TempPathFactory) -> Path:
    """Return the directory that all workers of a run have."""
    base = factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture(scope="session")
def extended(opt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer with the sinks of examples/, added to it as `make layer LAYER_PACKAGES=…` does."""
    words = [str(layers.REPOSITORY / "examples" / name) for name in ("ndjson_sink", "tcp_sink")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        return layers.with_packages(shared(tmp_path_factory), opt, *words)


@pytest.fixture(scope="session")
def opt(layer_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer as it lies in /opt."""
    return layers.unpack(layer_zip, tmp_path_factory.mktemp("layer") / "opt")
