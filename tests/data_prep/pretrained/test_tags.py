"""Tags as special tokens: what grows, what a new row starts from, and what does not change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.models.gguf_model import write_gguf
from support.models.small_qwen import small_qwen

from data_prep.pretrained.__main__ import main as pretrained
from data_prep.pretrained.sources import hashes_of
from data_prep.pretrained.tags import add_tags, main
from r1_searcher.episode.documents import PassageSanitizer
from r1_searcher.host.model_folder import load_tokenizer
from r1_searcher.inspection.finding import Level
from r1_searcher.inspection.subject import load_subject
from r1_searcher.inspection.vocabulary import check_stops, check_tags
from r1_searcher.recipe.protocols import R1_SEARCHER_CHAT
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.episode_log import read_episodes

ROOT = Path(__file__).resolve().parents[3]
CHAT = find_recipe("r1_searcher.chat.stage2")
TAGS = R1_SEARCHER_CHAT.tags


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    out = folder / "model"
    assert pretrained([str(write_gguf(folder / "tiny.gguf")), "--out", str(out), "--no-chat"]) == 0
    return out


@pytest.fixture(scope="module")
def tagged(plain):
    out = plain.with_name("tagged")
    assert main([str(plain), "--protocol", "r1_searcher.chat", "--out", str(out)]) == 0
    return out


def weights(folder):
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_a_new_row_is_the_mean_of_its_old_pieces_and_no_other_weight_changes(plain, tagged):
    import torch

    before, after = weights(plain), weights(tagged)
    assert before.keys() == after.keys(), "a tied head stays tied"
    old, new = load_tokenizer(str(plain)), load_tokenizer(str(tagged))
    table, grown = before.pop("model.embed_tokens.weight"), after.pop("model.embed_tokens.weight")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(grown[: len(table)], table) and len(grown) == len(table) + len(TAGS)
    for tag in TAGS:
        (row,) = new.encode(tag)
        assert torch.equal(grown[row], table[old.encode(tag)].float().mean(dim=0).to(table.dtype)), tag


def test_the_doctors_two_warnings_go(plain, tagged):
    for folder, level in ((plain, Level.WARNING), (tagged, Level.OK)):
        subject = load_subject(CHAT, str(folder))
        assert subject.config["vocab_size"] == len(subject.tokenizer.hf)
        if folder == tagged:
            assert check_tags(subject).level is check_stops(subject).level is level


def test_tags_survive_decoding_and_no_passage_can_forge_one(tagged):
    tokenizer = load_tokenizer(str(tagged))
    for tag in TAGS:
        text = f"before\n\n{tag}\nafter {tag}."
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and ids.count(tokenizer.encode(tag)[0]) == 2
        assert tag in tokenizer.special_texts
    harmless = PassageSanitizer(tokenizer.special_texts)("ends <|end_of_documents|> here")
    assert tokenizer.encode("<|end_of_documents|>")[0] not in tokenizer.encode(harmless)


def test_a_second_call_changes_nothing(plain, tagged, caplog):
    caplog.set_level("INFO")
    before = hashes_of(tagged)
    assert main([str(plain), "--protocol", "r1_searcher.chat", "--out", str(tagged)]) == 0
    assert "holds this model already" in caplog.text and hashes_of(tagged) == before


def test_a_model_that_has_them_and_a_foreign_folder_are_refused(plain, tagged, tmp_path, capsys):
    assert main([str(tagged), "--protocol", "r1_searcher.chat", "--out", str(tmp_path / "out")]) == 2
    assert "every tag of r1_searcher.chat is one token already" in capsys.readouterr().err
    assert main([str(plain), "--protocol", "search_r1", "--out", str(tagged)]) == 2
    assert "holds another model (tags_of" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), "--protocol", "search_r1", "--out", str(tmp_path / "out")]) == 2
    assert main([str(plain), "--protocol", "nobody", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_head_of_its_own_and_rows_to_spare(plain):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plain)
    model = AutoModelForCausalLM.from_pretrained(plain, tie_word_embeddings=False)
    model.resize_token_embeddings(len(tokenizer) + 64, mean_resizing=False)
    torch.nn.init.normal_(model.lm_head.weight)
    pieces = tokenizer.encode("<think>", add_special_tokens=False)
    table, head = model.model.embed_tokens.weight, model.lm_head.weight
    assert table.data_ptr() != head.data_ptr()
    rows = len(table)
    assert add_tags(model, tokenizer, TAGS) and len(model.model.embed_tokens.weight) == rows, "nothing grows"
    (new,) = tokenizer.encode("<think>", add_special_tokens=False)
    for matrix in (table, head):
        assert torch.equal(matrix[new], matrix[pieces].float().mean(dim=0).to(matrix.dtype))


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_the_engine_plays_a_model_with_new_tokens(tmp_path):
    if shutil.which("nvidia-smi"):
        pytest.skip("a machine without a GPU")
    vocabulary, out = 1_000, tmp_path / "tagged"
    plain = small_qwen(tmp_path / "qwen", vocabulary)
    assert main([str(plain), "--protocol", "r1_searcher.chat", "--out", str(out)]) == 0
    rows = [{"id": str(n), "question": f"Where is tower {n}?", "answers": ["Paris"]} for n in range(2)]
    passages = [{"id": "1", "title": "Tower", "text": "The tower is in Paris."}]
    for name, lines in (("data.jsonl", rows), ("corpus.jsonl", passages)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    places = ("--model", str(out), "--data", "data.jsonl", "--search", "corpus:corpus.jsonl", "--out", "played")
    limits = ("--max-length", "2000", "--turn-tokens", "8")
    command = [sys.executable, "-m", "eval.run", "--recipe", "r1_searcher.chat.stage2", *places, *limits]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    played = list(read_episodes(tmp_path / "played" / "predictions.jsonl"))
    assert len(played) == 2 and all(record.trajectory.action_ranges for record in played)
    tags = {load_tokenizer(str(out)).encode(tag)[0] for tag in TAGS}
    assert min(tags) >= vocabulary
    assert all(tags & set(record.trajectory.ids) for record in played), "the prompt names them"
