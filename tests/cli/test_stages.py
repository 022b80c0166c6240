"""What takes a while is said; what does not is not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pgkeras.cli.stages import stage


def test_only_what_takes_a_while_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with stage("Blinking"):
        pass
    with stage("Sleeping"):
        time.sleep(2.0)
    assert capsys.readouterr().err == "Sleeping ...\n"


def test_warnings_are_plain_after_native_output_was_hidden() -> None:
    code = """
import logging
from absl import logging as absl
from pgkeras.cli.native_output import quiet
with quiet():
    absl.info("converting")
    logging.getLogger("pgkeras").warning("meanwhile")
logging.getLogger("pgkeras").warning("and %s", "after")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines() == ["meanwhile", "and after"]
