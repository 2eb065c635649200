"""Hostile requests to models that generate text, and to those that read pictures, audio or numbers."""

import struct
from typing import Any

from tests.hostile.inputs.requests import (
    BOUNDED,
    INVALID,
    SLOW,
    TOO_MUCH,
    Attack,
    asks,
    encoded,
    npy,
    png,
    raw,
    tone,
)

EVERY_TOKEN = list(range(400))
SEQUENCES: dict[str, Any] = {
    "do_sample": True,
    "max_new_tokens": 30_000,
    "num_return_sequences": 64,
}
GENERATED = (
    Attack("cold", "chat", asks("a", do_sample=True, temperature=1e-40), INVALID),
    Attack("penalty", "chat", asks("a", do_sample=True, repetition_penalty=1e-300), INVALID),
    Attack(
        "bias-infinite",
        "chat",
        raw('{"inputs":"a","parameters":{"sequence_bias":[[[5],1e999]]}}'),
        INVALID,
    ),
    Attack(
        "bias-nan",
        "chat",
        raw('{"inputs":"a","parameters":{"sequence_bias":[[[5],NaN]]}}'),
        INVALID,
    ),
    Attack("suppressed", "chat", asks("a", do_sample=True, suppress_tokens=EVERY_TOKEN), INVALID),
    Attack("suppressed-at-first", "chat", asks("a", begin_suppress_tokens=EVERY_TOKEN), INVALID),
    # transformers does not ban the token that ends a text: the answer may be empty
    Attack(
        "bad-words",
        "chat",
        asks("a", do_sample=True, bad_words_ids=[[n] for n in EVERY_TOKEN]),
        BOUNDED,
    ),
    Attack(
        "suppressed-in-two-ways",
        "chat",
        asks(
            "a",
            do_sample=True,
            suppress_tokens=EVERY_TOKEN[:200],
            bad_words_ids=[[n] for n in EVERY_TOKEN[200:]],
        ),
        INVALID,
    ),
    Attack(
        "beams",
        "chat",
        asks("a", num_beams=64, num_return_sequences=64, max_new_tokens=100_000),
        BOUNDED,
    ),
    Attack("sequences", "chat", asks(["a"] * 1000, **SEQUENCES), BOUNDED),
    Attack("tokens", "summaries", asks(["a"] * 5000, max_new_tokens=1_000_000), BOUNDED),
    Attack("guided", "chat", asks("a", guidance_scale=1e308, max_new_tokens=4), INVALID),
    Attack("many-stops", "chat", asks("a", stop_sequence="x" * 1_000_000), BOUNDED),
    Attack(
        "many-biases",
        "chat",
        asks("a", sequence_bias=[[[n % 400] * 50, 1.0] for n in range(9000)]),
        BOUNDED,
    ),
    Attack(
        "a-long-chat",
        "chat",
        lambda: asks([{"role": "user", "content": "x"}] * 300_000)(),
    ),
)
ROUND = "image/png"
MEDIA = (
    Attack("large-picture", "pictures", lambda: png(13_000, 13_000), TOO_MUCH, ROUND),
    Attack("eight-large-pictures", "pictures", encoded(lambda: png(13_000, 13_000), 8)),
    Attack("wide-picture", "pictures", lambda: png(1 << 24, 1), BOUNDED, ROUND),
    Attack(
        "huge-picture",
        "pictures",
        lambda: png(4, 4).replace(struct.pack(">II", 4, 4), struct.pack(">II", 1 << 30, 1 << 30)),
        INVALID,
        ROUND,
    ),
    Attack("many-pictures", "pictures", encoded(lambda: png(8, 8), 20_000)),
    Attack(
        "picture-of-no-size",
        "pictures",
        lambda: png(1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", 0, 0)),
        INVALID,
        ROUND,
    ),
    Attack("long-audio", "audio", lambda: tone(800), TOO_MUCH, "audio/wav"),
    Attack("short-audio", "audio", lambda: tone(0.0001), INVALID, "audio/wav"),
    Attack("no-audio", "audio", lambda: tone(0), INVALID, "audio/wav"),
    Attack("audio-in-pieces", "audio", encoded(lambda: tone(60), 1, chunk_length_s=0.001)),
    Attack(
        "audio-in-strides",
        "audio",
        encoded(lambda: tone(60), 1, chunk_length_s=1, stride_length_s=[0.4999, 0.4999]),
    ),
    Attack(
        "audio-stride-too-long",
        "audio",
        encoded(lambda: tone(2), 1, chunk_length_s=1, stride_length_s=5),
        INVALID,
    ),
    Attack(
        "audio-negative-pieces", "audio", encoded(lambda: tone(2), 1, chunk_length_s=-1), INVALID
    ),
    Attack("audio-fast", "audio", lambda: tone(0.001, rate=4_000_000), BOUNDED, "audio/wav"),
    Attack("audio-slow", "audio", lambda: tone(200_000, rate=2), TOO_MUCH, "audio/wav"),
    # 300 s of audio in 3,000 rows, each a forward of its own
    Attack("many-audios", "audio", encoded(lambda: tone(0.1), 3000), SLOW),
)
TENSORS = (
    Attack("many-rows", "trees", lambda: b"1,2,3\n" * 4_000_000, BOUNDED, "text/csv"),
    Attack("many-columns", "trees", lambda: b"1," * 15_000_000, INVALID, "text/csv"),
    Attack("sparse-column", "trees", lambda: b"0 2000000000:1\n", INVALID, "text/libsvm"),
    Attack(
        "deep-array",
        "numbers",
        lambda: b'{"inputs":' + b"[" * 60 + b"1" + b"]" * 60 + b"}",
        BOUNDED,
    ),
    Attack("many-numbers", "numbers", lambda: b'{"inputs":[' + b"1," * 7_000_000 + b"1]}", BOUNDED),
    # Each of a million documents is parsed by itself
    Attack("long-lines", "trees", lambda: b"[1,2,3]\n" * 1_000_000, SLOW, "application/jsonlines"),
    Attack("array-header", "numbers", lambda: npy("(1<<60,)"), INVALID, "application/x-npy"),
    Attack("array-claims", "numbers", lambda: npy(f"({1 << 50},)"), INVALID, "application/x-npy"),
    Attack(
        "array-overflows",
        "numbers",
        lambda: npy(f"({1 << 32}, {1 << 32})"),
        INVALID,
        "application/x-npy",
    ),
    Attack("array-of-objects", "numbers", lambda: npy("(1,)", "|O"), INVALID, "application/x-npy"),
)
OTHERS = (*GENERATED, *MEDIA, *TENSORS)
