"""A wav2vec 2.0 CTC model with random weights, as the folder that the hub would hand out."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import torch

VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *ascii_uppercase]  # that of facebook/wav2vec2-base-960h


def wav2vec2(
    folder: Path, *, hidden: int = 32, layers: int = 2, heads: int = 2, channels: int = 16, seed: int = 0
) -> Path:
    """wav2vec2-base's size is hidden=768, layers=12, heads=12, channels=512."""
    import transformers

    hub: Any = transformers
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: code for code, letter in enumerate(VOCABULARY)}))
    tokenizer = hub.Wav2Vec2CTCTokenizer(str(vocabulary), bos_token="<s>", eos_token="</s>", do_lower_case=False)
    extractor = hub.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    processor = hub.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer)
    torch.manual_seed(seed)
    config = hub.Wav2Vec2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        conv_dim=(channels,) * 7,
        num_conv_pos_embedding_groups=heads,
        pad_token_id=0,
    )
    hub.Wav2Vec2ForCTC(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
