"""The doctor: each planted fault is found and named, and a good set-up gives no word of complaint."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from foundation.errors import InputError
from r1_searcher.doctor.__main__ import main
from r1_searcher.doctor.checks import CHECKS
from r1_searcher.doctor.memory import check_memory
from r1_searcher.doctor.service import check_retriever
from r1_searcher.doctor.versions import Installed, check_versions, read_pins
from r1_searcher.episode.question import QARow
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.inspection.checks import examine
from r1_searcher.inspection.episode import check_episode
from r1_searcher.inspection.finding import Finding, Level
from r1_searcher.inspection.prompt import check_answers, check_chat, check_length
from r1_searcher.inspection.saving import check_saving, refuse_unsavable
from r1_searcher.inspection.subject import SAMPLE_ROW, Subject, load_subject
from r1_searcher.inspection.vocabulary import check_additions, check_eos, check_ids, check_stops, check_tags
from r1_searcher.memory.fit import Cards
from r1_searcher.memory.phases import GIB
from r1_searcher.recipe.recipe import RECIPES
from retriever.index.bm25 import Bm25Index
from retriever.passage import Hit, Passage
from retriever.wire.bodies import RequestLimits
from retriever.wire.formats import FORMATS

BASE = Path(__file__).resolve().parents[3] / "data_prep" / "tiny" / "model"
TINY = RECIPES["tiny.stage2"]
PASSAGES = [Passage(str(i), f"Town {i}", f"The river number {i} flows through the town.") for i in range(20)]
# Of a 7B model, as its config.json has it.
LARGE = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
}


@pytest.fixture(scope="session")
def good() -> Subject:
    return load_subject(TINY, str(BASE))


@pytest.fixture(scope="session")
def live_url() -> Iterator[str]:
    """The real service over a real index."""
    from werkzeug.serving import make_server

    from retriever.server.app import create_app

    server = make_server("127.0.0.1", 0, create_app(Bm25Index.build(PASSAGES)), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


def with_prompt(subject: Subject, prompt: str) -> Subject:
    return with_recipe(subject, protocol=replace(subject.protocol, prompt=prompt))


def with_recipe(subject: Subject, **changes: object) -> Subject:
    return replace(subject, recipe=replace(subject.recipe, **changes))


def with_limits(subject: Subject, **changes: int) -> Subject:
    return with_recipe(subject, limits=replace(subject.recipe.limits, **changes))


def with_tokenizer(subject: Subject, hf: object) -> Subject:
    return replace(subject, tokenizer=HFTokenizer(hf), generation_config={}, config={})


def says(finding: Finding, level: Level, *words: str) -> None:
    line = finding.line("check")
    assert finding.level is level, line
    assert all(word in line for word in words), line
    assert bool(finding.advice) == (level is not Level.OK) and "\n" not in line


def byte_pairs(texts: list[str], size: int = 400, specials: tuple[str, ...] = ("</s>",)):
    """A byte-level BPE without a splitting expression: it merges whatever stands together often."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    return raw


def fast(raw, **options):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=raw, **{"eos_token": "</s>", **options})


def test_a_good_setup_gets_no_word_of_complaint(live_url, capsys):
    status = main(["--recipe", "tiny.stage2", "--model", str(BASE), "--search", live_url])
    lines = capsys.readouterr().out.splitlines()
    assert status == 0 and len(lines) == len(CHECKS)
    assert all(line.startswith("ok ") for line in lines), lines


def test_a_merge_of_a_tag_with_the_newline_is_found(good):
    text = "<|end_of_query|>\n\n<|begin_of_documents|>\n</think>\n<answer>"
    subject = with_tokenizer(good, fast(byte_pairs([text] * 50)))
    says(check_tags(subject), Level.WARNING, "merges", "\\n", "special tokens")
    says(check_stops(subject), Level.WARNING, "run past a stop string", "'>\\n")
    assert check_episode(subject).level is Level.OK  # spans are recorded by position: nothing is lost


def test_a_normaliser_that_makes_tags_of_look_alikes_is_found(good):
    from tokenizers import normalizers

    raw = byte_pairs(["<|end_of_query|></think>"] * 5)
    raw.normalizer = normalizers.NFKC()
    says(check_tags(with_tokenizer(good, fast(raw))), Level.FAILED, "a passage can forge a tag", "NFKC")


def test_a_tag_that_swallows_the_newline_is_found(good):
    from tokenizers import AddedToken

    hf = fast(byte_pairs(["some text"]))
    hf.add_tokens([AddedToken("<|end_of_query|>", rstrip=True, normalized=False)])
    subject = with_tokenizer(good, hf)
    says(check_tags(subject), Level.FAILED, "<|end_of_query|>\\n", "do not survive")


def test_a_vocabulary_without_such_tokens_has_no_overshoot(good):
    says(check_stops(good), Level.OK, "<|end_of_query|>")


@pytest.mark.parametrize("piece", [">.", "y|>x", "<|end_of_query|> "])
def test_every_way_to_run_past_a_stop_is_counted(good, piece):
    hf = fast(byte_pairs(["some text"]))
    hf.add_tokens([piece])
    says(check_stops(with_tokenizer(good, hf)), Level.WARNING, "1 tokens", repr(piece))


def test_a_tokenizer_that_puts_a_bos_before_texts_is_found(good):
    from tokenizers import processors

    raw = byte_pairs(["some text"], specials=("<s>", "</s>"))
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    hf = fast(raw, bos_token="<s>")
    hf.chat_template = TURNS
    subject = with_tokenizer(good, hf)
    says(check_additions(subject), Level.OK)  # a plain prompt begins with it
    chat = with_recipe(subject, protocol=RECIPES["research.chat"].protocol)
    says(check_additions(chat), Level.WARNING, "'<s>'", "BOS", "template")


def test_a_tokenizer_that_inserts_a_bos_into_every_piece_is_found(good):
    from tokenizers import normalizers

    raw = byte_pairs(["some text"], specials=("<s>", "</s>"))
    raw.normalizer = normalizers.Prepend("<s>")
    subject = with_tokenizer(good, fast(raw, bos_token="<s>"))
    says(check_additions(subject), Level.FAILED, "<s>", "adds to every piece")
    says(check_episode(subject), Level.FAILED)


@pytest.mark.parametrize("recipe", ["research.chat", "search_r1", "r1_searcher.chat.stage2"])
def test_a_template_that_opens_the_thought_itself_keeps_the_rules(good, recipe):
    """huggingface/open-r1 #560, modelscope/ms-swift #9764: DeepSeek-R1-Distill, Qwen3-Thinking."""
    import copy

    hf = copy.deepcopy(good.tokenizer.hf)
    hf.chat_template = f"{TURNS}{{{{ '<think>\\n' }}}}"
    subject = replace(with_tokenizer(good, hf), recipe=RECIPES[recipe])
    assert subject.prompt(SAMPLE_ROW).endswith("<think>\n")
    says(check_episode(subject), Level.OK)


def test_a_template_without_system_messages_is_a_doubt(good):
    import copy

    hf = copy.deepcopy(good.tokenizer.hf)
    hf.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + TURNS
    subject = replace(with_tokenizer(good, hf), recipe=RECIPES["research.chat"])
    says(check_chat(subject), Level.WARNING, "system message", "--system-prompt-file")
    says(check_episode(subject), Level.OK)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        # OpenRLHF/OpenRLHF #212, huggingface/transformers #29988, HKUDS/UrbanGPT #21
        ({"do_sample": False, "temperature": 0.9, "top_p": 0.6}, ["temperature", "top_p"]),
        ({"temperature": 1e-06}, ["temperature"]),  # QwenLM/Qwen3-ASR #210
        ({"do_sample": False, "temperature": 0.0, "top_k": 1}, ["temperature", "top_k"]),  # modelscope/ms-swift #1943
        ({"num_beams": 1, "early_stopping": True}, ["early_stopping"]),
        ({"do_sample": True, "temperature": 0.9, "top_p": 0.6}, []),
        ({}, []),
    ],
)
def test_generation_settings_that_cannot_be_saved_are_found(settings, said, tmp_path):
    """What the check says is what happens: transformers is asked to write them."""
    from transformers import GenerationConfig

    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "pad_token_id": 1, **settings}))
    finding = check_saving(load_subject(TINY, str(folder)))
    says(finding, Level.FAILED if said else Level.OK, *said)
    wanted = pytest.raises(ValueError, match="invalid") if said else contextlib.nullcontext()
    with wanted:
        GenerationConfig.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match=said[0]) if said else contextlib.nullcontext():
        refuse_unsavable(str(folder))  # what r1_searcher.sft asks


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_an_eos_mismatch_is_found(tmp_path, file):
    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    if file == "config.json":
        (folder / "generation_config.json").unlink()
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**settings, "eos_token_id": 5}))
    subject = load_subject(TINY, str(folder))
    says(check_eos(subject), Level.FAILED, "'<|endoftext|>'", "'<|end_of_query|>'", "5")


def test_several_eos_of_the_engine_may_hold_the_tokenizers(good):
    says(check_eos(replace(good, generation_config={"eos_token_id": [7, 0]})), Level.OK)


def test_a_tokenizer_without_eos_is_found(good):
    subject = with_tokenizer(good, fast(byte_pairs(["some text"]), eos_token=None))
    says(check_eos(subject), Level.FAILED, "no EOS")
    says(check_episode(subject), Level.FAILED)


@pytest.mark.parametrize(
    ("tokens", "level", "words"),
    [
        ({}, Level.OK, ("below",)),
        # google/gemma-3-1b-it: a token for pictures, which no text holds
        ({"additional_special_tokens": ["<image_soft_token>"]}, Level.WARNING, ("1 of", "<image_soft_token>")),
        # huggingface/transformers #12763, #11008, sillsdev/silnlp #1033: added, and the model was not resized
        ({"pad_token": "[PAD]"}, Level.FAILED, ("its padding", "resize")),
        ({"additional_special_tokens": ["<|begin_of_query|>"]}, Level.FAILED, ("<|begin_of_query|>", "resize")),
        ({"eos_token": "<|im_end|>"}, Level.FAILED, ("its EOS",)),
    ],
)
def test_tokens_without_a_row_in_the_embeddings(good, tokens, level, words):
    hf = fast(byte_pairs(["some text"]))
    rows = len(hf)
    hf.add_special_tokens(tokens)
    says(check_ids(replace(with_tokenizer(good, hf), config={"vocab_size": rows})), level, *words)


def test_a_model_that_does_not_say_its_rows_is_not_doubted(good):
    says(check_ids(replace(good, config={})), Level.OK)


TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}<|assistant|>"


def chat_subject(good: Subject, recipe: str, template: str | None, eos: str = "</s>") -> Subject:
    hf = fast(byte_pairs(["some text"], specials=("</s>", "<|end|>")), chat_template=template, eos_token=eos)
    hf.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    return replace(with_tokenizer(good, hf), recipe=RECIPES[recipe])


def test_a_template_that_ends_turns_with_another_token_is_found(good):
    says(check_eos(chat_subject(good, "r1_searcher.chat.stage2", TURNS)), Level.FAILED, "'<|end|>'", "'</s>'")
    says(check_eos(chat_subject(good, "search_r1", TURNS)), Level.WARNING, "turns end at tags here")
    says(check_eos(chat_subject(good, "search_r1", TURNS, eos="<|end|>")), Level.OK)


def test_a_missing_or_poor_chat_template_is_found(good):
    missing = chat_subject(good, "search_r1", None)
    says(check_chat(missing), Level.FAILED, "no chat template")
    found = dict(examine(missing))
    assert found["length"].level is Level.FAILED and "template" in found["length"].text  # and no check crashes
    deaf = TURNS.replace("{{ m.content }}", "")
    says(check_chat(chat_subject(good, "search_r1", deaf)), Level.FAILED, "does not show")
    broken = TURNS.replace("{{ m.content }}", "{{ raise_exception('no system role') }}")
    assert dict(examine(chat_subject(good, "search_r1", broken)))["chat"].level is Level.FAILED
    toolless = TURNS.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
    says(check_chat(chat_subject(good, "deep_researcher", toolless)), Level.FAILED, "tool messages")
    strict = TURNS.replace("{{ m.content }}", "{{ raise_exception('no tools') if m.role == 'tool' else m.content }}")
    found = dict(examine(chat_subject(good, "deep_researcher", strict)))
    assert found["chat"].level is found["episode"].level is Level.FAILED and "no tools" in found["chat"].text
    says(check_chat(chat_subject(good, "deep_researcher", TURNS)), Level.OK, "tool results")


@pytest.mark.parametrize("name", RECIPES)
def test_a_well_formed_episode_of_every_recipe_counts(good, name):
    recipe = RECIPES[name]
    subject = chat_subject(good, name, TURNS, eos="<|end|>") if recipe.protocol.chat else good
    says(check_episode(replace(subject, recipe=recipe)), Level.OK, "are trained")


def test_a_prompt_that_does_not_fit_the_rewards_rules_is_found(good):
    """R1-Searcher's rules want no <think> from the policy; after this prompt it would have to write one."""
    subject = with_prompt(good, "Question : {question}\n")
    says(check_episode(subject), Level.FAILED, "think_closed_once")


@pytest.mark.parametrize("max_length, level", [(384, Level.OK), (110, Level.WARNING), (60, Level.FAILED)])
def test_a_maximum_length_that_is_too_short_is_found(good, max_length, level):
    finding = check_length(with_limits(good, max_length=max_length))
    says(finding, level, str(max_length))
    assert level is Level.OK or "--max-length" in finding.advice


def test_more_tokens_than_the_model_has_positions_are_found(good):
    says(check_length(with_limits(good, max_length=4096)), Level.FAILED, "4096", "2048 positions")


def test_a_finished_answer_where_the_policy_goes_on_is_found(good):
    behind = with_prompt(good, "Question : {question}\n<answer> Paris </answer>\n<think>")
    says(check_answers(behind), Level.FAILED, "'Paris'", "where the policy continues")
    opened = with_prompt(good, "Question : {question}\n<answer>")
    says(check_answers(opened), Level.FAILED, "opens <answer> itself")
    row = QARow(id="q7", question="Is <answer> Rome </answer> right ?", answers=("no",), source="test")
    says(check_answers(replace(good, rows=(SAMPLE_ROW, row))), Level.OK)  # special tokens are text in a question
    plain = with_tokenizer(good, fast(byte_pairs(["Is <answer> Rome"] * 5)))
    says(check_answers(replace(plain, rows=(SAMPLE_ROW, row))), Level.FAILED, "'q7'", "'Rome'")
    example = with_prompt(good, "As in <answer> Paris </answer> . Question : {question}\n<think>")
    says(check_answers(example), Level.WARNING, "example", "'Paris'")


@pytest.mark.parametrize("name", [name for name in RECIPES if not RECIPES[name].protocol.chat])
def test_the_prompts_of_the_recipes_are_in_order(good, name):
    says(check_answers(replace(good, recipe=RECIPES[name])), Level.OK)


def foreign_server(answer) -> ThreadingHTTPServer:
    """A server that answers a POST with `answer(path, body)`: None is 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def served():
    servers = []

    def start(answer) -> str:
        servers.append(foreign_server(answer))
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def in_format(name: str, hits=lambda ask: tuple(Hit(passage, 1.0) for passage in PASSAGES[: ask.top_k])):
    wire_format = FORMATS[name]

    def answer(path: str, body: bytes) -> bytes | None:
        if path != wire_format.path:
            return None
        ask = wire_format.decode_request(json.loads(body), RequestLimits())
        return wire_format.encode_answer(ask, [hits(ask) for _ in ask.queries])

    return answer


def test_a_dead_retriever_is_found(good):
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        says(check_retriever(replace(good, search=url)), Level.FAILED, "does not answer", "start it")


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("own", "research_batch")])
def test_another_dialect_is_named(good, served, name):
    url = served(in_format(name))
    says(check_retriever(replace(good, search=url)), Level.FAILED, repr(name))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("search_r1", "/retrieve"),
        ("search_r1", "?wire=search_r1"),
        ("zerosearch", "/retrieve?wire=zerosearch"),
        ("r1_searcher", "/queries"),
        ("research", "?wire=research"),
    ],
)
def test_another_systems_server_is_fine_where_its_address_says_so(good, served, name, address):
    finding = check_retriever(replace(good, search=served(in_format(name)) + address))
    assert finding.level is not Level.FAILED, finding


def test_garbage_and_bad_addresses_are_found(good, served):
    url = served(lambda path, body: b"<html>hello</html>")
    says(check_retriever(replace(good, search=url)), Level.FAILED, "does not answer")
    says(check_retriever(replace(good, search="nonsense")), Level.FAILED, "nonsense")


def test_a_service_that_ignores_top_k_or_the_order_is_found(good, served):
    many = served(in_format("own", lambda ask: tuple(Hit(passage, 1.0) for passage in PASSAGES)))
    says(check_retriever(replace(good, search=many)), Level.FAILED, "at most 2 hits")
    rising = served(in_format("own", lambda ask: tuple(Hit(PASSAGES[i], float(i)) for i in range(ask.top_k))))
    says(check_retriever(replace(good, search=rising)), Level.WARNING, "not best first")
    mute = served(in_format("own", lambda ask: (Hit(Passage("1", "t", " "), 1.0),)))
    says(check_retriever(replace(good, search=mute)), Level.FAILED, "without text")


def test_questions_that_find_nothing_are_worth_a_word(good, live_url):
    row = QARow(id="q", question="xyzzy", answers=("a",), source="test")
    says(check_retriever(replace(good, rows=(row,), search=live_url)), Level.WARNING, "right corpus")


def installed(folder: Path, **packages: tuple[str, list[str]]) -> Installed:
    """Real metadata folders, as pip leaves them."""
    for name, (version, requires) in packages.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name.replace('_', '-')}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {text}" for text in requires)]) + "\n")
    return Installed.read([str(folder)])


STACK = {
    "openrlhf": ("0.11.2", ["transformers>=5", "flash-attn==2.8"]),
    "vllm": ("0.29.0", ["torch==2.13.0", 'ray[cgraph]>=2.48 ; extra == "ray"']),
    "deepspeed": ("0.19.6", []),
    "ray": ("2.55.0", []),
    "torch": ("2.13.0+cu130", []),
    "transformers": ("5.15.0", []),
}
PINS = {name: version.partition("+")[0] for name, (version, _) in STACK.items()}


@pytest.mark.parametrize(
    "changes, level, words",
    [
        ({}, Level.OK, ["vllm 0.29.0", "torch 2.13.0+cu130"]),
        ({"torch": ("2.12.1+cu130", [])}, Level.FAILED, ["vllm 0.29.0", "built for torch==2.13.0", "found 2.12.1"]),
        ({"transformers": ("4.57.0", [])}, Level.FAILED, ["openrlhf", "asks for transformers>=5"]),
        ({"ray": ("2.56.0", [])}, Level.WARNING, ["ray 2.56.0 (pinned: 2.55.0)"]),
        ({"deepspeed": None}, Level.FAILED, ["not installed: deepspeed", "setup.sh"]),
        ({"vllm": None}, Level.FAILED, ["not installed: vllm"]),
    ],
)
def test_versions_that_do_not_fit_are_found(tmp_path, changes, level, words):
    packages = {name: package for name, package in {**STACK, **changes}.items() if package is not None}
    pins = {name: version if name != "torch" else "2.13.0+cu130" for name, version in PINS.items()}
    says(check_versions(installed(tmp_path, **packages), pins), level, *words)


def test_pins_are_read_from_requirements_files(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "# torch==1.0\ntorch==2.13.0+cpu  # the build\nMy_Package==1\n\n-r more\n"
    )
    assert read_pins([tmp_path / "requirements.txt"]) == {"torch": "2.13.0+cpu", "my-package": "1"}


def test_memory_is_planned_from_the_runs_flags(good):
    """GPUs by `memory/`'s plan; where no flags are given there is nothing to plan."""
    flags = ("--actor.num_gpus_per_node", "4", "--vllm.gpu_memory_utilization", "0.8", "--ds.packing_samples")
    flags = (*flags, "--algo.advantage.estimator", "reinforce", "--algo.kl.init_coef", "0", "--data.max_len", "8192")
    large = replace(good, config=LARGE, model="org/large", flags=(*flags, "--actor.gradient_checkpointing_enable"))
    says(check_memory(large, Cards.parse("8x80")), Level.OK, "needs 6", "of 79.6")
    says(check_memory(large, Cards.parse("8x59")), Level.WARNING, "keep 5% free")
    says(check_memory(large, Cards.parse("8x30")), Level.FAILED, "--ds.zero_stage 3", "--ds.adam_offload")
    says(check_memory(replace(large, flags=()), Cards.parse("8x80")), Level.WARNING, "--preset NAME", "--gpus 8x80")
    says(check_memory(good, 16.0 * GIB), Level.OK, "0.6 M parameters", "of RAM (actor")
    says(check_memory(good, 2.0 * GIB), Level.FAILED, "smaller model")
    says(check_memory(replace(large, config={}), 8.0 * GIB), Level.WARNING, "no hidden_size")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--recipe", "nonsense", "--model", str(BASE)], "unknown recipe 'nonsense'"),
        (["--recipe", "tiny.stage2", "--model", "/nowhere/model"], "model path not found"),
        (["--recipe", "tiny.stage2", "--model", str(BASE), "--max-length", "8"], "max_length 8"),
        (["--recipe", "tiny.stage2", "--model", str(BASE), "--data", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["--recipe", "tiny.stage2", "--model", str(BASE), "--prompt-file", "/nowhere.txt"], "/nowhere.txt"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, words):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err and shown.err.count("\n") == 1 and shown.out == ""


@pytest.mark.parametrize(("file", "level"), [(None, "warning"), ("", "ok"), ("Search.", "warning")])
def test_a_system_message_can_be_switched_off_by_an_empty_file(tmp_path, capsys, file, level):
    """google-deepmind/gemma #203: a template that raises on one."""
    shutil.copytree(BASE, tmp_path / "model")
    raising = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(raising + TURNS)
    given = []
    if file is not None:
        (tmp_path / "system.txt").write_text(file)
        given = ["--system-prompt-file", str(tmp_path / "system.txt")]
    main(["--recipe", "r1_searcher.chat.stage2", "--model", str(tmp_path / "model"), *given])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[1] == "chat")
    assert line.split()[0] == level, line


def test_a_failed_check_is_the_status(capsys):
    assert main(["--recipe", "tiny.stage2", "--model", str(BASE), "--max-length", "60"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("FAILED")] == ["length"]
    assert " -> raise --max-length" in next(line for line in lines if line.startswith("FAILED"))
