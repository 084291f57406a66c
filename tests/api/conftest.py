"""Two owners, of whom neither may see what the other one has."""

import pytest

from tests.api.callers import Caller
from tests.conftest import Api


@pytest.fixture
def alice(api: Api) -> Caller:
    return Caller(api, "alice")


@pytest.fixture
def bob(api: Api) -> Caller:
    return Caller(api, "bob")
