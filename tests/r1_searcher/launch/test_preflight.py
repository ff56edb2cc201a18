"""The checks before Ray starts, one by one; `test_bad_input` asks them through the command line."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.services.fake_endpoint import Answer, chat, serve

from foundation.errors import InputError
from r1_searcher.episode.question import QARow
from r1_searcher.host import model_folder
from r1_searcher.host.command import build_command
from r1_searcher.host.device import Device
from r1_searcher.launch import preflight
from r1_searcher.memory.fit import Cards
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.run.run_config import JudgeConfig, RetrieverConfig, RunConfig
from r1_searcher.run.run_folder import RunFolder
from retriever.index.corpus import corpus_hash, read_corpus

RECIPE = find_recipe("tiny.stage1")
MODEL = Path(__file__).resolve().parents[3] / "data_prep" / "tiny" / "model"
ROWS = [QARow(f"q{number}", "Who?", ("x",)) for number in range(16)]


def command(*flags: str):
    return build_command(RECIPE, Path("/run"), flags, Device.CUDA)


@pytest.fixture
def answering():
    """Starts an HTTP server that answers every GET and POST with this status; gives its URL."""
    servers = []

    def start(status: int, body: bytes = b"{}") -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_model_folder_and_a_hub_name_pass(model, monkeypatch):
    model_folder.check_model_path(str(model))
    model_folder.check_model_path("Qwen/Qwen2.5-7B")
    monkeypatch.chdir(model.parents[2])
    model_folder.check_model_path("data_prep/tiny/model")


@pytest.mark.parametrize("name", ["", None])
def test_a_model_must_be_named(name):
    with pytest.raises(InputError, match=r"--actor\.model_name_or_path"):
        model_folder.check_model_path(name)


@pytest.mark.parametrize("name", ["./x/y", "/x", "~/x", "a/b/c", "models", "../m/n"])
def test_a_missing_local_model(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="model path not found"):
        model_folder.check_model_path(name)


def test_a_file_is_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights.bin").write_text("")
    with pytest.raises(InputError, match="model path not found"):
        model_folder.check_model_path("models/weights.bin")


def test_a_tokenizer_is_loaded_from_its_folder(model):
    assert len(model_folder.load_tokenizer(str(model)).encode("Who?")) > 0


def test_a_model_folder_without_a_tokenizer(model, tmp_path):
    """transformers makes an empty tokenizer out of config.json alone."""
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    with pytest.raises(InputError, match="tokenizer"):
        model_folder.load_tokenizer(str(tmp_path))


def test_a_machine_must_have_the_gpus_unless_it_joins_a_cluster():
    wanted = command("--actor.num_gpus_per_node", "4", "--algo.kl.init_coef", "0", *("--train.colocate_all",))
    preflight.check_gpus(wanted, Device.CUDA, 4, cluster=False)
    preflight.check_gpus(wanted, Device.CUDA, 0, cluster=True)
    preflight.check_gpus(wanted, Device.CPU, 1, cluster=False)
    with pytest.raises(InputError, match="ask for 4 GPUs and this machine has 3"):
        preflight.check_gpus(wanted, Device.CUDA, 3, cluster=False)


DISK = ("--ckpt.save_steps", "10", "--ckpt.max_num", "3", "--algo.kl.init_coef", "0")


def room(monkeypatch, gigabytes: float) -> None:
    usage = SimpleNamespace(free=int(gigabytes * 1e9))
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage)


def test_checkpoints_that_do_not_fit_on_the_disk_are_refused(tmp_path, monkeypatch, caplog):
    """Qwen2.5-7B: 7.616e9 parameters of 14 bytes are 107 GB for each of 3 + 1, and 15 GB for the model."""
    caplog.set_level(logging.INFO)
    wanted = command(*DISK, "--algo.advantage.estimator", "reinforce_baseline")
    room(monkeypatch, 442)
    preflight.check_disk(wanted, "Qwen/Qwen2.5-7B", tmp_path / "runs" / "new")
    assert "takes 442 GB of disk: 4 checkpoints of 107 GB" in caplog.text and not (tmp_path / "runs").exists()
    room(monkeypatch, 441)
    with pytest.raises(InputError, match=r"needs 442 GB of disk.* has 441 GB; lower --ckpt.max_num"):
        preflight.check_disk(wanted, "Qwen/Qwen2.5-7B", tmp_path)
    with_models = command(*DISK, "--algo.advantage.estimator", "rloo", "--ckpt.save_hf")
    with pytest.raises(InputError, match="needs 487 GB"):
        preflight.check_disk(with_models, "Qwen/Qwen2.5-7B", tmp_path)
    with pytest.raises(InputError, match="4 checkpoints of 206 GB"):
        preflight.check_disk(command(*DISK, "--algo.advantage.estimator", "gae"), "Qwen/Qwen2.5-7B", tmp_path)


def test_what_an_earlier_attempt_has_written_counts_as_room(tmp_path, monkeypatch, model):
    wanted = command(*DISK, "--algo.advantage.estimator", "reinforce_baseline")
    room(monkeypatch, 0.02)  # four checkpoints of the tiny model take 33 MB
    with pytest.raises(InputError, match="needs 0.0343 GB"):
        preflight.check_disk(wanted, str(model), tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "file").write_bytes(b"x" * 15_000_000)
    preflight.check_disk(wanted, str(model), tmp_path)


def test_a_model_of_unknown_sizes_is_not_planned(tmp_path, caplog):
    (tmp_path / "config.json").write_text('{"model_type": "odd"}')
    preflight.check_disk(command(*DISK), str(tmp_path), tmp_path)
    assert "the disk that the run needs is not known" in caplog.text


def test_a_served_index_passes_and_says_what_it_holds(retriever_url, world):
    corpus = corpus_hash(read_corpus(world / "corpus.jsonl"))
    assert preflight.check_retriever(retriever_url) == corpus != corpus_hash(read_corpus(world / "corpus_train.jsonl"))
    assert preflight.check_retriever(retriever_url + "/") == corpus


@pytest.mark.parametrize(
    ("step", "before", "now", "said"),
    [(10, "a" * 64, "b" * 64, True), (10, "a" * 64, "a" * 64, False), (0, "a" * 64, "b" * 64, False)]
    + [(10, "", "b" * 64, False), (10, "a" * 64, "", False), (10, None, "b" * 64, False)],
)
def test_a_run_that_goes_on_with_another_corpus_says_so_in_one_line(tmp_path, caplog, step, before, now, said):
    folder = RunFolder(tmp_path)
    latest = folder.checkpoints / "_actor" / "latest"
    latest.parent.mkdir(parents=True)
    latest.write_text(f"global_step{step}")
    if before is not None:
        retriever = RetrieverConfig("http://127.0.0.1:8000", corpus=before)
        RunConfig(run_dir=str(tmp_path), recipe=RECIPE, retriever=retriever).write(folder.config_file)
        assert RunConfig.read(folder.config_file).retriever == retriever
    preflight.warn_of_another_corpus(folder, now)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == said
    assert all("until step 10" in message and "aaaaaaaaaaaa, now bbbbbbbbbbbb)" in message for message in messages)


@pytest.mark.parametrize(("status", "body"), [(500, b"{}"), (404, b"{}"), (200, b"{}"), (200, b"<html>")])
def test_a_service_that_is_no_retriever(answering, status, body):
    with pytest.raises(InputError, match="retriever") as caught:
        preflight.check_retriever(answering(status, body))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://h", "http://", "http://[::1", "127.0.0.1:8000"])
def test_a_retriever_url_that_is_none(url):
    with pytest.raises(InputError, match="retriever"):
        preflight.check_retriever(url)


def test_a_reward_file_and_a_healthy_server_pass(answering, repo):
    preflight.check_reward_url(str(repo / "r1_searcher" / "reward_func.py"))
    preflight.check_reward_url(answering(200) + "/get_reward")


def test_a_reward_server_of_others_has_no_health_address(answering):
    """OpenRLHF's wire format is one POST; its example server answers 404 to the rest."""
    preflight.check_reward_url(answering(404) + "/get_reward")


@pytest.mark.parametrize("url", ["nonsense", "ftp:/x", "http://[::1/get_reward", "dead"])
def test_a_reward_url_that_does_not_answer(url, dead_url):
    with pytest.raises(InputError, match="reward"):
        preflight.check_reward_url(dead_url if url == "dead" else url)


def test_a_reward_file_without_the_function(tmp_path):
    (tmp_path / "reward.py").write_text("def reward(queries, prompts, labels): ...\n")
    with pytest.raises(InputError, match="reward_func"):
        preflight.check_reward_url(str(tmp_path / "reward.py"))


SHARED = ("--train.colocate_all", "--vllm.num_engines", "8", "--vllm.enable_sleep", "--ds.enable_sleep")


def test_what_cannot_fit_is_refused_with_the_flag_that_helps(caplog):
    shared = command(*SHARED, "--vllm.gpu_memory_utilization", "0.7", "--ds.packing_samples")
    with pytest.raises(InputError, match=r"does not fit: .* GiB .* -> .*--ds\.zero_stage 3") as refused:
        preflight.check_memory(shared, "Qwen/Qwen2.5-7B", Cards.parse("8x80"))
    assert "\n" not in str(refused.value)
    with caplog.at_level("INFO"):
        preflight.check_memory(command("--actor.num_gpus_per_node", "1"), "Qwen/Qwen2.5-0.5B", Cards.parse("1x80"))
    assert "memory fits" in caplog.text


def test_a_kind_of_model_that_cannot_be_planned_may_train(tmp_path, caplog):
    experts = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    for config, said in (
        ({**experts, "vocab_size": 9, "num_experts": 4}, "mixture of experts"),
        ({}, "no hidden_size"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        preflight.check_memory(command(*SHARED), str(tmp_path), Cards.parse("8x24"))
        assert said in caplog.text


def test_a_model_that_the_doctor_refuses_is_refused_before_the_start(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    preflight.check_model(RECIPE, str(folder), ROWS)
    (folder / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.9, "eos_token_id": 0}')
    with pytest.raises(InputError, match="saving: .*temperature.*doctor"):
        preflight.check_model(RECIPE, str(folder), ROWS)
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')  # QwenLM/Qwen3 #927
    with pytest.raises(InputError, match="eos: .*generation_config.json"):
        preflight.check_model(RECIPE, str(folder), ROWS)


def test_a_question_that_does_not_fit_is_named():
    rows = [*ROWS, QARow("long", "word " * 3000, ("x",))]
    with pytest.raises(InputError, match="length: the prompt of question 'long' has"):
        preflight.check_model(RECIPE, str(MODEL), rows)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer({"error": {"message": "wrong key"}}, 401), "status 401: wrong key.*--judge-key-variable"),
        (Answer({"message": "The model `m` does not exist."}, 404), "model `m` does not exist"),
        (chat("Let me see"), "it said 'Let me see', expected True or False"),
    ],
)
def test_a_judge_that_cannot_be_used_is_found_before_the_start(answer, said):
    with serve(lambda request, seen: answer) as endpoint, pytest.raises(InputError, match=said):
        preflight.check_judge(JudgeConfig(endpoint.url, "m"))


def test_a_judge_that_answers_is_asked_once():
    with serve(lambda request, seen: chat("True. The same city.")) as endpoint:
        preflight.check_judge(JudgeConfig(endpoint.url, "m"))
        assert len(endpoint.requests) == 1
    with pytest.raises(InputError, match="the judge cannot be used: http://127.0.0.1:9"):
        preflight.check_judge(JudgeConfig("http://127.0.0.1:9", "m"))


def test_a_socks_proxy_that_the_judge_would_need_is_refused_before_the_start(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="socks5 proxy"):
        preflight.check_judge(JudgeConfig("https://judge.example.org", "m"))


def test_a_reward_server_on_this_machine_is_asked_directly(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serve(lambda request, seen: chat("True")) as endpoint:
        preflight.check_reward_url(f"{endpoint.url}/get_reward")
