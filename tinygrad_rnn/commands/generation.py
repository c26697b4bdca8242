"""The command that writes text with a model."""

from __future__ import annotations

import argparse
from typing import cast

from ..data.text import Level, tokenize
from ..data.vocabulary import UNKNOWN
from ..errors import ConfigError
from ..training.inference.generation import generate as generate_ids
from ..training.language.modelfile import load_model
from ..training.loop.streams import stream
from .printing import how_to_replay, note, readable
from .texts import line_start, text_at


def generate(arguments: argparse.Namespace) -> int:
    """Write text with a model; return 0."""
    model, config, vocabulary = load_model(arguments.model)
    level = cast(Level, config.level)
    if arguments.seed < 0:
        raise ConfigError(f"generate: --seed must be 0 or more, got {arguments.seed}")
    if arguments.prompts and arguments.prompt:
        raise ConfigError("generate: pass --prompt or --prompts, not both")
    texts = str(text_at(arguments.prompts)).removesuffix("\n").split("\n") if arguments.prompts else [arguments.prompt]
    prompts = [tokenize(text, level) or [line_start(vocabulary, level)] for text in texts]
    unknown = sorted({token for prompt in prompts for token in prompt if token not in vocabulary})
    if unknown:
        note(f"not in the vocabulary, read as {UNKNOWN}: {', '.join(unknown)}")
    columns = generate_ids(
        model,
        vocabulary,
        [vocabulary.encode(prompt) for prompt in prompts],
        arguments.length,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        rng=[stream(arguments.seed) for _ in prompts],  # each goes on as it would alone
        **how_to_replay(arguments),
    )
    for prompt, *ids in zip(prompts, *columns, strict=True):
        print(readable([*prompt, *vocabulary.decode([int(one) for one in ids])], level))
    return 0
