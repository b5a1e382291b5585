"""Sortformer diarizers with random weights, as .nemo files.

The architecture is that of NeMo's examples/speaker_tasks/diarization/conf/neural_diarizer: the offline
sortformer_diarizer_hybrid_loss_4spk-v1.yaml and the streaming streaming_sortformer_diarizer_4spk-v2.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPEAKERS = 4


@dataclass(frozen=True, slots=True)
class Size:
    fc_d_model: int  # of the FastConformer
    fc_layers: int
    tf_d_model: int  # of the Transformer behind it
    tf_layers: int
    tf_inner: int
    heads: int
    channels: int  # of the subsampling convolutions


TINY = Size(fc_d_model=32, fc_layers=2, tf_d_model=16, tf_layers=2, tf_inner=32, heads=2, channels=8)
REAL = Size(fc_d_model=512, fc_layers=18, tf_d_model=192, tf_layers=18, tf_inner=768, heads=8, channels=256)


def sortformer(folder: Path, size: Size = TINY, streaming: bool = False, seed: int = 0) -> Path:
    """The file of a new model, whose answers change with what it hears as much as those of a trained one."""
    import torch
    from nemo.collections.asr.models import SortformerEncLabelModel
    from omegaconf import OmegaConf

    with torch.random.fork_rng(devices=()), torch.inference_mode():
        torch.manual_seed(seed)
        model = SortformerEncLabelModel(OmegaConf.create(configuration(size, streaming))).eval()
        model.streaming_mode = False
        seconds = torch.arange(10 * 16_000) / 16_000
        signal = torch.randn(len(seconds)) * 0.1 * torch.sin(2 * seconds).clamp(min=0)
        logits = torch.logit(model(audio_signal=signal[None], audio_signal_length=torch.tensor([len(seconds)]))[0])
        last = model.sortformer_modules.single_hidden_to_spks
        scale = 2 / logits.std(dim=0)
        last.weight *= scale[:, None]
        last.bias.copy_((last.bias - logits.mean(dim=0)) * scale)
    path = folder / f"{'diar_streaming_sortformer' if streaming else 'diar_sortformer'}.nemo"
    model.save_to(str(path))
    return path


def configuration(size: Size, streaming: bool) -> dict[str, Any]:
    modules = "nemo.collections.asr.modules."
    features = 128 if streaming else 80
    cache = {
        "spkcache_len": 188,
        "fifo_len": 0,
        "chunk_len": 188,
        "spkcache_update_period": 188,
        "chunk_left_context": 1,
        "chunk_right_context": 1,
    }
    return {
        "sample_rate": 16_000,
        "max_num_of_spks": SPEAKERS,
        "streaming_mode": streaming,
        "model_defaults": {"fc_d_model": size.fc_d_model, "tf_d_model": size.tf_d_model},
        "preprocessor": {
            "_target_": modules + "AudioToMelSpectrogramPreprocessor",
            "normalize": "NA" if streaming else "per_feature",
            "window_size": 0.025,
            "sample_rate": 16_000,
            "window_stride": 0.01,
            "window": "hann",
            "features": features,
            "n_fft": 512,
            "frame_splicing": 1,
            "dither": 0.00001,
        },
        "sortformer_modules": {
            "_target_": modules + "sortformer_modules.SortformerModules",
            "num_spks": SPEAKERS,
            "dropout_rate": 0.5,
            "fc_d_model": size.fc_d_model,
            "tf_d_model": size.tf_d_model,
            **(cache if streaming else {}),
        },
        "encoder": {
            "_target_": modules + "ConformerEncoder",
            "feat_in": features,
            "feat_out": -1,
            "n_layers": size.fc_layers,
            "d_model": size.fc_d_model,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": size.channels,
            "causal_downsampling": False,
            "ff_expansion_factor": 4,
            "self_attention_model": "rel_pos",
            "n_heads": size.heads,
            "att_context_size": [-1, -1],
            "att_context_style": "regular",
            "xscaling": True,
            "untie_biases": True,
            "pos_emb_max_len": 5000,
            "conv_kernel_size": 9,
            "conv_norm_type": "batch_norm",
            "conv_context_size": None,
            "dropout": 0.1,
            "dropout_pre_encoder": 0.1,
            "dropout_emb": 0.0,
            "dropout_att": 0.1,
        },
        "transformer_encoder": {
            "_target_": modules + "transformer.transformer_encoders.TransformerEncoder",
            "num_layers": size.tf_layers,
            "hidden_size": size.tf_d_model,
            "inner_size": size.tf_inner,
            "num_attention_heads": size.heads,
            "attn_score_dropout": 0.5,
            "attn_layer_dropout": 0.5,
            "ffn_dropout": 0.5,
            "hidden_act": "relu",
            "pre_ln": False,
            "pre_ln_final_layer_norm": True,
        },
        "loss": {"_target_": "nemo.collections.asr.losses.bce_loss.BCELoss", "weight": None, "reduction": "mean"},
    }
