"""Properties of each task that the pipeline handler needs and the pipeline does not provide."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from model_handler.handlers.bounds import PARAMETERS as GENERATION


class Padding(Enum):
    """Which rows may share a forward without changing an answer."""

    MASKED = "rows of any length, padded with a mask"
    EQUAL = "only rows of the same shape"
    ALONE = "none"


_TOKENIZER = frozenset({"add_special_tokens", "max_length", "padding", "stride", "truncation"})
_TOP = frozenset({"top_k", "function_to_apply"})
_SEQ2SEQ = GENERATION | {
    *("return_tensors", "return_text", "clean_up_tokenization_spaces", "truncation"),
    "stop_sequence",
}


@dataclass(frozen=True, slots=True)
class TaskParameters:
    """`allowed`: parameters that a caller may set. `defaults`: values of parameters the caller leaves out.

    `generates`: the task calls `generate`. `required`: a parameter that the caller must set. `speaks`: some
    models of the task call `generate` in their own way.
    """

    allowed: frozenset[str] = frozenset()
    defaults: dict[str, Any] = field(default_factory=dict)
    padding: Padding = Padding.ALONE
    generates: bool = False
    required: str | None = None
    speaks: bool = False

    @property
    def calls_generate(self) -> bool:
        return self.generates or self.speaks


TASK_PARAMETERS = {
    "audio-classification": TaskParameters(_TOP, padding=Padding.EQUAL),
    "automatic-speech-recognition": TaskParameters(
        GENERATION
        | {*("chunk_length_s", "stride_length_s", "ignore_warning", "return_timestamps")}
        | {*("return_language", "generate_kwargs", "language", "task")},
        padding=Padding.EQUAL,
        generates=True,
    ),
    "depth-estimation": TaskParameters(),
    "document-question-answering": TaskParameters(
        frozenset(
            {
                *("doc_stride", "handle_impossible_answer", "lang", "max_answer_len"),
                *("max_question_len", "max_seq_len", "question", "top_k", "word_boxes"),
            }
        )
    ),
    "feature-extraction": TaskParameters(
        frozenset({"truncation", "tokenize_kwargs"}), {"truncation": True}, Padding.EQUAL
    ),
    "fill-mask": TaskParameters(
        frozenset({"top_k", "targets", "tokenizer_kwargs"}),
        {"tokenizer_kwargs": {"truncation": True}},
        Padding.MASKED,
    ),
    "image-classification": TaskParameters(_TOP, padding=Padding.EQUAL),
    "image-feature-extraction": TaskParameters(frozenset({"pool"}), padding=Padding.EQUAL),
    "image-segmentation": TaskParameters(
        frozenset({"subtask", "threshold", "mask_threshold", "overlap_mask_area_threshold"})
    ),
    "mask-generation": TaskParameters(
        frozenset(
            {
                *("points_per_crop", "points_per_batch", "crops_n_layers", "crop_overlap_ratio"),
                *("crop_n_points_downscale_factor", "pred_iou_thresh", "stability_score_offset"),
                *("stability_score_thresh", "mask_threshold", "crops_nms_thresh"),
            }
        )
    ),
    "object-detection": TaskParameters(frozenset({"threshold"})),
    "question-answering": TaskParameters(
        frozenset(
            {
                *("doc_stride", "handle_impossible_answer", "max_answer_len", "max_question_len"),
                *("max_seq_len", "top_k", "topk"),
            }
        ),
        padding=Padding.MASKED,
    ),
    "summarization": TaskParameters(_SEQ2SEQ, padding=Padding.MASKED, generates=True),
    "table-question-answering": TaskParameters(frozenset({"padding", "sequential", "truncation"})),
    "text-classification": TaskParameters(_TOKENIZER | _TOP, {"truncation": True}, Padding.MASKED),
    "text-generation": TaskParameters(
        GENERATION
        | {*("return_full_text", "return_tensors", "return_text", "clean_up_tokenization_spaces")}
        | {
            *(
                "prefix",
                "handle_long_generation",
                "stop_sequence",
                "truncation",
                "add_special_tokens",
            )
        }
        | {*("continue_final_message", "skip_special_tokens", "tools", "documents")},
        padding=Padding.MASKED,
        generates=True,
    ),
    "text-to-audio": TaskParameters(
        frozenset({"forward_params", "generate_kwargs", "preprocess_params"}), speaks=True
    ),
    "text2text-generation": TaskParameters(_SEQ2SEQ, padding=Padding.MASKED, generates=True),
    "token-classification": TaskParameters(
        frozenset(
            {
                *("aggregation_strategy", "delimiter", "ignore_labels", "is_split_into_words"),
                "stride",
            }
        ),
        padding=Padding.MASKED,
    ),
    "translation": TaskParameters(
        _SEQ2SEQ | {"src_lang", "tgt_lang"}, padding=Padding.MASKED, generates=True
    ),
    "zero-shot-audio-classification": TaskParameters(
        frozenset({"candidate_labels", "hypothesis_template"}), required="candidate_labels"
    ),
    "zero-shot-classification": TaskParameters(
        frozenset({"candidate_labels", "hypothesis_template", "multi_label"}),
        padding=Padding.MASKED,
        required="candidate_labels",
    ),
    "zero-shot-image-classification": TaskParameters(
        frozenset({"candidate_labels", "hypothesis_template"}), required="candidate_labels"
    ),
    "zero-shot-object-detection": TaskParameters(
        frozenset({"candidate_labels", "threshold", "top_k"}), required="candidate_labels"
    ),
}

# Parameters with few values, for which the error of a pipeline names only the missing key
CHOICES = {
    "aggregation_strategy": ("none", "simple", "first", "average", "max"),
    "function_to_apply": ("none", "sigmoid", "softmax"),
}

# Padding changes the answers of these models even with a mask: convolutions, pooling over positions, windows
# that depend on the length, or a recurrent state that reads the padding.
PADDING_SENSITIVE = frozenset(
    {
        *("big_bird", "bigbird_pegasus", "canine", "convbert", "fnet", "funnel", "led"),
        *("longformer", "longt5", "nystromformer", "perceiver", "reformer", "yoso", "xlnet"),
        *("bamba", "falcon_h1", "falcon_mamba", "jamba", "mamba", "mamba2", "recurrent_gemma"),
        *("rwkv", "xlstm", "zamba", "zamba2", "qwen3_next", "lfm2", "granitemoehybrid", "bark"),
    }
)


def safe_padding(family: str, config: Any, tokenizer: Any) -> Padding:
    """The padding that a model allows. Decoders classify at the last token that is not padding, which they
    find by `pad_token_id`."""
    wanted = TASK_PARAMETERS[family].padding
    pad = getattr(tokenizer, "pad_token_id", None)
    if wanted is not Padding.MASKED or family == "text-generation":
        return wanted
    classifies = family in ("text-classification", "zero-shot-classification")
    if classifies and (pad is None or getattr(config, "pad_token_id", None) != pad):
        return Padding.ALONE
    return Padding.MASKED if pad is not None else Padding.EQUAL


def row_padding(family: str, tokenizer: Any) -> tuple[str, int]:
    """The side on which rows are padded, and the token that pads them."""
    side = getattr(tokenizer, "padding_side", "right")
    pad_id = getattr(tokenizer, "pad_token_id", None) or 0
    return "left" if family == "text-generation" else str(side), pad_id
