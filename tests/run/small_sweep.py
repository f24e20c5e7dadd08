"""The overrides that make the default experiment small and keep all that the figures need."""

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
