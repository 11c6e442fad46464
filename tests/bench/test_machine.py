import os
import sys
import time

import pytest

from tabwise_server.bench.machine import cpu_seconds

NO_PROCESS = 2**22 + 1  # Linux gives none so high


@pytest.mark.skipif(sys.platform != "linux", reason="the clock is Linux's")
def test_processor_time_is_the_systems_own() -> None:
    while time.process_time() < 0.05:
        pass
    before = time.process_time()
    found = cpu_seconds(os.getpid())
    after = time.process_time()
    assert found is not None
    assert before <= found <= after


def test_a_process_that_is_gone_has_none() -> None:
    assert cpu_seconds(NO_PROCESS) is None
