"""The institution's decisions are read strictly, and its directory is laid out once."""

import stat
from pathlib import Path

import pytest

from client.federation.planning import probe_data
from client.institution.config import load_institution_config
from client.institution.directory import InstitutionDirectory
from common.errors import ConfigurationError, DataError


def test_a_new_home_has_private_keys_and_settings_that_load(tmp_path: Path) -> None:
    home = InstitutionDirectory.create(tmp_path / "bank", "bank-a")
    settings = home.settings()
    assert settings.name == "bank-a"
    assert settings.limits.max_epsilon == 8.0
    assert settings.data is None
    assert home.keys().name == "bank-a"
    for path in (home.settings_path, home.keys_path / "private.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_institution_is_never_laid_over_another(tmp_path: Path) -> None:
    InstitutionDirectory.create(tmp_path, "bank-a")
    with pytest.raises(ConfigurationError, match="holds an institution already"):
        InstitutionDirectory.create(tmp_path, "bank-b")


def test_data_paths_start_from_the_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "institution.toml"
    path.write_text('[institution]\nname = "a"\n[data]\ntrain = "rows.csv"\n')
    settings = load_institution_config(path)
    assert settings.data is not None
    assert settings.data.train == tmp_path / "rows.csv"


def test_rows_without_labels_are_text_where_nothing_else_may_be_trained(tmp_path: Path) -> None:
    (tmp_path / "filings").mkdir()
    (tmp_path / "filings" / "one.txt").write_text("net sales rose\n\ncosts fell")
    path = tmp_path / "institution.toml"
    text = '[institution]\nname = "a"\n[data]\ntrain = "filings"\n[limits]\n'
    path.write_text(text + 'tasks = ["masked_language_modelling"]\n')
    settings = load_institution_config(path)
    assert settings.data is not None
    assert len(probe_data(settings, settings.data)) == 2
    path.write_text(text)
    with pytest.raises(DataError):
        probe_data(load_institution_config(path), settings.data)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "institution.name"),
        ('[institution]\nname = "a/b"\n', "institution.name"),
        ('[institution]\nname = "a"\nrole = "x"\n', "institution.role"),
        ('[institution]\nname = "a"\n[limits]\nmax_epsilon = 8\n', "limits.delta"),
        ('[institution]\nname = "a"\n[limits]\nmax_epsilon = -1\ndelta = 1e-5\n', "limits.max_epsilon"),
        ('[institution]\nname = "a"\n[limits]\nmax_epsilon = nan\ndelta = 1e-5\n', "limits.max_epsilon"),
        ('[institution]\nname = "a"\n[limits]\nmax_epsilon = 0\ndelta = 1e-5\n', "limits.max_epsilon"),
        ('[institution]\nname = "a"\n[limits]\ndelta = 1.0\n', "limits.delta"),
        ('[institution]\nname = "a"\n[limits]\nmin_noise_multiplier = -0.1\n', "limits.min_noise_multiplier"),
        ('[institution]\nname = "a"\n[limits]\nmin_noise_multiplier = nan\n', "limits.min_noise_multiplier"),
        ('[institution]\nname = "a"\n[release]\ndeclared_units = 0\n', "release.declared_units"),
        ('[institution]\nname = "a"\n[release]\ndeclared_units = 3\n', "release.declared_units is 3: use a power"),
        ('[institution]\nname = "a"\n[release]\ndeclared_units = -4\n', "release.declared_units"),
        ('[institution]\nname = "a"\nnoise = "fixed"\n', "institution.noise"),
        ('[institution]\nname = "a"\n[limits]\ntasks = ["poetry"]\n', "limits.tasks"),
        ('[institution]\nname = "a"\n[release]\nsize_band = 1000\n', "declared_units"),
        ('[institution]\nname = "a"\n[elsewhere]\n', "elsewhere"),
        ('[institution]\nname = "a"\n[data]\n', "data.train"),
        ("[institution\n", "not TOML"),
    ],
)
def test_settings_that_cannot_be_used_name_their_place(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "institution.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=named) as error:
        load_institution_config(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


def test_an_absent_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="fedfin-institution init"):
        InstitutionDirectory(tmp_path).settings()
