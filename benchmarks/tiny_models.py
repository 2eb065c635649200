"""python -m benchmarks.tiny_models DIR COUNT

Writes DIR/0000/model, DIR/0001/model, …: two-layer BERT classifiers with 4.4 million different random
weights each, and the same word-piece tokenizer.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

VOCABULARY = 30522
INPUTS = ("input_ids", "token_type_ids", "attention_mask")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def main() -> None:
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    tokenizer = root / "tokenizer"
    save_tokenizer(tokenizer)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
    )
    for number in range(count):
        torch.manual_seed(number)
        directory = root / f"{number:04}" / "model"
        BertForSequenceClassification(config).save_pretrained(directory)
        shutil.copytree(tokenizer, directory, dirs_exist_ok=True)
    shutil.rmtree(tokenizer)


def save_tokenizer(
    directory: Path, size: int = VOCABULARY, inputs: tuple[str, ...] = INPUTS
) -> None:
    """Write the tokenizer with a class name that transformers 4 has too."""
    _tokenizer(size).save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": inputs}
    path.write_text(json.dumps(json.loads(path.read_text()) | own, indent=2))


def _tokenizer(size: int) -> PreTrainedTokenizerFast:
    """`size` entries; letters as word pieces, so that any text can be spelt."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), "warm", "as", "toast"]
    pieces += [f"word{number}" for number in range(size - len(pieces))]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)


if __name__ == "__main__":
    main()
