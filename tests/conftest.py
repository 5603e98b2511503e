"""The surroundings of every test; and how the properties are judged: by what holds, not by how fast this machine is."""

from hypothesis import HealthCheck, settings

from tests import surroundings

surroundings.make_plain()
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
