"""The ways of training that findings compare. An arm is played once per seed, whoever asks for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from data_prep.tiny.difficulty import find_world
from foundation.errors import found_in
from r1_searcher.recipe.presets import find_preset

PRESETS = Path(__file__).parent / "presets"
"""Of the harder world; other presets are those of `train_scripts`."""
BUDGET_PROMPT = Path(__file__).parent / "budget_prompt.txt"
STEPS = "75"
"""Steps (rollouts) of a run, 64 episodes each."""


@dataclass(frozen=True)
class Arm:
    """One way of training, as it is played for a seed."""

    name: str
    """Of its file of rows."""
    label: str
    """In tables and pictures."""
    preset: str = "findings"
    """Gives the world, the base model and OpenRLHF's flags."""
    stage: str = "run"
    """Of the preset."""
    options: tuple[str, ...] = ()
    """Of `r1_searcher.train`; `{base}` is the base model's folder."""
    trained: bool = True
    """False: the base model itself is evaluated."""
    searched: str = "plain"
    """What training searches: a kind of `benchmarks.findings.corpora`."""
    noise: str = ""
    """Training searches the simulated engine with this noise instead, e.g. `0:0.5`."""
    asked: str = ""
    """Kind of the training questions: empty for all, else one of `questions_of`."""
    taught_by: str = ""
    """Arm whose good episodes are taught by supervised fine-tuning instead of RL."""
    evaluated: tuple[str, ...] = ("plain",)
    """Kinds of corpora that the evaluations search."""

    @property
    def preset_file(self) -> str:
        """What `--preset` takes."""
        own = PRESETS / f"{self.preset}.toml"
        return str(own) if own.is_file() else self.preset

    @property
    def settings(self) -> dict[str, object]:
        """Everything that makes its rows comparable with each other."""
        preset = find_preset(self.preset_file)
        teacher = {"teacher": find_arm(self.taught_by).settings} if self.taught_by else {}
        prompt = {"prompt": BUDGET_PROMPT.read_text(encoding="utf-8")} if str(BUDGET_PROMPT) in self.options else {}
        options = [word.replace(str(BUDGET_PROMPT), BUDGET_PROMPT.name) for word in self.options]
        own = {**asdict(self), "options": options, "name": "", "label": ""}
        return {
            **own,
            "flags": preset.flag_words(preset.stage(self.stage)),
            "difficulty": find_world(preset.tiny.world).as_mapping() if preset.tiny else {},
            **teacher,
            **prompt,
        }

    @cached_property
    def digest(self) -> str:
        """Eight digits that change with the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]


_TWO_STAGES = ("--switch", "step:12")
_UNCORRECTED = ("--algo.advantage.is_correction_level", "off")
# Four documents of five passages do not fit into the 384 tokens of the others.
_TOP_K = ("--max-length", "768", "--top-k")


def _repeated(passes: int) -> tuple[str, ...]:
    return ("--train.num_episodes", str(passes), "--max-steps", STEPS)


def _group(questions: int, samples: int, passes: int) -> tuple[str, ...]:
    shape = ("--rollout.batch_size", str(questions), "--rollout.n_samples_per_prompt", str(samples))
    return (*_TWO_STAGES, *shape, *_repeated(passes))


def _estimator(name: str, *more: str) -> tuple[str, ...]:
    return (*_TWO_STAGES, "--algo.advantage.estimator", name, *more)


def _reward(name: str) -> tuple[str, ...]:
    return (*_TWO_STAGES, "--then-reward", name)


_SEARCHING = "findings_searching"
_ZEROSEARCH = ("--max-steps", STEPS)
_EVERYWHERE = ("plain", "noisy", "web_like")

_ROWS = (
    Arm("base", "base model", trained=False, evaluated=_EVERYWHERE),
    Arm("two_stages", "two stages", options=_TWO_STAGES, evaluated=_EVERYWHERE),
    Arm("stage2", "stage 2 alone", stage="answers"),
    Arm("searching_two_stages", "two stages, base that searches", _SEARCHING, options=_TWO_STAGES),
    Arm("searching_stage2", "stage 2 alone, base that searches", _SEARCHING, "answers"),
    Arm("mask", "documents masked", options=(*_TWO_STAGES, *_UNCORRECTED)),
    Arm("no_mask", "documents in the loss", options=(*_TWO_STAGES, *_UNCORRECTED, "--no-document-mask")),
    Arm("em_reward", "reward EM", options=_reward("r1_searcher.stage2_em")),
    Arm("cover_em_reward", "reward cover-EM", options=_reward("r1_searcher.stage2_cover_em")),
    Arm("no_format_reward", "reward without format", options=_reward("f1=1")),
    Arm("evidence_reward", "format and evidence", options=_reward("f1=1,format_broken=-2,evidence=0.2")),
    Arm("retrieval_reward", "format and having searched", options=_reward("f1=1,format_broken=-2,retrieved=0.2")),
    Arm("grpo", "GRPO", options=_estimator("group_norm")),
    Arm("rloo", "RLOO", options=_estimator("rloo")),
    Arm("reinforce", "Reinforce++ without baseline", options=_estimator("reinforce")),
    Arm(
        "ppo",
        "PPO",
        options=_estimator(
            "gae", "--algo.advantage.lambd", "1.0", "--critic.adam.lr", "1e-3", "--critic.model_name_or_path", "{base}"
        ),
    ),
    Arm("sft", "SFT on good episodes", _SEARCHING, "answers", taught_by="searching_stage2"),
    Arm("top_k_1", "top 1", "findings_top_k", options=(*_TWO_STAGES, *_TOP_K, "1")),
    Arm("top_k_3", "top 3", "findings_top_k", options=(*_TWO_STAGES, *_TOP_K, "3")),
    Arm("top_k_5", "top 5", "findings_top_k", options=(*_TWO_STAGES, *_TOP_K, "5")),
    # A group of one has no deviation to divide by.
    Arm("group_1", "64 questions x 1", options=(*_group(64, 1, 9), "--algo.advantage.estimator", "reinforce")),
    Arm("group_4", "16 questions x 4", options=(*_group(16, 4, 3), "--algo.advantage.estimator", "group_norm")),
    Arm("group_16", "4 questions x 16", options=(*_group(4, 16, 1), "--algo.advantage.estimator", "group_norm")),
    Arm("easy_data", "one-hop questions", options=(*_TWO_STAGES, *_repeated(4)), asked="easy"),
    Arm("hard_data", "three-hop questions", options=(*_TWO_STAGES, *_repeated(4)), asked="hard"),
    Arm("one_source", "chains only", options=(*_TWO_STAGES, *_repeated(2)), asked="chains"),
    Arm("random_documents", "random documents", _SEARCHING, "answers", searched="random"),
    Arm("no_documents", "no documents", _SEARCHING, "answers", searched="empty"),
    Arm("budget_hidden", "three searches, not told", options=(*_TWO_STAGES, "--max-searches", "3")),
    Arm(
        "budget_told",
        "three searches, told",
        options=(*_TWO_STAGES, "--max-searches", "3", "--prompt-file", str(BUDGET_PROMPT)),
    ),
    Arm("zerosearch_rising", "noise 0 to 0.5", "zerosearch_tiny", options=_ZEROSEARCH, noise="0:0.5"),
    Arm("zerosearch_constant", "noise 0.5", "zerosearch_tiny", options=_ZEROSEARCH, noise="0.5:0.5"),
    Arm("zerosearch_falling", "noise 0.5 to 0", "zerosearch_tiny", options=_ZEROSEARCH, noise="0.5:0"),
    Arm("zerosearch_real", "the real engine", "zerosearch_tiny", options=_ZEROSEARCH),
)

ARMS: dict[str, Arm] = {arm.name: arm for arm in _ROWS}


def find_arm(name: str) -> Arm:
    """The arm of this name. Raises `InputError` naming the known ones."""
    return found_in(ARMS, "arm", name)
