"""The overrides that make the default experiment small and keep all that the figures need; and what a folder holds."""

from __future__ import annotations

from gradscope.store import files

SMALL = {
    "activation": ["tanh", "linear"],
    "hidden_size": 6,
    "spectral_radius": [0.5, 1.0, 1.5],
    "seq_len": [6, 12],
    "truncation": ["full", "fixed:3", "chunked:4", "random:4"],
    "loss_steps": ["last", "all"],
    "batch_size": 3,
    "input_size": 2,
    "seeds": 2,
}


def contents(folder):
    """The bytes of every file of tables, by name."""
    paths = [folder / "runs.parquet", *files(folder / "timesteps"), *files(folder / "shards")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
