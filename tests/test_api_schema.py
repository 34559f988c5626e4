"""Whatever the API's description allows is answered: schemathesis makes requests of it, right and wrong ones, and no answer is a 500."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from tests.serving import serving

EXAMPLES = 15
OPENAPI = Path(__file__).parent.parent / "ui" / "openapi.json"
schema = schemathesis.openapi.from_path(str(OPENAPI))


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with serving(home, probe_seconds="0.3") as running:
        yield running


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_no_request_breaks_the_server(url: str, case: schemathesis.Case) -> None:
    response = case.call(base_url=url, timeout=60)
    case.validate_response(response, checks=[not_a_server_error])
