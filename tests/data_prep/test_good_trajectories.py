"""Rejection sampling: which episodes are good, and what is written of them."""

from __future__ import annotations

import json
from random import Random

import pytest
from support.models.dialect_tokenizers import dialect_tokenizer

from data_prep.good_trajectories import Choice, choose, main
from r1_searcher.episode.question import QARow
from r1_searcher.episode.tokenization import HFTokenizer
from r1_searcher.episode.trajectory import SpanKind, StopReason, TrajectoryRecorder
from r1_searcher.episode.trajectory_json import to_mapping
from r1_searcher.recipe.recipe import find_recipe
from r1_searcher.reward.rewards import RewardResult
from r1_searcher.run.episode_record import EpisodeRecord

DOCUMENTS = "\n\n<information>(1) Town Bim : mayor Xo .</information>\n\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tokenizer's folder, and the tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = dialect_tokenizer("search_r1.tiny")
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    return folder, HFTokenizer(tokenizer)


def episode(tokenizer, question="What ?", answer="Xo", reason=StopReason.ANSWERED):
    recorder = TrajectoryRecorder(QARow("q", question, ("Xo",)))
    for kind, text in (
        (SpanKind.PROMPT, f"Question : {question}\n"),
        (SpanKind.ACTION, "<think> Let me search . </think> <search> Bim mayor </search>"),
        (SpanKind.DOCUMENTS, DOCUMENTS),
        (SpanKind.FEEDBACK, "\nNot a valid action .\n"),
        (SpanKind.ACTION, f"<think> </think> <answer> {answer} </answer><|endoftext|>"),
    ):
        ids = tokenizer.encode(text)
        recorder.append(kind, ids, text, [0.0] * len(ids) if kind is SpanKind.ACTION else None)
    return recorder.finish(reason, answer=answer)


def rewarded(trajectory, total):
    return EpisodeRecord(trajectory, RewardResult(total, {}, {}))


def chosen(found, **choice):
    good = choose(found, Choice(**{"min_reward": 1.0, **choice}), Random(0))
    return [(each.trajectory.row.question, each.trajectory.answer) for each in good]


def test_what_is_good(saved):
    tokenizer = saved[1]
    good = rewarded(episode(tokenizer), 1.0)
    cut = rewarded(episode(tokenizer, answer="cut", reason=StopReason.LENGTH), 1.0)
    poor = rewarded(episode(tokenizer, answer="poor"), 0.9)
    assert chosen([poor, good, cut, good]) == [("What ?", "Xo")], "each text once"
    assert chosen([poor, good], min_reward=0.5) == [("What ?", "poor"), ("What ?", "Xo")]


def test_of_a_question_the_best_are_taken_then_the_latest(saved):
    tokenizer = saved[1]
    episodes = [rewarded(episode(tokenizer, answer=str(n)), 2.0 if n == 1 else 1.0) for n in range(5)]
    other = rewarded(episode(tokenizer, question="Who ?"), 1.0)
    assert chosen([*episodes, other], per_question=2) == [("What ?", "1"), ("What ?", "4"), ("Who ?", "Xo")]
    assert len(chosen([*episodes, other], per_question=9, episodes=3)) == 3


@pytest.fixture
def run_folder(tmp_path, saved):
    def write(*episodes):
        folder = tmp_path / "run"
        (folder / "trajectories").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"recipe": find_recipe("tiny.search_r1").to_mapping()}))
        lines = [to_mapping(each) | ({"reward": {"total": reward}} if reward is not None else {})
                 for each, reward in episodes]  # fmt: skip
        (folder / "trajectories" / "1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return write


def test_the_command_writes_one_row_per_episode(run_folder, saved, tmp_path, caplog):
    caplog.set_level("INFO")
    good = episode(saved[1])
    run = run_folder((good, 1.0), (episode(saved[1], answer="No"), 0.0))
    out = tmp_path / "new" / "sft.jsonl"
    assert main([str(run), "--model", str(saved[0]), "--min-reward", "1", "--out", str(out)]) == 0
    (row,) = [json.loads(line) for line in out.open()]
    assert row["ids"] == list(good.ids) and row["targets"] == [list(each) for each in good.action_ranges]
    assert [saved[1].decode(row["ids"][start:end]) for start, end in row["targets"]] == [
        "<think> Let me search . </think> <search> Bim mayor </search>",
        "<think> </think> <answer> Xo </answer><|endoftext|>",
    ], "no document, no correction, and EOS as it was sampled"
    assert row["text"] == "".join(span.text for span in good.spans)
    trained = sum(end - start for start, end in good.action_ranges)
    assert f"1 episodes to 1 questions; {trained} of {len(good.ids)} ids are trained" in caplog.text


def test_a_model_with_another_tokenizer_is_refused(run_folder, saved, tmp_path, capsys):
    other = tmp_path / "other"
    dialect_tokenizer("r1_searcher.tiny").save_pretrained(other)
    (other / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    out = tmp_path / "sft.jsonl"
    run = run_folder((episode(saved[1]), 1.0))
    assert main([str(run), "--model", str(other), "--min-reward", "1", "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert "not the one of the episodes" in err and err.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("reward", "arguments", "said"),
    [
        (0.0, ["--min-reward", "1"], "no answered episode"),
        (None, ["--min-reward", "1"], "has no reward"),
        (1.0, ["--min-reward", "1", "--episodes", "0"], "at least 1"),
        (1.0, ["--min-reward", "much"], "invalid float"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(run_folder, saved, tmp_path, capsys, reward, arguments, said):
    out = tmp_path / "sft.jsonl"
    run = run_folder((episode(saved[1]), reward))
    try:
        status = main([str(run), "--model", str(saved[0]), "--out", str(out), *arguments])
    except SystemExit as exit_:
        status = exit_.code
    err = capsys.readouterr().err
    assert status == 2 and said in err and err.count("\n") == 1 and not out.exists()


RELEASED = (
    " I think. <|begin_of_query|> Bim mayor<|end_of_query|>\n\n<|begin_of_documents|>\n(1)Title: Bim Text: Town Bim\n"
    "<|end_of_documents|>\n\nI see.</think>\n\n<answer> Xo </answer>"
)


@pytest.fixture
def transcripts(tmp_path):
    """Published transcripts: a right one, a wrong one, and one without an answer."""
    lines = [
        {"question": "Who ?", "answer": "Xo", "completion": RELEASED},
        {"question": "Where ?", "answer": "Bo", "completion": RELEASED},
        {"question": "When ?", "answer": "Xo", "completion": " I do not know."},
    ]
    file = tmp_path / "transcripts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


CHOSEN = ("--from-protocol", "r1_searcher.base", "--reward", "r1_searcher.stage2_em", "--min-reward", "1")
WRITTEN = ("--recipe", "tiny.search_r1", "--thoughts", "fixed", "--turn-tokens", "200", "--max-length", "900")


def test_published_transcripts_are_chosen_by_a_reward_and_written_anew(transcripts, saved, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "sft.jsonl"
    assert main([str(transcripts), "--model", str(saved[0]), "--out", str(out), *CHOSEN, *WRITTEN]) == 0
    (row,) = [json.loads(line) for line in out.open()]
    assert "Who ?" in row["text"] and "<search> Bim mayor </search>" in row["text"] and "Town Bim" in row["text"]
    trained = "".join(saved[1].decode(row["ids"][start:end]) for start, end in row["targets"])
    assert "<answer> Xo </answer>" in trained and "Town" not in trained and "begin_of_query" not in trained


def test_a_teachers_evaluation_is_written_anew_whatever_its_tokenizer(run_folder, saved, tmp_path):
    other = HFTokenizer(dialect_tokenizer("r1_searcher.tiny"))
    teacher = run_folder((episode(saved[1]), 1.0))
    model = tmp_path / "other"
    other.hf.save_pretrained(model)
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    out = tmp_path / "sft.jsonl"
    target = ("--recipe", "tiny.stage2", "--turn-tokens", "200", "--max-length", "900")
    assert main([str(teacher), "--model", str(model), "--min-reward", "1", "--out", str(out), *target]) == 0
    (row,) = [json.loads(line) for line in out.open()]
    assert "<|begin_of_query|> Bim mayor <|end_of_query|>" in row["text"] and other.decode(row["ids"]) == row["text"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*CHOSEN[2:], *WRITTEN), "--from-protocol must say"),
        (CHOSEN, "has no token ids"),
        ((*CHOSEN, "--thoughts", "first"), "--thoughts is about episodes written anew"),
        ((*CHOSEN, "--max-length", "99"), "--max-length is about episodes written anew"),
        ((*CHOSEN[:2], *CHOSEN[4:], *WRITTEN), "or give --reward"),
        ((*CHOSEN, *WRITTEN, "--searches", "2", "3"), "no answered episode"),
        ((*CHOSEN, *WRITTEN[:-1], "40"), "none can be written in tiny.search_r1 within its limits"),
    ],
)
def test_what_transcripts_need_is_one_line(transcripts, saved, tmp_path, capsys, arguments, said):
    out = tmp_path / "sft.jsonl"
    assert main([str(transcripts), "--model", str(saved[0]), "--out", str(out), *arguments]) == 2
    err = capsys.readouterr().err.splitlines()
    assert said in err[-1] and not out.exists()


def test_the_shortest_and_the_number_of_searches(saved):
    short, long = episode(saved[1]), episode(saved[1], question="A longer question ?")
    found = [rewarded(long, 1.0), rewarded(short, 1.0)]
    assert chosen(found, episodes=1, shortest=True) == [("What ?", "Xo")]
    assert chosen(found, searches=(2, 3)) == [] and len(chosen(found, searches=(1, 1))) == 2
