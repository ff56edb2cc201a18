"""The host's actor and its fine-tuning compute the logits of actions only, and get the same log-probs and gradients."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.host import cpu
from r1_searcher.host.patches import action_logits

VOCABULARY, TOKENS = 64, 12
OF_ACTOR, OF_FINE_TUNING = action_logits.PATCHES


@pytest.fixture(scope="module")
def actors():
    """OpenRLHF's actor around one model, as it is and patched; and how many positions the head has seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_SEARCHER_CPU", "1")
        cpu.install()
        host = pytest.importorskip("openrlhf.models.actor")
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, attn_implementation="sdpa", **sizes)).double()
        seen: list[int] = []
        model.lm_head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[1]))

        class Patched(host.Actor):
            pass

        plain, patched = host.Actor(model, temperature=0.7), Patched(model, temperature=0.7)
        for name, function in (("unpad_input", unpad), ("pad_input", pad), ("index_first_axis", lambda a, b: a[b]),
                               ("rearrange", lambda tensor, _pattern: tensor.flatten(0, 1))):  # fmt: skip
            patch.setattr(f"openrlhf.models.ring_attn_utils.{name}", function)
        changed = SimpleNamespace(**{**vars(host), "Actor": Patched})
        OF_ACTOR.apply(changed)
        with torch.compiler.set_stance("force_eager"):  # on CPUs, runs compile nothing either
            yield plain, patched, seen


def unpad(tensor, attention):
    """`flash_attn.bert_padding.unpad_input`, as far as it is used: a CPU has no flash attention."""
    indices = attention.flatten().nonzero().flatten()
    return tensor.flatten(0, 1)[indices], indices, None, None, None


def pad(tensor, indices, samples, tokens):
    """`flash_attn.bert_padding.pad_input`."""
    whole = tensor.new_zeros(samples * tokens, *tensor.shape[1:])
    return whole.index_copy(0, indices, tensor).unflatten(0, (samples, tokens))


def batch(masks, lengths):
    """Ids, attention and actions `[samples, tokens - 1]` of samples padded on the right."""
    import torch

    ids = torch.randint(1, VOCABULARY, (len(masks), TOKENS), generator=torch.Generator().manual_seed(1))
    attention = torch.tensor([[place < length for place in range(TOKENS)] for length in lengths]).long()
    actions = torch.tensor(masks).bool() & attention[:, 1:].bool()
    return ids, attention, actions


SAMPLES = st.integers(1, 3).flatmap(
    lambda samples: st.tuples(
        st.lists(st.lists(st.booleans(), min_size=TOKENS - 1, max_size=TOKENS - 1), min_size=samples, max_size=samples),
        st.lists(st.integers(2, TOKENS), min_size=samples, max_size=samples),
    )
)


@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=40)
@given(drawn=SAMPLES)
def test_log_probs_and_gradients_are_those_of_the_host(actors, packed, drawn):
    import torch

    ids, attention, actions = batch(*drawn)
    *both, seen = actors
    found, gradients = [], []
    for actor in both:
        actor.packing_samples = packed
        actor.model.zero_grad()
        seen.clear()
        log_probs, _ = actor(ids, actions, attention_mask=attention, return_output=True)
        (log_probs * torch.arange(1.0, TOKENS)).sum().backward()
        found.append(log_probs)
        gradients.append([parameter.grad.clone() for parameter in actor.model.parameters()])
    assert torch.allclose(*found, atol=1e-6)
    # Both go through fp32, where the host sums a row of the vocabulary.
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))
    assert seen == [max(1, int(actions.sum() if packed else actions.any(dim=0).sum()))]


@pytest.mark.parametrize("packed", [False, True])
def test_entropy_is_that_of_the_host_at_the_actions(actors, packed):
    import torch

    ids, attention, actions = batch([[place in (3, 4, 8) for place in range(TOKENS - 1)]] * 2, [TOKENS, TOKENS - 2])
    plain, patched, _ = actors
    plain.packing_samples = patched.packing_samples = packed
    (_, one), (_, other) = (
        actor(ids, actions, attention_mask=attention, return_output=True, return_entropy=True)
        for actor in (plain, patched)
    )
    assert torch.allclose(one.entropy * actions, other.entropy * actions, atol=1e-6)


def test_fine_tuning_hands_over_its_targets(actors):
    import torch

    ids, attention, targets = batch([[place in (5, 9) for place in range(TOKENS - 1)]], [TOKENS])
    loss_masks = torch.cat([targets.float(), torch.zeros(1, 1)], dim=1)
    trainer = SimpleNamespace(iter_grad_accum_global_norm=lambda window: ((item, {}) for item in window))
    OF_FINE_TUNING.apply(trainer)
    plain, patched, seen = actors
    plain.packing_samples = patched.packing_samples = False
    expected = plain(ids, attention_mask=attention, return_logprobs=True)
    for (inputs, attention_masks, _), _ in trainer.iter_grad_accum_global_norm([(ids, attention, loss_masks)]):
        seen.clear()
        found, _ = patched(inputs, attention_mask=attention_masks, return_output=True, return_logprobs=True)
        assert seen == [2]
    assert torch.allclose(found, expected * targets, atol=1e-6)
    seen.clear()
    assert torch.equal(patched(ids, attention_mask=attention, return_logprobs=True), expected)
    assert seen == [TOKENS], "an evaluation asks for everything"


@pytest.mark.parametrize("option", ["ring_attn_group", "pixel_values", "logits_to_keep"])
def test_what_cannot_be_sliced_is_left_to_the_host(option):
    class Whole:
        def forward(self, input_ids):
            """Takes no positions."""

    class Sliced:
        def forward(self, input_ids, logits_to_keep=0):
            """Takes positions."""

    def slices(model=Sliced, **options):
        return action_logits.takes_positions(SimpleNamespace(model=model()), options)

    assert slices() and slices(ring_attn_group=None, return_output=True)
    refused = {
        "ring_attn_group": lambda: slices(ring_attn_group="group"),
        "pixel_values": lambda: slices(pixel_values="image"),
        "logits_to_keep": lambda: slices(model=Whole),
    }
    assert not refused[option]()
