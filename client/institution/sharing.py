"""Open to the node's user what a node needs, and nothing else, if agent and node run as two users.

The directories that the node reads carry the group of the node's user and the set-group-ID bit, so that files made in
them later belong to that group too. Without such a group, everything belongs to one user alone.
"""

import grp
import os
import stat
from pathlib import Path

from client.institution.paths import InstitutionPaths
from common.errors import ConfigurationError

__all__ = ["directory_mode", "is_shared", "secret_mode", "share_with_node"]


def is_shared(directory: Path) -> bool:
    """Whether a directory belongs to the node's group as well."""
    return bool(directory.stat().st_mode & stat.S_ISGID)


def secret_mode(directory: Path) -> int:
    """Return the mode of a private file in `directory`: readable by its owner, and by the node's group if shared."""
    return 0o640 if is_shared(directory) else 0o600


def directory_mode(home: InstitutionPaths) -> int:
    """Return the mode of the institution's directory. The node's group may pass through it, but not list it."""
    return 0o710 if home.tls.is_dir() and is_shared(home.tls) else 0o700


def share_with_node(home: InstitutionPaths, group: str) -> None:
    """Let the users of `group` read certificate and node key, reach the agent's socket, and write the node's state.

    Keys, rows, ledger, settings and the agent's state stay closed to them, and none of the directories that the agent
    writes to can be written by them.

    Args:
        group: name or number of the group.

    Raises:
        ConfigurationError: There is no such group, or this user does not belong to it.
    """
    try:
        number = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        os.chown(home.directory, -1, number)
        home.directory.chmod(0o710)
        for directory in (home.tls, home.node_key_path.parent, home.run):
            for path in (directory, *directory.iterdir()):
                os.chown(path, -1, number)
                path.chmod(0o2750 if path == directory else 0o640)
        os.chown(home.node_state, -1, number)
        home.node_state.chmod(0o2770)
    except KeyError:
        raise ConfigurationError(f"--node-group {group}: no such group: run groupadd --system {group}") from None
    except PermissionError:
        raise ConfigurationError(
            f"--node-group {group}: this user does not belong to it: add the user to the group"
        ) from None
