"""The guard's rates by simulation, at a size for tests: what is simulated, and that the claim holds."""

from __future__ import annotations

import statistics

from benchmarks.guard_rates import FALLING, HEALTHY, Course, first_alarm, main, steps_of


def test_a_course_has_the_mean_and_the_error_it_says():
    course = Course("constant", 64, 0.7)
    steps = list(steps_of(course, 400, seed=1))
    assert abs(statistics.fmean(step["reward"] for step in steps) - 0.7) < 0.02
    spread = statistics.stdev(step["reward"] for step in steps)
    said = statistics.fmean(step["episodes/reward_error"] for step in steps)
    assert abs(spread - said) < 0.15 * said


def test_healthy_runs_are_not_accused_and_a_total_loss_is_seen():
    accused = [first_alarm(course, 300, seed) for course in HEALTHY for seed in range(5)]
    assert sum(alarm is not None for alarm in accused) == 0
    for course in FALLING:
        if course.after == 0.0:
            alarm = first_alarm(course, 80, seed=0)
            assert alarm is not None and 60 < alarm.step <= 64


def test_the_command_writes_both_tables(tmp_path, capsys, monkeypatch):
    page = tmp_path / "guard.md"
    page.write_text("# The guard\n", encoding="utf-8")
    monkeypatch.setattr("benchmarks.guard_rates.STEPS", (20, 40))
    assert main(["--runs", "2", "--markdown", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| constant 0.5 | 8 |" in text and "| 0.9 to 0 | 8 |" in text and text.startswith("# The guard")
    assert "| constant 0.5 | 8 |" in capsys.readouterr().out
