"""A passphrase and a PIN are read in the same way, and each message names its own."""

from pathlib import Path

import pytest

from common.errors import PassphraseError
from common.identity.secret_input import forget_credentials, read_credential, read_secret_file


@pytest.mark.parametrize("noun", ["passphrase", "PIN"])
def test_a_file_that_cannot_be_used_is_one_line_that_names_the_secret(tmp_path: Path, noun: str) -> None:
    empty, loose = tmp_path / "empty", tmp_path / "loose"
    for path, mode in ((empty, 0o600), (loose, 0o640)):
        path.write_text("\nsecond line\n")
        path.chmod(mode)
    for path, words in (
        (tmp_path / "absent", f"name a file with the {noun}"),
        (tmp_path, f"name a file with the {noun}"),
        (empty, f"empty: name a file with the {noun}"),
        (loose, "others may read it: run chmod 600"),
    ):
        with pytest.raises(PassphraseError) as error:
            read_secret_file(path, noun, private=path != tmp_path)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_a_credential_is_read_until_its_place_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "name").write_text("secret\r\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_credential("name", "PIN") == b"secret"
    assert read_credential("other", "PIN") is None
    forget_credentials()
    assert read_credential("name", "PIN") is None
