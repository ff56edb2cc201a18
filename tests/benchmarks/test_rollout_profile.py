"""Samples of a profile belong to the innermost package that is ours, the engine's or the event loop's."""

from __future__ import annotations

from benchmarks.rollout_profile import main, shares, table

LOOP = "thread (1): MainThread;run (asyncio/runners.py:190);_run (asyncio/events.py:84)"
EPISODE = "run_episode (r1_searcher/episode/rollout.py:80);encode (r1_searcher/episode/tokenization.py:30)"
ENGINE = "/env/lib/site-packages/vllm/v1/engine/async_llm.py:10"
RAW = f"""\
{LOOP};{EPISODE};encode (tokenizers/base.py:3) 6
{LOOP};episode (benchmarks/rollout/__main__.py:90);generate ({ENGINE});f (x.py:1) 3
{LOOP};search (retriever/interface.py:10) 1
thread (1): MainThread;run (asyncio/runners.py:190);select (selectors.py:468) 2
thread (1): MainThread;<module> (benchmarks/rollout/__main__.py:1);load (torch/__init__.py:1) 500
{LOOP};play (benchmarks/rollout/__main__.py:9);Engine.__init__ (benchmarks/rollout/scripted_engine.py:9) 500
thread (2): output_handler;_run (asyncio/events.py:84);run_episode (r1_searcher/episode/rollout.py:80) 500
"""


def test_each_sample_has_one_owner():
    found = shares(RAW)
    assert found == {"r1_searcher/episode/tokenization.py": 0.5, "vllm": 0.25, "asyncio": 2 / 12, "retriever": 1 / 12}


def test_the_table_has_our_sum():
    lines = table({"before": shares(RAW), "after": {"vllm": 1.0}}).splitlines()
    assert lines[0] == "| time of the event loop in | before | after |"
    assert lines[2] == "| vllm | 25.0 % | 100.0 % |"
    assert lines[-1] == "| **all of `r1_searcher`** | 50.0 % | 0.0 % |"


def test_a_section_is_written_and_nonsense_is_refused(tmp_path, capsys):
    raw, page = tmp_path / "raw.txt", tmp_path / "page.md"
    raw.write_text(RAW)
    assert main([f"now={raw}", "--markdown", str(page)]) == 0
    assert "| r1_searcher/episode/tokenization.py | 50.0 % |" in page.read_text()
    raw.write_text("thread (1): MainThread;f (a.py:1) 3\n")
    assert main([f"now={raw}"]) == 2 and "no sample of an event loop" in capsys.readouterr().err
