from functools import partial

import pytest

from tests.fakes.clients import KINDS, Connect, connect


@pytest.fixture(params=KINDS, name="client")
def _client(request: pytest.FixtureRequest) -> Connect:
    """Makes the client of a URL: each test runs with both."""
    return partial(connect, request.param)
