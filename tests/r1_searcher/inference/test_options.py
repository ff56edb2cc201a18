"""The options of the model, as the commands understand them."""

from __future__ import annotations

import argparse

import pytest

from r1_searcher.inference.options import add_model_options, endpoint_of


def endpoint(timeout: str):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    add_model_options(parser)
    given = ["--model", "m", "--endpoint", "http://127.0.0.1:9", "--tokenizer", "t", "--endpoint-timeout", timeout]
    return endpoint_of(parser.parse_args(given))


@pytest.mark.parametrize("seconds", [30, 300, 3600])
def test_every_attempt_at_a_turn_may_take_the_endpoints_whole_time_out(seconds):
    config = endpoint(str(seconds))
    waits = sum(config.retry.wait(failures, None, 1.0) for failures in range(1, config.retry.attempts))
    assert config.timeout == seconds and config.retry.deadline > config.retry.attempts * seconds + waits


@pytest.mark.parametrize("seconds", ["0", "-1000", "nan"])
def test_a_time_out_is_above_zero(seconds, capsys):
    with pytest.raises(SystemExit):
        endpoint(seconds)
    assert "must be a number above 0" in capsys.readouterr().err
