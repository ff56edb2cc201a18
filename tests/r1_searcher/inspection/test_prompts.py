"""Prompts and chat templates under inspection, an episode of each recipe, and the lengths that it needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.models.subjects import (
    TURNS,
    byte_pairs,
    chat_subject,
    fast,
    says,
    with_limits,
    with_prompt,
    with_tokenizer,
)

from r1_searcher.episode.question import QARow
from r1_searcher.inspection.checks import examine
from r1_searcher.inspection.episode import check_episode
from r1_searcher.inspection.finding import Level
from r1_searcher.inspection.prompt import check_answers, check_chat, check_length
from r1_searcher.inspection.subject import SAMPLE_ROW
from r1_searcher.inspection.vocabulary import check_eos
from r1_searcher.recipe.recipe import RECIPES
from r1_searcher.reward.rewards import find_reward


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


def test_a_recipe_whose_reward_asks_a_judge_passes_without_one(good):
    """The check before a training refused each of them, whatever `--judge-url` said."""
    says(check_episode(replace(good, recipe=replace(good.recipe, reward=find_reward("judge=1")))), Level.OK)


def test_documents_that_are_a_message_and_ask_again_forge_nothing(good):
    recipe = RECIPES["r1_searcher.chat.stage2"]
    after = f"{recipe.protocol.after_documents}The question: {{query}}\n"
    protocol = replace(recipe.protocol, documents_role="user", after_documents=after)
    subject = chat_subject(good, recipe.name, TURNS, eos="<|end|>")
    says(check_episode(replace(subject, recipe=replace(recipe, protocol=protocol))), Level.OK, "are trained")


def test_a_prompt_that_does_not_fit_the_rewards_rules_is_found(good):
    """R1-Searcher's rules want no <think> from the policy; after this prompt it would have to write one."""
    subject = with_prompt(good, "Question : {question}\n")
    says(check_episode(subject), Level.FAILED, "think_closed_once")


@pytest.mark.parametrize("max_length, level", [(384, Level.OK), (110, Level.WARNING), (60, Level.FAILED)])
def test_a_maximum_length_that_is_too_short_is_found(good, max_length, level):
    finding = check_length(with_limits(good, max_length=max_length))
    says(finding, level, str(max_length))
    assert level is Level.OK or ("--max-length" in finding.advice and "--data.max_len" not in finding.advice)


def test_more_tokens_than_the_model_has_positions_are_found(good):
    says(
        check_length(with_limits(good, max_length=4096)),
        Level.FAILED,
        "4096",
        "2048 positions",
        "pass --max-length 2048,",
    )


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
