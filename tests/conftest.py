"""What several test files share."""

from collections.abc import Iterator

import pytest

from devhost.azurite import Azurite


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Connection string of an Azurite of our own, started when first asked for. Tests share it: use names that are yours."""
    with Azurite() as running:
        yield running.connection_string
