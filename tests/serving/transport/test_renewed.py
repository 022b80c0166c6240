"""Files that are replaced while the server runs."""

from __future__ import annotations

import pytest
from pgkeras_serving.transport.renewed import RenewedFiles

from pgkeras.errors import ConfigError


@pytest.mark.parametrize("error", [ConfigError("not now"), PermissionError("not now")])
def test_unusable_files_are_ignored_and_retried(tmp_path, caplog, error):
    file = tmp_path / "file"
    file.write_text("old")
    readable = True

    def read():
        if not readable:
            raise error
        return file.read_text()

    files = RenewedFiles((file, None), read, "all stays as it was")
    assert (files.renew(), files.value) == (False, "old")
    file.write_text("newer")
    readable = False
    for _ in range(3):
        assert (files.renew(), files.value) == (False, "old")
    assert caplog.text.count("all stays as it was: not now") == 1
    readable = True  # the file itself does not change
    assert (files.renew(), files.value) == (True, "newer")
    assert (files.renew(), files.value) == (False, "newer")


def test_a_file_that_changes_during_reading_is_read_again(tmp_path):
    file = tmp_path / "file"
    file.write_text("1")

    def read():
        found = file.read_text()
        if len(found) < 3:
            file.write_text(found + "1")
        return found

    files = RenewedFiles((file,), read)
    assert [files.value, files.renew(), files.value, files.renew(), files.value] == ["1", True, "11", True, "111"]


def test_unusable_files_at_startup_are_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        RenewedFiles((tmp_path / "nothing",), (tmp_path / "nothing").read_text)
