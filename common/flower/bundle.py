"""The Flower app bundle (FAB) made of the installed package: equal code gives equal bytes on every machine.

Hub and institution each build it from their own installation. The hub sends its bundle to Flower. The institution runs
a bundle only if it is, byte for byte, the one that it built itself from the code it reviewed. Nothing is compressed,
since compressors of different releases differ.
"""

import hashlib
import importlib.metadata
import io
import zipfile
from functools import cache
from pathlib import Path

from common.errors import ConfigurationError
from common.source import package_root, source_files

__all__ = ["bundle", "bundle_sha256"]

_DATE = (1980, 1, 1, 0, 0, 0)
_PROJECT = """\
[project]
name = "fedfin"
version = "{version}"
dependencies = ["flwr>={flower}"]

[project.license]
file = "LICENSE"

[tool.flwr.app]
publisher = "fedfin"
fab-format-version = 1
flwr-version-target = "{flower}"

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
run = ""
"""
_NOTICE = "Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"


@cache
def bundle() -> bytes:
    """The bundle of this installation.

    Raises:
        ConfigurationError: fedfin or Flower is not installed as a distribution.
    """
    return bundle_of(package_root())


def bundle_sha256() -> str:
    """Return the SHA-256 of the bundle, in hex. Hub and institution compare it."""
    return hashlib.sha256(bundle()).hexdigest()


def bundle_of(root: Path) -> bytes:
    """Return the bundle of the packages below `root`. See `bundle`."""
    try:
        flower, version = importlib.metadata.version("flwr"), importlib.metadata.version("fedfin")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigurationError(f"{error.name} is not installed as a package: install fedfin with pip") from None
    project = _PROJECT.format(version=version, flower=flower)
    files = {"pyproject.toml": project.encode(), "LICENSE": _NOTICE.encode()}
    files |= {name: path.read_bytes() for name, path in source_files(root).items()}
    listed = [f"{name},{hashlib.sha256(data).hexdigest()},{len(data) * 8}" for name, data in files.items()]
    files[".info/CONTENT"] = "\n".join(listed).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3
            archive.writestr(entry, data)
    return buffer.getvalue()
