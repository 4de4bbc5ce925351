"""What both test suites share."""

import logging
import signal

import pytest
from hypothesis import HealthCheck, settings

# A loaded two-core machine stalls for seconds at random: neither a deadline nor the generator's own clock says
# anything about the code there.
settings.register_profile("sekft", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sekft")

# A shell starts what runs in its background deaf to Ctrl-C, and so would be the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` a file's tests stay together, all of the Docker engine, and all of the real model."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            shared = "docker" if item.get_closest_marker("docker") else ""
            shared = shared or ("real model" if "real_base" in getattr(item, "fixturenames", ()) else "")
            item.add_marker(pytest.mark.xdist_group(shared or item.nodeid.partition("::")[0]))


@pytest.fixture(autouse=True)
def _logs_as_python_has_them() -> None:
    """A command line that runs in this process sets the package's logs up, for a test or for a module's fixtures."""
    logger = logging.getLogger("tiararodney")
    logger.handlers[:], logger.propagate = [], True
    logger.setLevel(logging.NOTSET)
