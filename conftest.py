"""What both test suites share."""

from hypothesis import HealthCheck, settings

# A loaded two-core machine stalls for seconds at random: neither a deadline nor the generator's own clock says
# anything about the code there.
settings.register_profile("sekft", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sekft")
