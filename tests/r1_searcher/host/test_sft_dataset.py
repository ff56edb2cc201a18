"""Rows of episodes in OpenRLHF's fine-tuning: its own padding and loss, on ids and targets of ours."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.episodes.fakes import EOS, ask, passages, play, say, tag_tokenizer

from foundation.errors import InputError
from r1_searcher.episode.sft_row import sft_row
from r1_searcher.episode.trajectory import SpanKind
from r1_searcher.host.flags import SFT_MODULE, source_path

VOCABULARY = 300
TOKENIZER = SimpleNamespace(pad_token_id=0, eos_token=EOS)


@pytest.fixture(scope="module")
def ours():
    """Our dataset, beside OpenRLHF as it is on a machine without CUDA."""
    patch = pytest.MonkeyPatch()
    patch.setenv("R1_SEARCHER_CPU", "1")
    from r1_searcher.host import cpu

    cpu.install()
    pytest.importorskip("openrlhf.datasets")
    from r1_searcher.host import sft_dataset

    yield sft_dataset
    patch.undo()


def table(rows):
    from datasets import Dataset

    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def episodes():
    """A long one with documents, and a short one."""
    return [
        play([ask("tower", "Hm. "), ask("city"), say("Paris")], passages("It is in Paris.", "A river.")).trajectory,
        play([say("Paris", "I know. ")]).trajectory,
    ]


@pytest.fixture(scope="module")
def dataset(ours, episodes):
    rows = [sft_row(each, tag_tokenizer()).to_mapping() for each in episodes]
    return ours.dataset_of(table(rows), TOKENIZER, 4096, None, input_template="", multiturn=False)


def trained(episode):
    """Places whose logits are trained: each predicts the next id."""
    return {place - 1 for start, end in episode.action_ranges for place in range(start, end)}


def test_ids_and_mask_are_those_of_the_episode(dataset, episodes):
    assert len(dataset) == len(episodes)
    for (ids, attention, loss_mask), episode in zip(dataset, episodes, strict=True):
        assert ids[0].tolist() == list(episode.ids) and attention.sum() == len(episode.ids)
        assert {place for place, value in enumerate(loss_mask[0].tolist()) if value} == trained(episode)


def test_only_actions_get_a_gradient_from_the_hosts_padding_and_loss(dataset, episodes):
    import torch
    from openrlhf.models import SFTLoss

    ids, attention, loss_mask = dataset.collate_fn([dataset[0], dataset[1]])
    assert ids.shape == attention.shape == loss_mask.shape == (2, len(episodes[0].ids))
    logits = torch.randn(*ids.shape, VOCABULARY, generator=torch.Generator().manual_seed(0), requires_grad=True)
    log_probs = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    loss = SFTLoss()(log_probs, loss_mask[:, :-1])  # as SFTTrainer.fit calls it
    loss.backward()
    moved = logits.grad.abs().sum(-1)
    for row, episode in enumerate(episodes):
        assert {place for place, value in enumerate(moved[row].tolist()) if value} == trained(episode)
    documents = episodes[0].token_count(SpanKind.DOCUMENTS)
    assert documents > 50 and (moved > 0).sum() == sum(len(trained(each)) for each in episodes)
    sums = [log_probs[row, sorted(trained(episode))].sum() for row, episode in enumerate(episodes)]
    assert torch.isclose(loss, -sum(sums) / sum(len(trained(each)) for each in episodes))


def test_longer_episodes_are_left_out_whole(ours, episodes):
    rows = table([sft_row(each, tag_tokenizer()).to_mapping() for each in episodes])
    short = ours.dataset_of(rows, TOKENIZER, len(episodes[1].ids), None)
    assert [item[0][0].tolist() for item in short] == [list(episodes[1].ids)]
    assert len(ours.dataset_of(rows, TOKENIZER, len(episodes[0].ids), None)) == 2


def test_episodes_and_texts_are_not_mixed(ours, episodes):
    row = sft_row(episodes[1], tag_tokenizer()).to_mapping()
    mixed = table([row, dict.fromkeys(row) | {"input": "x", "output": "y"}])
    with pytest.raises(InputError, match="row 2 has no ids"):
        ours.dataset_of(mixed, TOKENIZER, 4096, None)


def test_rows_of_text_go_to_the_hosts_own_dataset(ours, monkeypatch):
    asked = []
    monkeypatch.setattr(ours, "SFTDataset", lambda *args, **options: asked.append((args, options)) or "the host's")
    rows = table([{"input": "x", "output": "y"}])
    assert ours.dataset_of(rows, TOKENIZER, 7, "strategy", input_template="", multiturn=False) == "the host's"
    assert asked == [((rows, TOKENIZER, 7, "strategy"), {"input_template": "", "multiturn": False})]


def test_the_installed_host_takes_its_dataset_from_where_we_put_ours(ours, monkeypatch):
    """Red after an upgrade of the host: follow the line."""
    import openrlhf.datasets

    source = Path(source_path(SFT_MODULE)).read_text(encoding="utf-8")
    assert f"\n{ours.HOST_LINE}\n" in source
    assert source.count("SFTDataset(") == source.count("_dataset = SFTDataset(\n") == 2, "training and evaluation"
    monkeypatch.setattr(openrlhf.datasets, "SFTDataset", openrlhf.datasets.SFTDataset)  # for its end
    ours.install()
    assert runpy.run_module(SFT_MODULE, run_name="not main")["SFTDataset"] is ours.dataset_of
