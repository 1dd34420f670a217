"""What all tests share: shapes and types of the package are checked while they run, and every run draws the same."""

import sys

import jaxtyping
import pytest
from hypothesis import settings

# Every annotated function of the package is checked by beartype, shapes by jaxtyping; an int passes for a float, as
# in PEP 484. Must come before the package is imported.
jaxtyping.install_import_hook(
    "structattn_minimal", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

from explorable_page import browser, js, shown  # noqa: E402, F401 (fixtures; after the hook, they import the package)

settings.register_profile("book", derandomize=True, deadline=None, database=None, max_examples=30)
settings.load_profile("book")


def pytest_runtest_setup(item):
    if "torch" in sys.modules:  # not every test needs torch
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def unchecked():
    """Turn the type checks off: the test then sees what a user sees, who runs without them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
