"""Hostile requests to models that read text without generating any."""

import json

from tests.hostile.inputs.requests import (
    BOUNDED,
    INVALID,
    SLOW,
    Attack,
    answers,
    asks,
    many,
    raw,
    repeated,
)

WORDS, CONTEXT = "who " * 300, "the good is bad " * 60
QUESTIONS = (
    Attack("question-fills-window", "answers", answers(WORDS, CONTEXT), BOUNDED),
    Attack("question-over-window", "answers", answers("who " * 600, CONTEXT), BOUNDED),
    Attack(
        "question-beside-stride",
        "answers",
        answers("who " * 20, CONTEXT, max_seq_len=40, doc_stride=30),
        BOUNDED,
    ),
    # Windows that advance by few words: 60,000 tokens, a quarter of the limit
    Attack("question-cut", "answers", answers(WORDS, CONTEXT, max_question_len=379), SLOW),
    Attack("window-of-one", "answers", answers("who", CONTEXT, max_seq_len=1), BOUNDED),
    Attack(
        "window-of-stride",
        "answers",
        answers("who", CONTEXT, max_seq_len=100, doc_stride=100),
        BOUNDED,
    ),
    Attack(
        "stride-of-window",
        "answers",
        answers("who", "word " * 100_000, max_seq_len=384, doc_stride=379),
    ),
    Attack("window-too-long", "answers", answers("who", CONTEXT, max_seq_len=1 << 40), BOUNDED),
    Attack("stride-negative", "answers", answers("who", CONTEXT, doc_stride=-1), INVALID),
    Attack("answers-many", "answers", answers("who", CONTEXT, top_k=1 << 60), BOUNDED),
    Attack("answers-long", "answers", answers("who", CONTEXT, max_answer_len=1 << 60), BOUNDED),
    Attack(
        "questions-many", "answers", asks([{"question": "who", "context": "word " * 2000}] * 2000)
    ),
)
PARAMETERS = (
    Attack(
        "template-wide",
        "zero-shot",
        asks("x", candidate_labels=["a"], hypothesis_template="{:1000000000}"),
    ),
    Attack(
        "template-wide-inside",
        "zero-shot",
        asks("x", candidate_labels=["a"], hypothesis_template="{0:>{0}}"),
        BOUNDED,
    ),
    Attack(
        "template-attribute",
        "zero-shot",
        asks("x", candidate_labels=["a"], hypothesis_template="{.__class__}"),
        BOUNDED,
    ),
    Attack(
        "template-many",
        "zero-shot",
        asks("x", candidate_labels=["a" * 1000], hypothesis_template="{0}" * 100_000),
    ),
    Attack(
        "labels-times-texts",
        "zero-shot",
        asks(["a"] * 1000, candidate_labels=[f"l{n}" for n in range(1000)]),
    ),
    Attack(
        "labels-in-one-text",
        "zero-shot",
        asks("x", candidate_labels=",".join(map(str, range(200_000)))),
    ),
    Attack("labels-nested", "zero-shot", asks("x", candidate_labels=[[["a"]]]), BOUNDED),
    Attack(
        "padded-to-length",
        "vectors",
        asks("x", tokenize_kwargs={"max_length": 10**9, "padding": "max_length"}),
    ),
    Attack(
        "padded-to-length-directly", "classes", asks("x", max_length=10**9, padding="max_length")
    ),
    Attack(
        "stride-of-tokens",
        "vectors",
        asks("word " * 50, tokenize_kwargs={"max_length": 10, "truncation": True, "stride": 10}),
        BOUNDED,
    ),
    Attack(
        "stride-of-tokens-directly",
        "classes",
        asks("word " * 50, max_length=5, truncation=True, stride=1 << 40),
        BOUNDED,
    ),
    Attack("length-negative", "classes", asks("word", max_length=-1, truncation=True), INVALID),
    Attack(
        "length-zero",
        "masks",
        asks("the [MASK]", tokenizer_kwargs={"max_length": 0, "truncation": True}),
        BOUNDED,
    ),
    Attack("truncation-odd", "classes", asks("word", truncation="only_second"), BOUNDED),
    Attack("one-long-text", "classes", repeated("a", 30_000_000), BOUNDED),
    Attack("one-text-of-words", "vectors", repeated("word ", 6_000_000), BOUNDED),
    Attack(
        "one-text-not-truncated", "vectors", repeated("word ", 300_000, truncation=False), BOUNDED
    ),
    Attack("many-texts", "classes", many("a", 200_000)),
    Attack("many-empty-texts", "classes", many("", 1_000_000)),
    Attack("half-a-character", "classes", raw('{"inputs": "\\ud800"}'), BOUNDED),
    Attack("nulls", "classes", raw('{"inputs": "\\u0000' + "\\u0000" * 100 + '"}'), BOUNDED),
    Attack("entities-in-windows", "entities", repeated("word ", 30_000, stride=509)),
    Attack("entities-stride", "entities", asks("word " * 700, stride=1 << 40), BOUNDED),
    Attack("entities-negative", "entities", asks("word " * 700, stride=-3), BOUNDED),
    Attack("entities-delimiter", "entities", many("word", 200_000, is_split_into_words=True)),
    Attack("targets-many", "masks", asks("the [MASK]", targets=[f"t{n}" for n in range(300_000)])),
    Attack("masks-many", "masks", repeated("[MASK] ", 300_000), BOUNDED),
    Attack("tops-many", "masks", asks("the [MASK]", top_k=1 << 60), BOUNDED),
    Attack("nested-inputs", "classes", raw('{"inputs": ' + "[" * 1_000_000), INVALID),
    Attack(
        "nested-parameters",
        "classes",
        raw('{"inputs": "a", "parameters": ' + '{"a":' * 500_000),
        INVALID,
    ),
    Attack("long-number", "classes", raw('{"inputs": ' + "9" * 1_000_000 + "}"), INVALID),
    Attack(
        "many-keys",
        "classes",
        lambda: json.dumps({"inputs": {str(n): n for n in range(500_000)}}).encode(),
        INVALID,
    ),
)
TEXTS = (*QUESTIONS, *PARAMETERS)
