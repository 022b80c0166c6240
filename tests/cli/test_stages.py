"""What takes a while is said; what does not is not."""

from __future__ import annotations

import time

import pytest

from pgkeras.cli.stages import stage


def test_only_what_takes_a_while_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with stage("Blinking"):
        pass
    with stage("Sleeping"):
        time.sleep(2.0)
    assert capsys.readouterr().err == "Sleeping ...\n"
