"""An adapter merged into its base model: a directory that transformers loads, with nothing of PEFT or fedfin."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from torch import nn

from client.inference import merged_head
from client.inference.gguf import check_gguf, write_gguf
from client.inference.served import chosen_task
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import Manifest, at_base_model, read_manifest, unprotected
from common.adapters.restore import build, restore_adapter
from common.base_models.files import MERGED_CODE
from common.base_models.heads import MeanPoolClassifier, SharedEncoder
from common.base_models.provenance import Provenance, read_provenance, write_provenance
from common.base_models.transformers_logging import quiet
from common.config.adapter import PromptConfig
from common.errors import ConfigurationError, ModelError
from common.files import replace_directory
from common.tasks import Head

__all__ = ["merge_adapter"]


def merge_adapter(
    adapter: Path, out: Path, task: str | None = None, base_model: str | None = None, gguf: Path | None = None
) -> str:
    """Write the stand-alone model, and return the line of Python that loads it.

    The base model is taken in full precision, also if the adapter was trained on a 4-bit one.

    Args:
        task: the task whose head to keep, if the adapter serves several.
        base_model: the place of the base model, if it was moved.
        gguf: a new file that gets the model for llama.cpp too, see `client.inference.gguf`.

    Raises:
        ConfigurationError: `out` or `gguf` is not new, or the task is not named, or not the adapter's.
        ModelError: no adapter, or one that cannot be merged: a soft prompt is no weight of the base model.
    """
    recipe, digest, facts = read_manifest(adapter)
    settings = recipe.adapter
    if isinstance(settings, PromptConfig):
        raise ModelError(f"{adapter}: {settings.method} cannot be merged: keep the adapter, or train lora")
    name = chosen_task(recipe, task)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: it is not an empty directory: choose another output directory")
    source = None
    if gguf is not None:
        if not _head(recipe, name).writes_text:
            raise ConfigurationError(f"{gguf}: {name} writes no text, which llama.cpp would run: leave --gguf out")
        source = check_gguf(gguf, recipe.base_model)
    recipe = at_base_model(adapter, recipe, digest, base_model)
    model = build(replace(recipe, adapter=replace(settings, method="lora")))
    restore_adapter(model, adapter)
    before = read_provenance(recipe.base_model)
    # Rows shape weights as they shape an adapter: without differential privacy no federation may take it as its base.
    private = before.private_text or unprotected(facts)
    origin = Provenance(recipe.base_model, before.new_tokens, private)
    whole, line = _write(model, recipe, name, out, origin)
    if gguf is not None and source is not None:
        try:
            write_gguf(whole, str(model.base.tokenizer.chat_template), source, gguf)
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)  # so that the same command can be given again
            raise
    return line


def _write(model: AdaptedModel, recipe: Manifest, name: str, out: Path, origin: Provenance) -> tuple[Any, str]:
    """Write the merged directory. Return the model, and the line of Python that loads it."""
    module: Any = model.module
    merged = module.merge_and_unload()
    labels, head = recipe.tasks[name], _head(recipe, name)
    whole, auto, code = _standalone(merged, name, head, len(labels))
    whole.config.id2label = dict(enumerate(labels))
    whole.config.label2id = {label: index for index, label in enumerate(labels)}
    with replace_directory(out) as draft:
        with quiet():
            if code:
                whole.config.auto_map = {auto: f"{code}.MeanPoolForSequenceClassification"}
            whole.save_pretrained(draft)
            model.base.tokenizer.save_pretrained(draft)
        write_provenance(draft, origin)
        if code:
            (draft / f"{code}.py").write_text(_code_file(whole))
        _refuse_unloadable(draft, _loader(whole) if code else getattr(transformers, auto))
    return whole, f'transformers.{auto}.from_pretrained("{out}"{", trust_remote_code=True" if code else ""})'


def _code_file(whole: Any) -> str:
    """The source of `merged_head` for the configuration class and the attention of this model."""
    text = Path(merged_head.__file__).read_text().replace("BertConfig", type(whole.config).__name__)
    return text.replace("_supports_sdpa = True", f"_supports_sdpa = {_supports_sdpa(whole)}")


def _loader(whole: Any) -> Any:
    """The class that the written code file defines."""
    changed = {"config_class": type(whole.config), "_supports_sdpa": _supports_sdpa(whole)}
    return type("_Loader", (merged_head.MeanPoolForSequenceClassification,), changed)


def _supports_sdpa(whole: Any) -> bool:
    return bool(getattr(whole.encoder, "_supports_sdpa", False))


def _refuse_unloadable(directory: Path, loader: Any) -> None:
    """Load the written model as its line of Python does.

    Raises:
        ModelError: it does not load, or lacks weights.
    """
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, info = loader.from_pretrained(directory, output_loading_info=True, trust_remote_code=False)
    except Exception as error:  # an architecture's loader may fail in any way
        reason = str(error).strip().partition("\n")[0][:120]
        raise ModelError(f"merge: transformers cannot load the merged model ({reason}): keep the adapter") from error
    if info["missing_keys"]:
        raise ModelError(f"merge: the merged model lacks {sorted(info['missing_keys'])[0]}: keep the adapter")


def _head(recipe: Manifest, name: str) -> Head:
    return next(kind.head for kind in recipe.kinds if kind.name == name)


def _standalone(merged: nn.Module, name: str, head: Head, labels: int) -> tuple[Any, str, str]:
    """The merged weights in a transformers class, the auto class that loads it, and the code file it needs or ""."""
    if head.writes_text:
        writer: Any = merged
        return merged, "AutoModelForSeq2SeqLM" if writer.config.is_encoder_decoder else "AutoModelForCausalLM", ""
    if isinstance(merged, SharedEncoder) and head.labels_words:
        return _token_model(merged, name, labels), "AutoModelForTokenClassification", ""
    if isinstance(merged, SharedEncoder | MeanPoolClassifier):
        config: Any = merged.config
        config.num_labels = labels
        with quiet():
            whole = merged_head.MeanPoolForSequenceClassification(config)
        whole.encoder = merged.encoder
        whole.classifier.load_state_dict(merged.get_submodule(_classifier(merged, name)).state_dict())
        return whole, "AutoModelForSequenceClassification", MERGED_CODE
    kind = "AutoModelForTokenClassification" if head.labels_words else "AutoModelForSequenceClassification"
    return merged, kind, ""


def _classifier(merged: nn.Module, name: str) -> str:
    return name if isinstance(merged, SharedEncoder) else "classifier"


def _token_model(merged: SharedEncoder, name: str, labels: int) -> Any:
    """The architecture's own token classifier: like ours, a linear layer on each hidden state."""
    config: Any = merged.config
    config.num_labels = labels
    with quiet():
        whole = transformers.AutoModelForTokenClassification.from_config(config, trust_remote_code=False)
    setattr(whole, whole.base_model_prefix, merged.encoder)
    whole.classifier.load_state_dict(merged.get_submodule(name).state_dict())
    return whole
