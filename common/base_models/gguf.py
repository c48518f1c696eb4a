"""A GGUF file rebuilt as a plain transformers directory, once, in the user's cache.

The packaged small language model comes quantised to 4 bits, in llama.cpp's format. Training needs its weights as
tensors, so they are dequantised to bfloat16, the precision it was published in, and kept beside their digest.
"""

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import struct
import tempfile
from pathlib import Path

import torch
import transformers
from tokenizers import pre_tokenizers

from common.base_models.digest import base_digest
from common.base_models.transformers_logging import quiet
from common.errors import ModelError
from common.files import write_atomic

__all__ = ["plain_directory"]

log = logging.getLogger(__name__)

_RECORD = "conversion.json"


def plain_directory(file: Path) -> Path:
    """Return the directory in the user's cache that holds `file`'s model and tokenizer. Make it if it is absent.

    Its name is the GGUF file's SHA-256. A directory whose content has changed since is made again.
    `FEDFIN_CACHE` names another cache than `$XDG_CACHE_HOME/fedfin`.

    Raises:
        ModelError: the file is absent or no GGUF file that transformers can read, or the cache cannot be written.
    """
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"base model {file.name}: cannot be read ({error.strerror}): install its package") from None
    target = _cache() / "models" / f"{file.stem}-{digest[:16]}"
    if _is_whole(target, digest):
        return target
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"base model {file.name}: reading it needs the package gguf: pip install 'fedfin[demo]'")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _convert(file, draft)
            record = {"source": file.name, "source_sha256": digest, "digest": base_digest(draft)}
            write_atomic(draft / _RECORD, (json.dumps(record, indent=2) + "\n").encode())
            draft.chmod(0o755)
            _put(draft, target, digest)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"base model {file.name}: {target.parent} cannot be written ({error.strerror}): set FEDFIN_CACHE"
        ) from error
    return target


def _cache() -> Path:
    given = os.environ.get("FEDFIN_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fedfin"


def _is_whole(directory: Path, source: str) -> bool:
    try:
        record = json.loads((directory / _RECORD).read_bytes())
        whole = (record["source_sha256"], record["digest"]) == (source, base_digest(directory))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        log.warning("%s: it is not what was written there: made again", directory)
    return whole


def _put(draft: Path, target: Path, source: str) -> None:
    """Rename into place. If another process was faster, its directory stays."""
    if target.exists() and not _is_whole(target, source):
        shutil.rmtree(target)
    try:
        draft.rename(target)
    except OSError:
        if not _is_whole(target, source):
            raise


def _convert(file: Path, into: Path) -> None:
    try:
        with quiet():
            read = transformers.AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.bfloat16, trust_remote_code=False
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                file.parent, gguf_file=file.name, trust_remote_code=False
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, struct.error) as error:
        raise ModelError(f"base model {file.name}: not a readable GGUF file: install its package anew") from error
    pieces = tokenizer.backend_tokenizer
    # Every digit is a piece of its own, as in the published tokenizer. transformers' conversion leaves that out.
    pieces.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pieces.pre_tokenizer]
    )
    tokenizer.model_max_length = read.config.max_position_embeddings
    # The saved model is an ordinary one, without the versions and paths that made it.
    del read.config.quantization_config
    read.config._name_or_path = ""
    with quiet():
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(
                read.config, dtype=torch.bfloat16, trust_remote_code=False
            )
        model.load_state_dict(read.state_dict(), assign=True)
        model.tie_weights()
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)
    config = json.loads((into / "config.json").read_bytes())
    config.pop("transformers_version", None)
    write_atomic(into / "config.json", (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
