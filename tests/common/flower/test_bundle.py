"""The app bundle: equal on both sides, valid for Flower, and holding code alone."""

import io
import shutil
import zipfile
from pathlib import Path

from common.flower.bundle import bundle, bundle_of, bundle_sha256
from common.source import code_digest, digest_of

ROOT = Path(__file__).resolve().parents[3]


def test_two_installations_of_equal_code_build_equal_bundles(tmp_path: Path) -> None:
    for room in ("client", "common", "server"):
        shutil.copytree(ROOT / room, tmp_path / room)
    (tmp_path / "client" / "keys.json").write_text("secret")
    assert bundle_of(tmp_path) == bundle()
    (tmp_path / "client" / "app_extra.py").write_text("")
    assert bundle_of(tmp_path) != bundle()


def test_the_bundle_carries_code_and_nothing_else() -> None:
    names = zipfile.ZipFile(io.BytesIO(bundle())).namelist()
    others = {name for name in names if not name.endswith(".py")}
    assert others == {"pyproject.toml", "LICENSE", ".info/CONTENT"}
    assert {name.split("/")[0] for name in names if name.endswith(".py")} == {"client", "common", "server"}


def test_code_unpacked_from_the_bundle_has_the_digest_of_the_installed_code(tmp_path: Path) -> None:
    zipfile.ZipFile(io.BytesIO(bundle())).extractall(tmp_path)
    assert digest_of(tmp_path) == code_digest()


def test_flower_installs_and_names_the_bundle(tmp_path: Path, monkeypatch: object) -> None:
    from flwr.cli.config_utils import get_fab_metadata
    from flwr.cli.install import install_from_fab

    assert get_fab_metadata(bundle())[0] == "fedfin/fedfin"
    installed = install_from_fab(bundle(), install_dir=tmp_path, skip_prompt=True)
    assert (installed / "common" / "identity" / "authority.py").is_file()
    assert installed.name.endswith(bundle_sha256()[:8])
