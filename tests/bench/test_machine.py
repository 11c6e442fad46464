import os
import subprocess
import sys
import time

import pytest

from tabwise_server.bench.machine import cpu_seconds, family, sum_over

NO_PROCESS = 2**22 + 1  # Linux gives none so high


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that says")
def test_processor_time_is_what_the_process_itself_counts() -> None:
    while time.process_time() < 0.1:
        pass
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)


def test_a_process_that_is_gone_has_none() -> None:
    assert cpu_seconds(NO_PROCESS) is None


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that says")
def test_a_family_is_a_process_and_all_that_it_started() -> None:
    before = set(family(os.getpid()))
    code = "import subprocess as s, sys; s.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        while len(found := family(child.pid)) < 2:
            assert child.poll() is None
        assert found[0] == child.pid
        assert set(family(os.getpid())) == before | set(found)
        child.communicate(b"\n")


def test_a_sum_is_known_where_all_its_parts_are() -> None:
    known = {1: 2.0, 2: 3.0, 3: None}
    assert sum_over(known.get, [1, 2]) == 5.0
    assert sum_over(known.get, [1, 2, 3]) is None
