"""The host's own loss on our episodes: retrieved tokens and failed episodes move nothing."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
from support.episodes.fakes import ask, passages, play, say
from support.processes.one_rank import printed_lines

from r1_searcher.episode.trajectory import SpanKind
from retriever.errors import RetrieverTimeout

MAX_LENGTH = 2048
BY_TOKENS = ("--train.dynamic_batch_enable", "--train.max_tokens_per_gpu", "16", "--rollout.max_tokens_per_gpu", "16")


@pytest.fixture(scope="module")
def host():
    """OpenRLHF's experience, batching and loss; the slow import is done once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("R1_SEARCHER_CPU", "1")
    from r1_searcher.host import cpu

    cpu.install()
    torch = pytest.importorskip("torch")
    loss = pytest.importorskip("openrlhf.models.loss")
    from openrlhf.trainer.ppo_utils.experience import Experience
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

    from r1_searcher.host.agent import rollout_log_probs, trained_ranges
    from r1_searcher.host.patches import document_correction, host_patch

    host_patch.install(document_correction.PATCHES)

    yield SimpleNamespace(
        torch=torch,
        loss=loss,
        Experience=Experience,
        generator=SamplesGenerator,
        trained_ranges=trained_ranges,
        rollout_log_probs=rollout_log_probs,
    )
    patch.undo()


def good():
    return play([ask("tower", "Hm. "), ask("city"), say("Paris")], passages("It is in Paris.", "A river.")).trajectory


def failed():
    return play([ask("tower"), ask("city")], passages("A tower."), RetrieverTimeout("slow")).trajectory


def experience(host, trajectory, **options):
    """The sample as the host makes it from the executor's response."""
    response = {
        "observation_tokens": list(trajectory.ids),
        "action_ranges": host.trained_ranges(trajectory, **options),
        "rollout_log_probs": host.rollout_log_probs(trajectory, **options),
        "reward": 1.0,
        "scores": 1.0,
        "prompt": "p",
        "label": "l",
        "extra_logs": {"a/b": 0.5},
    }
    return host.generator._process_response_into_experience(None, response, max_len=MAX_LENGTH)


def positions(trajectory, *kinds) -> list[int]:
    """Places in the host's shifted tensors (token i is predicted at i - 1) of spans of these kinds."""
    return [place - 1 for span in trajectory.of_kind(*kinds) for place in range(span.start, span.end) if place]


def loss_of(host, logits, sequences, mask, *, advantages=1.0, batch_num_tokens=None, token_level=True):
    """Loss and gradient on the logits, by the host's policy loss."""
    torch = host.torch
    logits = logits.clone().requires_grad_(True)
    log_probs = torch.log_softmax(logits[:, :-1], -1).gather(-1, sequences[:, 1:, None]).squeeze(-1)
    policy_loss = host.loss.PolicyLoss(token_level_loss=token_level)
    old = torch.full_like(log_probs, -3.0).detach()
    loss = policy_loss(
        log_probs,
        old,
        torch.full_like(log_probs, advantages),
        action_mask=mask,
        batch_num_tokens=batch_num_tokens,
    )[0]
    loss.backward()
    return loss.detach(), logits.grad


@pytest.fixture
def sample(host):
    trajectory = good()
    made = experience(host, trajectory)
    logits = host.torch.randn(1, len(trajectory.ids), 300, generator=host.torch.Generator().manual_seed(0)) * 0.1
    return SimpleNamespace(trajectory=trajectory, made=made, logits=logits)


def test_the_hosts_mask_is_the_action_spans(host, sample):
    mask = sample.made.action_mask[0].bool().nonzero().flatten().tolist()
    assert mask == positions(sample.trajectory, SpanKind.ACTION)
    assert sample.made.sequences[0].tolist() == list(sample.trajectory.ids)
    logprobs = sample.made.rollout_log_probs[0].tolist()
    assert [logprobs[place] for place in mask] == pytest.approx([v for v in sample.trajectory.logprobs if v != 0.0])
    assert all(value == 0.0 for place, value in enumerate(logprobs) if place not in set(mask))


@pytest.mark.parametrize("token_level", [True, False])
def test_documents_and_prompt_move_neither_loss_nor_gradient(host, sample, token_level):
    mask, sequences = sample.made.action_mask, sample.made.sequences
    loss, gradient = loss_of(host, sample.logits, sequences, mask, token_level=token_level)
    changed = sample.logits.clone()
    outside = positions(sample.trajectory, SpanKind.DOCUMENTS, SpanKind.PROMPT)
    changed[0, outside] += host.torch.randn(len(outside), 300)
    other_loss, other_gradient = loss_of(host, changed, sequences, mask, token_level=token_level)
    assert host.torch.equal(loss, other_loss) and host.torch.equal(gradient, other_gradient)
    assert gradient[0, outside].abs().sum() == 0 and len(outside) > 100


@pytest.mark.parametrize("token_level", [True, False])
def test_every_sampled_token_moves_both(host, sample, token_level):
    mask, sequences = sample.made.action_mask, sample.made.sequences
    loss, gradient = loss_of(host, sample.logits, sequences, mask, token_level=token_level)
    actions = positions(sample.trajectory, SpanKind.ACTION)
    assert (gradient[0, actions].abs().sum(-1) > 0).all()
    for place in (actions[0], actions[len(actions) // 2], actions[-1]):
        changed = sample.logits.clone()
        changed[0, place, sequences[0, place + 1]] += 1.0
        assert not host.torch.equal(loss_of(host, changed, sequences, mask, token_level=token_level)[0], loss)


def test_without_the_mask_documents_are_trained(host, sample):
    made = experience(host, sample.trajectory, train_on_documents=True)
    _, gradient = loss_of(host, sample.logits, made.sequences, made.action_mask)
    documents = positions(sample.trajectory, SpanKind.DOCUMENTS, SpanKind.ACTION)
    prompt = [place for place in positions(sample.trajectory, SpanKind.PROMPT)]
    assert (gradient[0, documents].abs().sum(-1) > 0).all() and gradient[0, prompt].abs().sum() == 0


@pytest.mark.parametrize("options", [{}, {"is_correction_mode": "clip"}, {"is_correction_level": "seq"}])
def test_without_the_mask_the_correction_weighs_actions_and_leaves_documents(host, sample, options):
    """Where the engine's log-probs are the trainer's, the correction changes nothing, with documents or without."""
    torch = host.torch
    made = experience(host, sample.trajectory, train_on_documents=True)
    documents = torch.zeros_like(made.action_mask, dtype=torch.bool)
    documents[0, positions(sample.trajectory, SpanKind.DOCUMENTS)] = True
    assert torch.equal(made.rollout_log_probs.isnan(), documents) and documents.sum() > 20
    ids = made.sequences[:, 1:, None]
    log_probs = torch.log_softmax(sample.logits[:, :-1], -1).gather(-1, ids).squeeze(-1)
    advantages = torch.full_like(log_probs, 0.7)

    def loss(level, engine):
        settings = {"is_correction_level": level, **(options if level != "off" else {})}
        return host.loss.PolicyLoss(**settings)(log_probs, log_probs, advantages, made.action_mask, engine)

    same = torch.where(documents, torch.nan, log_probs)
    corrected, off = loss("token", same), loss("off", None)
    assert torch.allclose(corrected[0], off[0]) and corrected[3] == corrected[4] == 0
    nearer = torch.where(documents, torch.nan, log_probs - 0.5)
    assert not torch.allclose(loss("token", nearer)[0], off[0]) and loss("token", nearer)[3] < 0


def test_other_document_text_gives_the_same_loss(host):
    """Not only other logits: other documents of the same length leave the loss of the actions as it is."""
    one = play([ask("q"), say("x")], passages("aaaa")).trajectory
    two = play([ask("q"), say("x")], passages("bbbb")).trajectory
    logits = host.torch.randn(1, len(one.ids), 300)
    losses = [
        loss_of(host, logits, made.sequences, made.action_mask)[0]
        for made in (experience(host, one), experience(host, two))
    ]
    assert host.torch.equal(*losses)


@pytest.mark.parametrize("token_level", [True, False])
def test_a_failed_episode_in_a_batch_gets_no_gradient(host, token_level):
    torch = host.torch
    trajectories = [good(), failed()]
    assert host.trained_ranges(trajectories[1]) == host.trained_ranges(trajectories[1], train_on_documents=True) == []
    made = [experience(host, trajectory) for trajectory in trajectories]
    assert made[1].action_mask.sum() == 0 and made[1].response_length.item() == 0
    batch = host.Experience.concat_experiences(made, pad_token_id=0)
    logits = torch.randn(2, batch.sequences.size(1), 300)
    loss, gradient = loss_of(host, logits, batch.sequences, batch.action_mask, token_level=token_level)
    alone, _ = loss_of(host, logits[:1, : made[0].sequences.size(1)], made[0].sequences, made[0].action_mask,
                       token_level=token_level)  # fmt: skip
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert gradient[1].abs().sum() == 0 and gradient[0].abs().sum() > 0
    assert torch.allclose(loss, alone), "the good episode weighs as if the failed one were not there"


def test_a_micro_batch_of_a_failed_episode_alone_is_finite_with_the_hosts_global_count(host):
    """The host divides by the tokens of the whole step; one of failures only is left to `empty_masks`."""
    made = experience(host, failed())
    logits = host.torch.randn(1, made.sequences.size(1), 300)
    loss, gradient = loss_of(host, logits, made.sequences, made.action_mask, batch_num_tokens=100.0)
    assert loss == 0 and gradient.abs().sum() == 0
    nan, _ = loss_of(host, logits, made.sequences, made.action_mask)
    assert host.torch.isnan(nan), "the host no longer needs the patch of its loss"


@pytest.mark.slow
@pytest.mark.parametrize("batches", [(), BY_TOKENS], ids=["by samples", "by tokens"])
def test_an_update_of_failed_episodes_alone_leaves_the_weights_as_they_are(batches):
    """In ZeRO-3, where DeepSpeed takes a NaN for a gradient; 1 and 2 leave such an update out by themselves."""
    flags = ("--algo.advantage.estimator", "reinforce_baseline", "--algo.kl.init_coef", "0", "--ds.zero_stage", "3")
    lines = printed_lines("empty_update.py", "4,2,4", *flags, *batches, "--actor.adam.lr", "0.01", beginning="ROLLOUT ")
    first, taught, later = map(json.loads, lines)
    assert all(math.isfinite(value) for update in (first, taught, later) for value in update.values())
    assert first["moved"] == first["policy_loss"] == first["actor_grad_norm"] == 0
    assert taught["moved"] > 0 and taught["actor_grad_norm"] > 0
    # What Adam remembers of earlier gradients is no part of the update: a last step at the learning rate's size.
    assert later["actor_grad_norm"] == 0 and later["moved"] <= taught["moved"]


def test_aggregation_ignores_masked_values(host):
    torch = host.torch
    made = experience(host, good())
    values = torch.randn(made.action_mask.shape)
    mask = made.action_mask
    noisy = torch.where(mask.bool(), values, torch.full_like(values, 1e6))
    for token_level in (True, False):
        one = host.loss.aggregate_loss(values, mask, token_level)
        assert torch.allclose(one, host.loss.aggregate_loss(noisy, mask, token_level))
