import os
import sys
import time

import pytest

from tabwise_server.bench.machine import cpu_seconds

NO_PROCESS = 2**22 + 1  # Linux gives none so high


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that says")
def test_processor_time_is_what_the_process_itself_counts() -> None:
    while time.process_time() < 0.1:
        pass
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)


def test_a_process_that_is_gone_has_none() -> None:
    assert cpu_seconds(NO_PROCESS) is None
