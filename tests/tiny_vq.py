"""A VQ-VAE and a transformer small enough for tests: 4×4 codes of pictures 32²."""

_TRAINING = {"batch_size": 8, "save_every": 2, "eval_every": 3, "log_every": 1, "lr_warmup_steps": 2, "device": "cpu"}
# codes are replaced within a few steps, so that what is drawn for them is part of the tests
TINY_VQVAE = {
    **_TRAINING,
    "resolution": 32,
    "block_out_channels": (8, 8, 8, 8),
    "num_embeddings": 128,
    "embedding_dim": 4,
    "ema_decay": 0.5,
    "max_steps": 8,
}
TINY_TRANSFORMER = {**_TRAINING, "layers": 2, "heads": 2, "width": 16, "max_steps": 8, "dropout": 0.2}
