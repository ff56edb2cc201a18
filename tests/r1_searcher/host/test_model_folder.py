"""A model brings code of its own only where the user trusts it, and its tokenizer the ids at which turns end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.errors import InputError
from r1_searcher.host.model_folder import check_brings_no_code, load_tokenizer, wrapped

CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import PreTrainedTokenizer

class Tokenizer(PreTrainedTokenizer):
    vocab_size = 2
    def __init__(self, **more):
        super().__init__(eos_token="b", **more)
    def get_vocab(self):
        return {{"a": 0, "b": 1}}
    def _tokenize(self, text):
        return ["a" for _ in text]
    def _convert_token_to_id(self, token):
        return self.get_vocab().get(token, 0)
    def _convert_id_to_token(self, index):
        return "ab"[index]
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder whose tokenizer is a file of Python, which leaves a mark when it runs."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    names = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "evil.py").write_text(CODE.format(marker=str(tmp_path / "ran")))
    return folder


def test_code_that_nobody_trusts_does_not_run(model):
    with pytest.raises(InputError, match="--trust-remote-code"):
        load_tokenizer(str(model))
    with pytest.raises(InputError, match=r"brings Python code of its own.*--trust-remote-code"):
        check_brings_no_code(str(model))
    assert not (model.parent / "ran").exists()


def test_code_that_is_trusted_runs(model):
    assert load_tokenizer(str(model), trust_remote_code=True).encode("xyz") == [0, 0, 0]
    assert (model.parent / "ran").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_is_found_in_every_file_that_may_name_it(tmp_path, file):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    check_brings_no_code(str(tmp_path))
    (tmp_path / file).write_text(json.dumps({"model_type": "qwen2", "auto_map": {"AutoModel": "x.Model"}}))
    with pytest.raises(InputError, match="brings Python code"):
        check_brings_no_code(str(tmp_path))


def test_no_command_loads_a_model_with_its_code_by_itself():
    """Who adds another way to load one must ask the user, too."""
    root = Path(__file__).parents[3]
    folders = ("foundation", "retriever", "r1_searcher", "eval", "data_prep")
    files = [file for folder in folders for file in (root / folder).rglob("*.py")]
    assert not [file for file in files if "trust_remote_code=True" in file.read_text()]


@pytest.mark.parametrize(
    ("settings", "ends"),
    [
        (None, {7}),
        ('{"eos_token_id": [7, 9]}', {7, 9}),
        ('{"eos_token_id": 3}', {3, 7}),
        ('{"eos_token_id": null}', {7}),
        ("no JSON", {7}),
    ],
)
def test_the_engine_also_ends_turns_at_the_ids_of_the_generation_settings(tmp_path, settings, ends):
    """Qwen2.5-Instruct's tokenizer names <|im_end|>; vLLM stops at <|endoftext|>, too."""

    class Hf:
        eos_token_id = 7
        name_or_path = str(tmp_path)

        def __call__(self, text, add_special_tokens):
            return {"input_ids": []}

    if settings is not None:
        (tmp_path / "generation_config.json").write_text(settings)
    assert wrapped(Hf()).eos_ids == ends


def test_a_tokenizer_without_a_folder_has_its_own_ends():
    class Hf:
        eos_token_id = 7

        def __call__(self, text, add_special_tokens):
            return {"input_ids": []}

    assert wrapped(Hf()).eos_ids == {7}
