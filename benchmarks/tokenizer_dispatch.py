"""How long it takes to hand out the prompts of a step: `python -m benchmarks.tokenizer_dispatch --out FILE`.

OpenRLHF passes its tokenizer with every prompt to a Ray actor. Measured is the time from the first call to the last
answer of an actor that does nothing, for a tokenizer of made-up words that has as many entries as Qwen2.5's: as
OpenRLHF sends it, and by its name (`r1_searcher.host.patches.tokenizer_by_name`). The two take turns. Whole, it is
written and read again for every prompt, half a second each, so that a part of a step is sent in each round and its
time is scaled to the step.
"""

from __future__ import annotations

import argparse
import contextlib
import copyreg
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from foundation.cli import OneLineParser, check_output, positive, run_command
from foundation.files import write_json


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status is one of `foundation.cli`."""
    parser = OneLineParser(prog="benchmarks.tokenizer_dispatch", description=__doc__)
    parser.add_argument("--prompts", type=positive, default=512, help="of a step (%(default)s)")
    parser.add_argument("--sent-whole", type=positive, default=32, help="of them, in each round (%(default)s)")
    parser.add_argument("--rounds", type=positive, default=3, help="of both, one after the other (%(default)s)")
    parser.add_argument("--entries", type=positive, default=150_000, help="of the vocabulary (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file of the figures; they are printed too")
    options = parser.parse_args(argv)
    return run_command("benchmarks.tokenizer_dispatch", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    check_output(options.out)
    import ray

    sent_whole = min(options.sent_whole, options.prompts)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = made_up_tokenizer(Path(folder), options.entries)
        ray.init(address="local", include_dashboard=False, num_cpus=2, log_to_driver=False)
        try:
            measured = seconds(ray, tokenizer, options.prompts, sent_whole, options.rounds)
        finally:
            ray.shutdown()
    figures = {"prompts": options.prompts, "sent_whole": sent_whole, "entries": options.entries, **measured}
    print("\n".join(f"{name}: {value}" for name, value in figures.items()))
    if options.out is not None:
        write_json(options.out, figures)


def seconds(ray: Any, tokenizer: Any, prompts: int, sent_whole: int, rounds: int) -> dict[str, Any]:
    """Seconds until all prompts are answered, of every round and their medians: tokenizers whole, and by name."""
    from r1_searcher.host.patches.tokenizer_by_name import travel_by_name

    class Engine:
        def take(self, prompt: str, hf_tokenizer: Any) -> int:
            return len(prompt)

    engine = ray.remote(num_cpus=0)(Engine).remote()

    def hand_out(count: int) -> float:
        started = time.perf_counter()
        ray.get([engine.take.remote(f"question {n}", hf_tokenizer=tokenizer) for n in range(count)])
        return time.perf_counter() - started

    hand_out(1)  # the actor's start, and its import of transformers
    travel_by_name(tokenizer)
    hand_out(1)  # the one time that it loads the tokenizer
    whole, by_name = [], []
    for _ in range(rounds):
        with _whole(type(tokenizer)):
            whole.append(hand_out(sent_whole) * prompts / sent_whole)
        by_name.append(hand_out(prompts))
    return {"whole_s": _rounded(whole), "by_name_s": _rounded(by_name)}


@contextlib.contextmanager
def _whole(kind: type) -> Iterator[None]:
    """Undoes `travel_by_name` for a while."""
    by_name = copyreg.dispatch_table.pop(kind)
    try:
        yield
    finally:
        copyreg.dispatch_table[kind] = by_name


def _rounded(values: Sequence[float]) -> dict[str, Any]:
    return {"median": round(statistics.median(values), 2), "rounds": [round(value, 2) for value in values]}


def made_up_tokenizer(folder: Path, entries: int) -> Any:
    """A byte-pair tokenizer of so many entries, saved in a folder and loaded from it as a model's is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces, merges = list(letters), []
    for left in pieces:  # which grows: a, then ab, then abc, and so on
        new = letters[: max(0, entries - len(pieces))]
        merges += [(left, right) for right in new]
        pieces += [left + right for right in new]
    built = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=merges))
    built.pre_tokenizer, built.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder()
    PreTrainedTokenizerFast(tokenizer_object=built, eos_token="a", pad_token="a").save_pretrained(folder)
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": entries}
    write_json(folder / "config.json", config)
    return AutoTokenizer.from_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())
