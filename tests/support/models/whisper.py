"""Whisper with random weights, in the files that faster-whisper loads a trained one from."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workers.whisper.catalog import locate

# width, encoder layers, decoder layers, heads, mels: https://github.com/openai/whisper/blob/main/model-card.md
SIZES = {
    "random": (64, 2, 2, 2, 80),
    "tiny": (384, 4, 4, 6, 80),
    "base": (512, 6, 6, 8, 80),
    "small": (768, 12, 12, 12, 80),
    "medium": (1024, 24, 24, 16, 80),
    "large-v3": (1280, 32, 32, 20, 128),
    "turbo": (1280, 32, 4, 20, 128),
}
ENGLISH_VOCABULARY = 51_864  # with one token more, CTranslate2 takes a model for a multilingual one


def whisper(
    folder: Path, size: str = "random", *, multilingual: bool = False, quantization: str = "float16", seed: int = 0
) -> Path:
    """The folder, with model.bin, config.json, tokenizer.json, vocabulary.json and preprocessor_config.json."""
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.manual_seed(seed)
    width, encoder_layers, decoder_layers, heads, mels = SIZES[size]
    tokenizer = _tokenizer(multilingual)
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    config = WhisperConfig(  # type: ignore[no-untyped-call]
        vocab_size=ENGLISH_VOCABULARY + multilingual,
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config.suppress_tokens = []
    model.generation_config.begin_suppress_tokens = [220, ids["<|endoftext|>"]]
    with TemporaryDirectory() as name:
        source = Path(name)
        model.save_pretrained(source)
        (source / "tokenizer.json").write_text(json.dumps(tokenizer))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": list(ids)}
        (source / "tokenizer_config.json").write_text(json.dumps(settings))
        WhisperFeatureExtractor(feature_size=mels).save_pretrained(source)  # type: ignore[no-untyped-call]
        converter = TransformersConverter(name, copy_files=["tokenizer.json", "preprocessor_config.json"])
        converter.convert(str(folder), quantization=quantization, force=True)
    return folder


def _tokenizer(multilingual: bool) -> dict[str, Any]:
    """tiny.en's own. The multilingual ones have one token of text more, the empty one, before the special ones."""
    made: dict[str, Any] = json.loads((locate("embedded") / "tokenizer.json").read_text())
    if multilingual:
        last = len(made["model"]["vocab"]) - 1
        made["model"]["vocab"] |= {"": last, "<|endoftext|>": last + 1}
        for token in made["added_tokens"]:
            token["id"] += 1
        for token in made["post_processor"]["special_tokens"].values():
            token["ids"] = [id + 1 for id in token["ids"]]
    return made
