"""The closed list of tasks, and the task that a config.json implies.

Plain Python without torch: the front process decides this before it sends a load to a worker.
"""

import difflib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from model_handler.errors import ModelLoadFailed


class InputKind(StrEnum):
    """The kind of input that a task takes; it decides which media types a request may have."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"


_KINDS = {
    "audio-classification": InputKind.AUDIO,
    "automatic-speech-recognition": InputKind.AUDIO,
    "depth-estimation": InputKind.IMAGE,
    "document-question-answering": InputKind.IMAGE,
    "feature-extraction": InputKind.TEXT,
    "fill-mask": InputKind.TEXT,
    "image-classification": InputKind.IMAGE,
    "image-feature-extraction": InputKind.IMAGE,
    "image-segmentation": InputKind.IMAGE,
    "mask-generation": InputKind.IMAGE,
    "object-detection": InputKind.IMAGE,
    "question-answering": InputKind.TEXT,
    "summarization": InputKind.TEXT,
    "table-question-answering": InputKind.TEXT,
    "text-classification": InputKind.TEXT,
    "text-generation": InputKind.TEXT,
    "text-to-audio": InputKind.TEXT,
    "text2text-generation": InputKind.TEXT,
    "token-classification": InputKind.TEXT,
    "translation": InputKind.TEXT,
    "zero-shot-audio-classification": InputKind.AUDIO,
    "zero-shot-classification": InputKind.TEXT,
    "zero-shot-image-classification": InputKind.IMAGE,
    "zero-shot-object-detection": InputKind.IMAGE,
}
SUPPORTED = tuple(_KINDS)

_ALIASES = {
    "asr": "automatic-speech-recognition",
    "embedding": "feature-extraction",
    "ner": "token-classification",
    "sentiment-analysis": "text-classification",
    "text-to-speech": "text-to-audio",
}

# The longest suffix that matches the architecture decides, so a full class name overrides a suffix.
_ARCHITECTURES = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "BertGenerationDecoder": "text-generation",
    "ForQuestionAnswering": "question-answering",
    "ForQuestionAnsweringSimple": "question-answering",
    "TapasForQuestionAnswering": "table-question-answering",
    "ForDocumentQuestionAnswering": "document-question-answering",
    "LayoutLMForQuestionAnswering": "document-question-answering",
    "LayoutLMv2ForQuestionAnswering": "document-question-answering",
    "LayoutLMv3ForQuestionAnswering": "document-question-answering",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "LMHead": "text-generation",
    # XLM and FlauBERT: one class for causal and masked language models; checkpoints are mostly masked
    "WithLMHeadModel": "fill-mask",
    "T5WithLMHeadModel": "text2text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "EncoderDecoderModel": "text2text-generation",
    "MTModel": "translation",
    "FSMTForConditionalGeneration": "translation",
    "M2M100ForConditionalGeneration": "translation",
    "MBartForConditionalGeneration": "translation",
    "NllbMoeForConditionalGeneration": "translation",
    "PegasusForConditionalGeneration": "summarization",
    "PegasusXForConditionalGeneration": "summarization",
    "BigBirdPegasusForConditionalGeneration": "summarization",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "ForCTC": "automatic-speech-recognition",
    "SpeechEncoderDecoderModel": "automatic-speech-recognition",
    "WhisperForConditionalGeneration": "automatic-speech-recognition",
    "Speech2TextForConditionalGeneration": "automatic-speech-recognition",
    "MoonshineForConditionalGeneration": "automatic-speech-recognition",
    "SpeechT5ForSpeechToText": "automatic-speech-recognition",
    "SpeechT5ForTextToSpeech": "text-to-audio",
    "VitsModel": "text-to-audio",
    "BarkModel": "text-to-audio",
    "ForTextToWaveform": "text-to-audio",
    "MusicgenForConditionalGeneration": "text-to-audio",
    "ForAudioClassification": "audio-classification",
    "ASTForAudioClassification": "audio-classification",
    "HubertForSequenceClassification": "audio-classification",
    "UniSpeechForSequenceClassification": "audio-classification",
    "UniSpeechSatForSequenceClassification": "audio-classification",
    "Wav2Vec2BertForSequenceClassification": "audio-classification",
    "Wav2Vec2ConformerForSequenceClassification": "audio-classification",
    "Wav2Vec2ForSequenceClassification": "audio-classification",
    "WavLMForSequenceClassification": "audio-classification",
    "SEWForSequenceClassification": "audio-classification",
    "SEWDForSequenceClassification": "audio-classification",
    "WhisperForAudioClassification": "audio-classification",
    "ClapModel": "zero-shot-audio-classification",
    "ForImageClassification": "image-classification",
    "ForImageClassificationWithTeacher": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForSegmentation": "image-segmentation",
    "ForImageSegmentation": "image-segmentation",
    "ForSemanticSegmentation": "image-segmentation",
    "ForInstanceSegmentation": "image-segmentation",
    "ForUniversalSegmentation": "image-segmentation",
    "ForPanopticSegmentation": "image-segmentation",
    "ForDepthEstimation": "depth-estimation",
    "SamModel": "mask-generation",
    "Owlv2ForObjectDetection": "zero-shot-object-detection",
    "OwlViTForObjectDetection": "zero-shot-object-detection",
    "GroundingDinoForObjectDetection": "zero-shot-object-detection",
    "OmDetTurboForObjectDetection": "zero-shot-object-detection",
    "CLIPModel": "zero-shot-image-classification",
    "ChineseCLIPModel": "zero-shot-image-classification",
    "AltCLIPModel": "zero-shot-image-classification",
    "SiglipModel": "zero-shot-image-classification",
    "Siglip2Model": "zero-shot-image-classification",
    "AlignModel": "zero-shot-image-classification",
    "ViTModel": "image-feature-extraction",
    "DeiTModel": "image-feature-extraction",
    "BeitModel": "image-feature-extraction",
    "SwinModel": "image-feature-extraction",
    "Swinv2Model": "image-feature-extraction",
    "ConvNextModel": "image-feature-extraction",
    "ConvNextV2Model": "image-feature-extraction",
    "Dinov2Model": "image-feature-extraction",
    "DINOv3ViTModel": "image-feature-extraction",
    "ResNetModel": "image-feature-extraction",
    "CLIPVisionModel": "image-feature-extraction",
    "SiglipVisionModel": "image-feature-extraction",
    "Model": "feature-extraction",
}
# Architectures that no task here serves. ForMultimodalLM: every model that reads pictures or sound and
# generates text.
_UNSERVED = (
    "ForMultipleChoice",
    "ForNextSentencePrediction",
    "ForMultimodalLM",
    "ForVisionEncoderDecoder",
    "VisionEncoderDecoderModel",
    "ForVideoClassification",
    "ForXVector",
    "ForAudioFrameClassification",
    "ForMaskedImageModeling",
)
# Families whose ...ForConditionalGeneration is text to text; in any other family it reads other inputs
_TEXT_TO_TEXT = (
    *("Bart", "BigBirdPegasus", "Blenderbot", "BlenderbotSmall", "FSMT", "LED", "LongT5"),
    *("M2M100", "MBart", "MT5", "Mvp", "NllbMoe", "PLBart", "Pegasus", "PegasusX", "ProphetNet"),
    *("SwitchTransformers", "T5", "T5Gemma", "UMT5", "XLMProphetNet"),
)


def input_kind(task: str) -> InputKind:
    """`task`: normalised."""
    return _KINDS[family(task)]


_GENERATING = frozenset(
    {
        "automatic-speech-recognition",
        "summarization",
        "text-generation",
        "text2text-generation",
        "translation",
    }
)


def generates(task: str) -> bool:
    """Whether the task decodes step by step: the output of each step is input of the next."""
    return bool(task) and family(task) in _GENERATING


def family(task: str) -> str:
    """`translation` for `translation_en_to_de`; any other task is its own family."""
    return "translation" if task.startswith("translation_") else task


def normalise(task: str) -> str:
    """The canonical name of a task; `translation_en_to_de` keeps its languages.

    Raises ModelLoadFailed for an unknown task.
    """
    name = task.strip()
    if not (name.startswith("translation_") and _languages(name)):
        name = name.lower()
        name = _ALIASES.get(name, name)
    if family(name) not in _KINDS or (name != family(name) and not _languages(name)):
        raise ModelLoadFailed(f"unknown task {_short(task)!r}{_nearest(name)}; {_listing()}")
    return name


def infer(config: Mapping[str, Any]) -> str:
    """The task that a model's config.json implies. Raises ModelLoadFailed when it implies none.

    An NLI classifier is text-classification, whatever its labels: zero-shot-classification must be set
    explicitly. A seq2seq model follows its task_specific_params where they leave one choice
    (bart-large-cnn: summarization). Without such a hint Bart and T5 are text2text-generation, which
    claims nothing about what the model was trained for.
    """
    architecture = _architecture(config)
    fitting = [suffix for suffix in _ARCHITECTURES if architecture.endswith(suffix)]
    if not fitting or architecture.endswith(_UNSERVED):
        raise ModelLoadFailed(f"no task is known for {_short(architecture)!r}; {_listing()}")
    suffix = max(fitting, key=len)
    if suffix == "ForConditionalGeneration":
        _check_text_to_text(architecture)
    task = _ARCHITECTURES[suffix]
    return _hinted(config) or task if task == "text2text-generation" else task


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        return named[0]
    raise ModelLoadFailed(f"config.json names no architecture to infer the task from; {_listing()}")


def _check_text_to_text(architecture: str) -> None:
    if architecture.removesuffix("ForConditionalGeneration") not in _TEXT_TO_TEXT:
        raise ModelLoadFailed(
            f"{_short(architecture)!r} does not go from text to text; {_listing()}"
        )


def _hinted(config: Mapping[str, Any]) -> str | None:
    hints = config.get("task_specific_params")
    if not isinstance(hints, Mapping):
        return None
    families = {family(str(hint)) for hint in hints} & {"summarization", "translation"}
    return families.pop() if len(families) == 1 else None


def _languages(task: str) -> tuple[str, str] | None:
    """Source and target of `translation_<source>_to_<target>`; either may contain underscores."""
    source, found, target = task.removeprefix("translation_").partition("_to_")
    return (source, target) if found and source and target else None


def languages(task: str) -> tuple[str, str] | None:
    """Source and target language in the name of a normalised translation task, or None."""
    return _languages(task) if task.startswith("translation_") else None


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, [*SUPPORTED, *_ALIASES], n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _listing() -> str:
    return f"supported tasks: {', '.join(SUPPORTED)}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
