"""R1-Searcher's own result files, and files of predictions as people save them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from support.hostile.any_files import encoded, json_lines, lines_in

from eval import judge, rescore, score
from eval.results.predictions import read_predictions
from eval.results.summary import FAILURES
from foundation.errors import InputError
from r1_searcher.episode.question import read_rows

TRANSCRIPT = (
    " I look it up. <|begin_of_query|> capital of Aldmere <|end_of_query|>\n\n<|begin_of_documents|>\n"
    "(1)Title: Aldmere Text: Its capital is Finch.\n<|end_of_documents|>\n\n"
    " It is Finch. </think> <answer> Finch </answer>"
)
ROW = {  # the six keys of every row of data/eval_results/{hotpotqa,bamboogle}_{qwen,llama}.jsonl, 2wiki_qwen.jsonl
    "question": "What is the capital of Aldmere?",
    "answer": "Finch",
    "pred_ans": " Finch ",
    "stop_reason_final": "finished",
    "gen_text_store": TRANSCRIPT,
    "gpt4o_output": "True",
}


def write(tmp_path: Path, *rows: dict, name: str = "pub.jsonl", encoding: str = "utf-8") -> Path:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return tmp_path / name


def test_the_published_keys_are_read(tmp_path, capsys):
    file = write(tmp_path, ROW)
    assert score.main([str(file)]) == 0
    shown = capsys.readouterr().out
    judged = shown.rpartition("judge % (of n)")[2].splitlines()[0].split()
    assert (judged[0], judged[-1]) == ("100.0", "(1)")
    (record,) = read_predictions(file)
    assert [search.query for search in record.trajectory.searches] == ["capital of Aldmere"]
    out = tmp_path / "rescored.json"
    assert rescore.main([str(file), "--reward", "r1_searcher.base_code", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["scores"] == [1.0]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([ROW, ROW], "read as R1-Searcher's result files, 2 of them"),
        ([{"question": "q", "answer": "a", "pred_ans": "a"}], "read as the published form, 1 of them"),
        ([ROW, {"question": "q", "answer": "a", "pred_ans": "a"}],
         "read as R1-Searcher's result files, 1 of them; the published form, 1 of them"),
    ],
)  # fmt: skip
def test_what_a_file_was_taken_for_is_said(tmp_path, caplog, rows, told):
    caplog.set_level("INFO")
    file = write(tmp_path, *rows)
    for command in (score, judge):
        caplog.clear()
        assert len(command.read_predictions(file)) == len(rows)
        assert caplog.messages == [f"{file}: {told}"]
    caplog.clear()
    assert rescore.main([str(write(tmp_path, ROW)), "--reward", "r1_searcher.base_code"]) == 0
    assert caplog.messages[0].endswith("read as R1-Searcher's result files, 1 of them")


def test_a_line_that_a_killed_command_left_is_told(tmp_path, caplog):
    file = write(tmp_path, ROW, ROW)
    file.write_bytes(file.read_bytes()[:-9])
    assert len(read_predictions(file)) == 1
    assert caplog.messages == [f"{file}: line 2, the last one, is unfinished and left out"]


@pytest.mark.parametrize(
    ("changed", "judged"),
    [
        ({"gpt4o_output": "False"}, False),
        ({"gpt4o_output": "true\n"}, True),
        ({"gpt4o_output": "！！ No boxed here ！！"}, None),  # evaluation/metric_calc_gpt_as_judge.py, where it fails
        ({"gpt4o_output": None}, None),
        ({"gpt4o_output": True}, True),
        ({"judge": "False"}, False),
    ],
)
def test_the_judges_word(tmp_path, changed, judged):
    assert read_predictions(write(tmp_path, ROW | changed))[0].judged is judged


def test_the_ends_that_the_published_script_writes(tmp_path):
    """evaluation/eval_search_loacl.py: `shot_down` has no text, `retrieve_error` neither text nor prediction."""
    no_text = {key: value for key, value in ROW.items() if key not in ("gen_text_store", "gpt4o_output")}
    shot_down = no_text | {"stop_reason_final": "shot_down", "pred_ans": "I don't know."}
    failed = {key: value for key, value in no_text.items() if key != "pred_ans"}
    records = read_predictions(write(tmp_path, shot_down, failed | {"stop_reason_final": "retrieve_error"}))
    assert [record.failed for record in records] == [False, True]
    assert records[0].answer == "I don't know." and records[1].answer is None
    with pytest.raises(InputError, match="line 1: expected 'spans'"):
        read_predictions(write(tmp_path, failed))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_a_mark_and_a_packing_do_not_matter(tmp_path, encoding, name):
    file = write(tmp_path, ROW, ROW, name=name, encoding=encoding)
    assert len(read_predictions(file)) == 2 and score.main([str(file)]) == 0


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "p.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1e08\nsize 886\n")
    for read in (read_predictions, read_rows):
        with pytest.raises(InputError, match="p.jsonl.*git lfs pull"):
            read(tmp_path / "p.jsonl")


@pytest.mark.parametrize(("said", "answer"), [(1965, "1965"), (True, "yes"), (None, None)])
def test_predictions_that_are_no_strings(tmp_path, said, answer):
    assert read_predictions(write(tmp_path, ROW | {"pred_ans": said}))[0].answer == answer


def test_half_an_emoji_is_named_by_its_line(tmp_path):
    with pytest.raises(InputError, match="line 2: an answer holds half of a surrogate pair"):
        read_predictions(write(tmp_path, ROW, ROW | {"answer": "\ud83d"}))


OURS = {
    "row": {"id": "1", "question": "q", "answers": ["a"], "source": "s", "hops": 2, "titles": ["t"]},
    "spans": [["prompt", 0, 0, "q"], ["action", 0, 0, "<answer> a </answer>"]],
    "stop_reason": "answered", "answer": "a", "searches": [], "seconds": 1.0, "engine_seconds": 0.5, "ids": [],
    "reward": {"total": 1.0, "parts": {}, "rules": {}}, "metrics": {"answer/f1": 1.0}, "decoding": "greedy", "step": 1,
}  # fmt: skip


@given(content=encoded(json_lines(ROW, {"question": "q", "answers": ["a"], "pred_ans": "b", "judge": "True"}, OURS)))
def test_any_file_is_predictions_of_all_its_lines_or_one_line_about_it(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any_predictions.jsonl"
    file.write_bytes(content)
    try:
        records = read_predictions(file)
        blocks = score.score_file(file)
    except InputError as error:
        assert "\n" not in str(error) and (str(file) in str(error) or "every one failed" in str(error))
        return
    assert sum(block["n"] + sum(block[name] for name in FAILURES) for block in blocks.values()) == len(records)
    lines = lines_in(content)
    unfinished = not content.endswith(b"\n")  # of a command that was killed: left out, and told
    assert lines is None or lines - unfinished <= len(records) <= lines


@given(content=encoded(json_lines(OURS["row"], {"question": "q", "answer": "a"})))
def test_any_file_is_questions_of_all_its_lines_or_one_line_about_it(tmp_path_factory, content):
    """Training's and evaluation's `--data`."""
    file = tmp_path_factory.getbasetemp() / "any_questions.jsonl"
    file.write_bytes(content)
    try:
        rows = read_rows(file)
    except InputError as error:
        assert "\n" not in str(error) and str(file) in str(error)
        return
    assert lines_in(content) in (None, len(rows))
    assert [type(row).from_json(row.to_json().encode().decode()) for row in rows] == rows
