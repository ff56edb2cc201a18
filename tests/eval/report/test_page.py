"""The page of a report: its episodes, their tokens and passages, and that no text can break out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.episodes.fakes import Turn, ask, passages, say, turn_that_answers, turn_that_asks
from support.processes.commands import status_of
from support.runs.reports import (
    FORGED,
    HOSTILE,
    SEARCHED,
    WRONG,
    episode,
    failed,
    found_runs,
    render,
    row,
    write_evaluation,
    write_run,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from eval.report.__main__ import main
from eval.report.embedding import CHUNK_CHARACTERS
from eval.report.passages import describe_searches
from eval.report.tokens import TokenTexts, tokens_of
from foundation.errors import InputError
from r1_searcher.episode.limits import Limits
from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.recipe.protocols import PROTOCOLS
from retriever.passage import Passage


def test_list_entries(tmp_path):
    played = [episode(), episode(WRONG), episode(FORGED), failed(), episode([Turn("no answer")])]
    columns = render(write_run(tmp_path / "run", [(n + 1, each) for n, each in enumerate(played)])).columns
    assert columns["step"] == [1, 2, 3, 4, 5]
    assert columns["answer"] == ["Paris", "London", "Paris", None, None]
    assert columns["em"] == [1, 0, 1, 0, 0] and columns["searches"] == [1, 0, 0, 0, 0]
    assert columns["forged"] == [False, False, True, False, False]
    assert columns["stop"][3:] == ["retriever_error", "no_answer"]
    assert columns["reward"] == [1.0, 0.0, -1.0, 0.0, -2.0]
    assert columns["broken"][2] == ["no_forged_documents"]


def test_samples_of_one_question_share_its_row(tmp_path):
    page = render(write_run(tmp_path / "run", [(1, episode(of=row(n % 2))) for n in range(6)]))
    assert [each["id"] for each in page.rows] == ["q0", "q1"] and page.columns["row"] == [0, 1] * 3


def test_the_whole_of_an_episode(tmp_path):
    trajectory = episode()
    (whole,) = render(write_run(tmp_path / "run", [(1, trajectory)])).whole
    assert [(span["kind"], span["trained"]) for span in whole["spans"]] == [
        ("prompt", False),
        ("action", True),
        ("documents", False),
        ("action", True),
    ]
    assert [span["text"] for span in whole["spans"]] == [span.text for span in trajectory.spans]
    assert whole["reward"]["total"] == 1.0 and len(whole["reward"]["rules"]) == 8
    action = whole["spans"][1]
    assert action["ids"] == list(trajectory.ids[action["start"] : action["end"]])
    assert action["logprobs"] == [round(value, 3) for value in trajectory.logprobs[action["start"] : action["end"]]]
    assert "ids" not in whole["spans"][2]


def test_what_is_trained(tmp_path):
    def trained(folder, **options):
        whole = render(write_run(tmp_path / folder, [(1, options.pop("of", episode()))], **options)).whole[0]
        return {span["kind"] for span in whole["spans"] if span["trained"]}

    assert trained("mask") == {"action"}
    assert trained("ablation", recipe={"train_on_documents": True}) == {"action", "documents"}
    assert trained("failed", of=failed()) == set()


def test_an_unknown_protocol_and_reward(tmp_path):
    """A folder of a newer version, or of another system."""
    page = render(write_run(tmp_path / "run", [(1, episode(FORGED))], recipe={"protocol": "new", "reward": "new"}))
    assert page.columns["forged"] == [True] and page.head["runs"][0]["weights"] == {}


def test_passages_are_told_apart_by_the_protocol(tmp_path):
    found = passages("one (2) two", "東京 𝔘nicode", "three")
    trajectory = episode(SEARCHED, found)
    (search,) = render(write_run(tmp_path / "run", [(1, trajectory)])).whole[0]["searches"]
    text = trajectory.of_kind(SpanKind.DOCUMENTS)[0].text.encode("utf-16-le")
    starts = [*search["starts"], None]
    pieces = [text[2 * a : None if b is None else 2 * b].decode("utf-16-le") for a, b in pairwise(starts)]
    assert [piece.split("\n")[0] for piece in pieces] == ["(1) one (2) two", "(2) 東京 𝔘nicode", "(3) three"]
    assert search["shown_ids"] == ["p1", "p2", "p3"] and search["block"] == 0


AS_MESSAGES = replace(PROTOCOLS["r1_searcher.chat"], name="user's message", documents_role="user")


@pytest.mark.parametrize("protocol", [*PROTOCOLS.values(), AS_MESSAGES], ids=lambda protocol: protocol.name)
def test_searches_of_every_protocol(protocol):
    queries = ["first", 'sec"ond'] if protocol.tools else ["first"]
    turns = [turn_that_asks(protocol, *queries), turn_that_asks(protocol, "third"), turn_that_answers(protocol, "x")]
    trajectory = episode(turns, passages("a", "b"), protocol=protocol)
    searches = describe_searches(trajectory, protocol)
    assert [search["block"] for search in searches] == [*[0] * len(queries), 1]
    if "({rank})" in protocol.passage_format or "{rank}" in protocol.passage_format:
        assert all(len(search["starts"]) == 2 for search in searches)


def test_a_query_that_is_asked_again_has_a_block_of_its_own():
    protocol = PROTOCOLS["deep_researcher"]
    turns = [turn_that_asks(protocol, "same"), turn_that_asks(protocol, "same"), turn_that_answers(protocol, "x")]
    searches = describe_searches(episode(turns, protocol=protocol), protocol)
    assert [search["block"] for search in searches] == [0, 1]


def test_a_search_without_documents():
    trajectory = failed()
    (search,) = describe_searches(trajectory, PROTOCOLS["r1_searcher.tiny"])
    assert search["block"] is None and "refused" in search["error"]


def test_no_text_can_break_out_of_the_page(tmp_path):
    of = row(question=HOSTILE)
    turns = [ask(HOSTILE), say(HOSTILE)]
    run = write_run(
        tmp_path / HOSTILE.replace("/", "|"), [(1, episode(turns, [Passage("<b>", HOSTILE, HOSTILE)], of=of))]
    )
    page = render(run)
    assert HOSTILE in page.whole[0]["spans"][2]["text"] and page.rows[0]["question"] == HOSTILE
    assert "window.broken" not in page.html
    assert page.html.count("<script") == page.html.count("</script>") == 4


def test_halves_of_characters_survive(tmp_path):
    trajectory = episode(WRONG)
    spans = tuple(replace(span, text=f"\ud800 half {span.text}") for span in trajectory.spans)
    page = render(write_run(tmp_path / "run", [(1, replace(trajectory, spans=spans, answer="\udfff"))]))
    assert page.whole[0]["spans"][1]["text"].startswith("\ud800 half") and page.columns["answer"] == ["\udfff"]


def test_chunks_are_bounded_and_complete(tmp_path):
    long = episode([say("Paris", thought="word " * 2000)], limits=Limits(8, 20_000, 30_000, 3))
    page = render(write_run(tmp_path / "run", [(n, long) for n in range(1, 31)]))
    assert page.columns["chunk"] == sorted(page.columns["chunk"]) and len(page.whole) == 30
    assert 1 < page.columns["chunk"][-1] + 1 == page.html.count('class="chunk"')
    per_chunk = page.columns["chunk"].count(0)
    assert len(json.dumps(page.whole[0], separators=(",", ":"))) * (per_chunk - 1) < CHUNK_CHARACTERS


# --- tokens


def byte_level(*words: str) -> Tokenizer:
    """One token per byte, and these words, as GPT-2's and Qwen's tokenizers have them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*words])
    return tokenizer


def sentencepiece() -> Tokenizer:
    """Words with their leading space in the token, as Llama 2's tokenizer has them: alone, a word loses it."""
    tokenizer = Tokenizer(models.WordLevel({"▁the": 0, "▁tower": 1, "s": 2, "</s>": 3}, unk_token="</s>"))
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def cut(tokens: TokenTexts, ids, text):
    lengths = tokens.lengths(ids, text)
    units = text.encode("utf-16-le", "surrogatepass")
    pieces, at = [], 0
    for length in lengths:
        pieces.append(units[2 * at : 2 * (at + length)].decode("utf-16-le", "surrogatepass"))
        at += length
    assert 2 * at == len(units)
    return pieces


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_lengths_tile_any_text(text):
    tokenizer = byte_level("<eos>")
    ids = tokenizer.encode(text).ids
    assert "".join(cut(TokenTexts(tokenizer), ids, text)) == text


def test_a_final_eos_has_no_text():
    tokens = TokenTexts(byte_level("<eos>"))
    ids = byte_level("<eos>").encode("ab<eos>").ids
    assert tokens.lengths(ids, "ab") == [1, 1, 0] and tokens.lengths(ids, "ab<eos>") == [1, 1, 5]


def test_words_that_lose_their_space_when_decoded_alone():
    assert cut(TokenTexts(sentencepiece()), [0, 1, 2, 0], "the towers the") == ["the", " tower", "s", " the"]


def test_ids_of_another_tokenizer_have_no_lengths():
    assert TokenTexts(byte_level()).lengths([1, 2, 3], "something else") is None


def test_the_tokenizer_that_a_training_has_left(tmp_path):
    run = write_run(tmp_path / "run", [(1, episode())])
    assert tokens_of(found_runs(run)) is None
    (run / "model").mkdir()
    byte_level().save(str(run / "model" / "tokenizer.json"))
    assert tokens_of(found_runs(run)) is not None


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_folder_without_a_usable_tokenizer(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="tokenizer.json"):
        TokenTexts.load(tmp_path)


# --- command line


def test_the_command_writes_one_file_that_needs_no_network(tmp_path, capsys):
    run = write_run(tmp_path / "run", [(1, episode())], steps=2)
    assert main([str(run)]) == 0
    html = (run / "report.html").read_text()
    assert "1 episodes" in capsys.readouterr().out
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(""", html)
    assert not list(run.glob("*.partial"))


def test_folders_of_one_name_are_told_apart_in_the_title(tmp_path):
    runs = [write_run(tmp_path / parent / "stage1_run", [(1, episode())]) for parent in ("a", "b")]
    assert main([*map(str, runs), "--out", str(tmp_path / "r.html")]) == 0
    assert "a/stage1_run and b/stage1_run" in (tmp_path / "r.html").read_text()


def test_of_too_many_a_sample_is_shown(tmp_path, capsys):
    folder = write_evaluation(tmp_path / "e", [episode(of=row(n)) for n in range(5)])
    assert main([str(folder), "--max-episodes", "2", "--out", str(tmp_path / "r.html")]) == 0
    assert "2 of 5 episodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        "{missing}",
        "{run} --max-episodes 0",
        "{run} --out {missing}/r.html",
        "{run} --out {run}",
        "{run} --tokenizer {missing}",
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, arguments):
    run = write_run(tmp_path / "run", [(1, episode())])
    words = [word.format(run=run, missing=tmp_path / "missing") for word in arguments.split()]
    assert status_of(main, *words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.rglob("*.html"))


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    run = write_run(tmp_path / "run", [(1, episode())])

    def no_space(self, *args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", no_space)
    assert main([str(run)]) == 3
    error = capsys.readouterr().err
    assert "No space left" in error and error.count("\n") == 1


def test_no_script_runs_but_the_pages_own(tmp_path):
    html = render(write_run(tmp_path / "run", [(1, episode([say("Paris")]))])).html
    (allowed,) = re.findall(r"script-src '(sha256-[^']+)'", html)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    run = [text for text in scripts if base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in allowed]
    assert len(run) == 1 and "script-src 'unsafe-inline'" not in html
