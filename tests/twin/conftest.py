"""A village run shared by the tests that only look at what it left."""

import pytest
from twin_runs import Run, twin_run


@pytest.fixture(scope="session")
def village(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return twin_run(tmp_path_factory.mktemp("village"), "village", "--seed", "7")
