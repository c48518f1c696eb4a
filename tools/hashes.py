"""Write docker/requirements.txt: the packages of the images in the versions of constraints.txt, each with its hashes.

Torch is left out. Its wheel comes from an index of its own, for one kind of processor. Uses uv, which asks the index.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS, PYPROJECT, REQUIREMENTS = "constraints.txt", "pyproject.toml", "docker/requirements.txt"
HEAD = "# Made by `make hashes` from pyproject.toml and constraints.txt. Torch is not in it: see docker/Dockerfile.\n"


def pins(text: str) -> dict[str, str]:
    """Return the versions of the packages in a file of constraints or requirements.

    >>> pins("PyYAML==6.0.3\\nlxml==6.0.0 \\\\")
    {'pyyaml': '6.0.3', 'lxml': '6.0.0'}
    """
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def only_pinned(resolved: str, constraints: str) -> str:
    """Return the requirements whose packages are among the constraints, without torch.

    The others are what a torch for GPUs would bring along.
    """
    blocks = re.split(r"^(?=\S)", resolved, flags=re.MULTILINE)
    return "".join(block for block in blocks if set(pins(block)) & (pins(constraints).keys() - {"torch"}))


def main() -> int:
    """Resolve and write the file."""
    command = ("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes")
    given = ("--python-version", "3.11", "--constraint", CONSTRAINTS, PYPROJECT)
    done = subprocess.run((*command, *given), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return 1
    text = only_pinned(done.stdout, (ROOT / CONSTRAINTS).read_text())
    (ROOT / REQUIREMENTS).write_text(HEAD + text)
    print(f"{REQUIREMENTS}: {len(pins(text))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
