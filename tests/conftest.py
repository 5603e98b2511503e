"""The surroundings of every test, and the settings of property tests: they must not fail because a machine is slow."""

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests import surroundings

surroundings.make_plain()
# An example that fails is kept in `.hypothesis` and tried first the next time, and printed in a form that repeats it
# elsewhere (`@reproduce_failure`).
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True,
    database=DirectoryBasedExampleDatabase(Path(__file__).parents[1] / ".hypothesis" / "examples"),
)  # fmt: skip
settings.load_profile("any machine")
