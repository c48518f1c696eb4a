"""A process that forbids inspection is closed to the other processes of its own user."""

import os
import subprocess
import sys

import pytest

from common.processes.inspection import forbid_inspection

CHECK = """
import ctypes
from common.processes.inspection import forbid_inspection
before = ctypes.CDLL(None).prctl(3)
forbid_inspection()
print(before, ctypes.CDLL(None).prctl(3))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_becomes_non_dumpable() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True, cwd=os.curdir)
    assert done.stdout.split() == ["1", "0"]
    assert callable(forbid_inspection)
