"""What a report finds: runs, evaluations, their order, and which of their episodes it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.runs.reports import RECIPE, episode, failed, found_runs, render, row, write, write_evaluation, write_run

from eval.report.chains import find_chains
from eval.report.curves import chain_curves
from eval.report.reading import read_selected, select
from eval.report.runs import RunKind
from eval.results.fingerprint import model_fingerprint
from eval.results.summary import SCORES
from foundation.errors import InputError


def write_model(folder, weights: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(weights)
    return str(folder)


@pytest.fixture
def quickstart(tmp_path):
    """Two stages, and evaluations before, between and after them."""
    base = write_model(tmp_path / "models" / "base", "0")
    out = tmp_path / "out"
    first = write_run(out / "stage1_run", [(1, episode())], steps=5, model=base)
    write_model(first / "model", "1")
    second = write_run(out / "stage2_run", [(1, episode())], steps=3, model="/elsewhere/stage1_run/model")
    write_model(second / "model", "2")
    for run in (first, second):
        (run / "complete").touch()
    for name, model in (("base", base), ("after1", first / "model"), ("after2", second / "model")):
        write_evaluation(out / name, [episode()], model=model_fingerprint(str(model)))
    return out


def test_a_folder_of_runs_and_evaluations(quickstart):
    found = found_runs(quickstart)
    kinds = {run.name: run.kind for run in found}
    assert kinds == {
        "after1": RunKind.EVALUATION,
        "after2": RunKind.EVALUATION,
        "base": RunKind.EVALUATION,
        "stage1_run": RunKind.TRAINING,
        "stage2_run": RunKind.TRAINING,
    }
    assert all(run.protocol is not None and run.rewards[0].name == RECIPE.reward.name for run in found)


def test_stages_form_a_chain_and_evaluations_stand_where_their_models_do(quickstart):
    (chain,) = find_chains(found_runs(quickstart))
    assert [run.name for run in chain.runs] == ["stage1_run", "stage2_run"] and chain.borders == [0, 5, 8]
    places = [(each.evaluation.name, each.step) for each in chain.evaluations]
    assert places == [("base", 0), ("after1", 5), ("after2", 8)]
    assert [line["name"] for line in render(quickstart).head["results"]["lines"]] == ["base", "after1", "after2"]


def test_further_trainings_and_baselines_come_after_the_first_training(quickstart, tmp_path):
    """The cards on top compare the ends of the first one."""
    again = write_run(quickstart / "variant_run", [(1, episode())], steps=2, model=str(tmp_path / "models" / "base"))
    (again / "complete").touch()
    for name, model in (
        ("variant", write_model(again / "model", "3")),
        ("baseline", write_model(tmp_path / "models" / "other", "4")),
    ):
        write_evaluation(quickstart / name, [episode()], model=model_fingerprint(model))
    lines = [(line["name"], line["chain"]) for line in render(quickstart).head["results"]["lines"]]
    assert lines == [("base", 0), ("after1", 0), ("after2", 0), ("variant", 1), ("baseline", None)]


def test_runs_of_their_own_are_chains_of_their_own(tmp_path):
    for seed in ("seed0", "seed1"):
        write_run(tmp_path / seed, [(1, episode())], steps=2)
    assert [len(chain.runs) for chain in find_chains(found_runs(tmp_path))] == [1, 1]


def write_stages(folder: Path, first_model: str = "org/base", before: Path | None = None) -> Path:
    """Two trainings of which the second begins with the model of the first, or with the one that lay in `before`."""
    write_run(folder / "stage1_run", [], steps=2, model=first_model)
    begun = (before or folder) / "stage1_run" / "model"
    write_run(folder / "stage2_run", [], steps=1, model=str(begun))
    return folder


def chained(*folders: Path) -> list[list[str]]:
    """Folders of the runs of each chain, as their last two parts."""
    return [["/".join(run.path.parts[-2:]) for run in chain.runs] for chain in find_chains(found_runs(*folders))]


def test_runs_of_two_folders_follow_their_own(tmp_path):
    """Their stages have the same names."""
    stages = [write_stages(tmp_path / name) for name in ("q1", "q2")]
    expected = [["q1/stage1_run", "q1/stage2_run"], ["q2/stage1_run", "q2/stage2_run"]]
    assert chained(*stages) == expected
    (tmp_path / "elsewhere").mkdir()
    assert chained(*(stage.rename(tmp_path / "elsewhere" / stage.name) for stage in stages)) == expected


def test_a_run_that_went_on_elsewhere_follows_the_run_that_it_names(tmp_path):
    """Not the one of the same name beside it; and where two begin with one model, the first follows it."""
    first = write_stages(tmp_path / "q1")
    second = write_stages(tmp_path / "q2", before=first)
    assert chained(first, second) == [["q1/stage1_run", "q1/stage2_run"], ["q2/stage1_run"], ["q2/stage2_run"]]
    assert chained(second, first) == [["q2/stage1_run"], ["q1/stage1_run", "q2/stage2_run"], ["q1/stage2_run"]]


def test_a_run_that_began_with_a_later_one_of_another_folder_is_in_a_chain(tmp_path):
    """Beside it lies one of the same name, which follows it."""
    folder = write_stages(tmp_path / "q2", first_model="/gone/q1/stage2_run/model")
    assert chained(folder) == [["q2/stage1_run", "q2/stage2_run"]]


def test_several_folders_are_told_apart(tmp_path):
    for arm in ("with", "without"):
        write_evaluation(tmp_path / arm / "base", [episode()])
    assert [run.name for run in found_runs(tmp_path / "with", tmp_path / "without")] == ["with/base", "without/base"]


def test_names_that_clash_get_as_much_of_the_path_as_tells_them_apart(tmp_path):
    folders = [tmp_path / name for name in ("a/stage1_run", "b/stage1_run", "x/q/stage2_run", "y/q/stage2_run")]
    for number, folder in enumerate(folders, start=1):
        write_run(folder, [(1, episode())] * number, steps=number)
    runs = found_runs(*folders[:2], tmp_path / "x" / "q", tmp_path / "y" / "q")
    names = ["a/stage1_run", "b/stage1_run", "x/q/stage2_run", "y/q/stage2_run"]
    assert [run.name for run in runs] == names
    page = render(*folders[:2])
    assert [(run["name"], run["available"]) for run in page.head["runs"]] == [(names[0], 1), (names[1], 2)]
    assert [[run["name"] for run in chain["runs"]] for chain in page.head["curves"]] == [[names[0]], [names[1]]]
    assert page.columns["run"] == [0, 1, 1]


def test_evaluations_of_one_name_are_lines_of_their_own(tmp_path):
    folders = [write_evaluation(tmp_path / arm / "base", [episode()]) for arm in ("with", "without")]
    assert [line["name"] for line in render(*folders).head["results"]["lines"]] == ["with/base", "without/base"]


def test_a_folder_that_is_given_twice_is_shown_once(tmp_path):
    run = write_run(tmp_path / "q" / "stage1_run", [(1, episode())])
    (tmp_path / "q" / "latest").symlink_to(run)
    for folders in ([tmp_path / "q"], [tmp_path / "q", run], [run, run], [run, tmp_path / "q"]):
        assert len(found_runs(*folders)) == 1, folders


def test_curves_of_a_chain(quickstart):
    (quickstart / "stage2_run" / "metrics.jsonl").write_text('{"step": 1, "reward": null, "odd/metric": 123456.789}\n')
    scores = {"greedy": {"n": 1, **dict.fromkeys(SCORES, 0.25), "by_hops": {}}, "provenance": {}}
    write(quickstart / "after1" / "scores.json", scores)
    curves = chain_curves(find_chains(found_runs(quickstart))[0])
    assert curves["steps"] == [*([0, step] for step in range(1, 6)), [1, 1]]
    assert curves["values"]["reward"] == [0.1, 0.2, 0.3, 0.4, 0.5, None]
    assert curves["values"]["odd/metric"] == [None] * 5 + [123460.0]
    panels = {panel["title"]: panel for panel in curves["panels"]}
    assert panels["Answers"]["metrics"] == ["answer/f1"] and not panels["Answers"]["other"]
    assert panels["odd/metric"]["other"]
    (held,) = curves["held_out"]
    assert (held["step"], held["decoding"], held["values"]["answer/f1"]) == (5, "greedy", 0.25)


def test_every_metric_is_drawn_once_or_more(tmp_path):
    names = ["reward", "reward/answer", "stop/length", "stop/retriever_error", "kl", "new/thing", "retrieval/rate"]
    run = write_run(tmp_path / "run", [])
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, **dict.fromkeys(names, 0.5)}) + "\n")
    curves = chain_curves(find_chains(found_runs(run))[0])
    assert {name for panel in curves["panels"] for name in panel["metrics"]} == set(names)


def test_a_run_that_has_just_begun(tmp_path):
    run = write_run(tmp_path / "run", [])
    page = render(run)
    assert page.columns == {} and page.whole == []
    assert page.head["curves"][0]["steps"] == [] and not page.head["runs"][0]["complete"]


def test_an_evaluation_in_progress_has_scores_of_what_is_answered(tmp_path):
    folder = write_evaluation(tmp_path / "e", [episode(of=row(n)) for n in range(3)])
    with (folder / "predictions.jsonl").open("a") as file:
        file.write('{"decoding": "greedy", "row": {"id"')
    (line,) = render(folder).head["results"]["lines"]
    assert (line["n"], line["asked"], line["complete"]) == (3, 10, False)
    assert line["scores"]["f1"] == 1.0 and line["intervals"]["f1"] == [0.2924, 1.0]


def test_an_evaluation_whose_every_search_failed_has_no_scores(tmp_path):
    page = render(write_evaluation(tmp_path / "e", [failed()]))
    assert page.head["results"]["lines"] == [] and page.columns["stop"] == ["retriever_error"]


def test_a_half_written_line_is_left_out(tmp_path):
    run = write_run(tmp_path / "run", [(1, episode())])
    (file,) = (run / "trajectories").iterdir()
    file.write_bytes(file.read_bytes() + file.read_bytes()[:200])
    page = render(run)
    assert len(page.whole) == 1 and page.head["unreadable"] == 0


def test_lines_that_are_no_episodes_are_counted(tmp_path):
    run = write_run(tmp_path / "run", [(1, episode())])
    (file,) = (run / "trajectories").iterdir()
    good = json.loads(file.read_text())
    bad = [[], 3, {}, good | {"stop_reason": "tired"}, good | {"spans": 5}, good | {"row": {"question": ""}}]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*bad, good]))
    page = render(run)
    assert len(page.whole) == 1 and page.head["unreadable"] == len(bad)


def test_steps_that_a_resumed_run_played_again(tmp_path):
    write_run(tmp_path / "run", [(1, episode()), (2, episode()), (3, episode())])
    write_run(tmp_path / "run", [(2, episode()), (3, episode())], name="000001-host-2.jsonl")
    assert render(tmp_path / "run").columns["replayed"] == [False, True, True, False, False]


def test_steps_that_two_attempts_from_one_checkpoint_played(tmp_path):
    """The second one died before the next checkpoint."""
    for name in ("000001.2-host-2.jsonl", "000001.3-host-3.jsonl"):
        write_run(tmp_path / "run", [(2, episode())], name=name)
    assert render(tmp_path / "run").columns["replayed"] == [True, False]


@pytest.mark.parametrize("limit", [1, 7, 20, 33, 34, 100])
def test_a_sample_is_even_and_the_same_each_time(tmp_path, limit):
    write_run(tmp_path / "many", [(step, episode()) for step in range(30)])
    write_evaluation(tmp_path / "few", [episode(of=row(n)) for n in range(4)])
    found = found_runs(tmp_path)
    selection = select(found, limit)
    taken = [each.run.name for each in read_selected(found, selection) if each is not None]
    assert len(taken) == min(limit, 34)
    assert taken.count("few") == min(4, limit // 2)
    assert select(found, limit) == selection


@pytest.mark.parametrize("broken", ["run.json", "metrics.jsonl"])
def test_a_file_that_is_not_json_is_named(tmp_path, broken):
    run = write_run(tmp_path / "run", [])
    (run / broken).write_text("{not json")
    with pytest.raises(InputError, match=broken.replace(".", "[.]")):
        render(run)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match="neither a training run"):
        found_runs(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        found_runs(tmp_path / "missing")
