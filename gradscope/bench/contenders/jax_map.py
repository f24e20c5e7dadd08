"""JAX as a user of it writes each run: jit, one scan over the steps, gradients by `jax.grad`, mapped over networks.

What is asked of `jax.grad` are the gradients with respect to zeros added to the states; those of the weights are one
product of these with what the states were made of. A truncation is an array of gates, so one compiled function for each
length and loss serves all of them. Every run has its own forward pass; `jax_shared.py` is JAX without that.

Tried with the 200 steps of W1's longest runs on one core, milliseconds a network, float64 and float32: `vmap` over
networks 23 and 12, as XLA has no fast batched product for the CPU; `lax.map` over them instead 7.6 and 3.7. With that,
`jax.grad` with respect to the parameters too 9.8 and 4.5; a scan back written by hand 7.3 and 3.5; unrolled scans 8.4
and 3.8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gradscope.bench.workload import GRADIENTS, Answer, Answers, Case, Network, Workload
from gradscope.scaled import Floats

if TYPE_CHECKING:
    from jax import Array

TITLE = "JAX, jit"
NEEDS: tuple[str, ...] = ("jax",)
TRUNCATIONS = ("full", "chunked", "random")


def supports(workload: Workload) -> bool:
    """Whether the cell and every truncation of the workload are written here."""
    written = all(case.truncation.partition(":")[0] in TRUNCATIONS for case in workload.cases)
    return workload.cell == "elman" and written


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:
    """Compile, by a first call."""
    import jax

    jax.config.update("jax_enable_x64", workload.dtype == "float64")
    kinds = {(case.seq_len, case.loss_steps) for case in workload.cases}
    passes = {kind: jax.jit(partial(mapped, *kind)) for kind in sorted(kinds)}
    compare = jax.jit(jax.vmap(compared))

    def run(batch: Sequence[Network]) -> Answers:
        stacked = jax.device_put(jax.tree.map(lambda *each: np.stack(each), *batch))
        coins = np.stack([network.coins for network in batch])
        found = {case: passes[case[:2]](stacked, gates(case, coins)) for case in workload.cases}
        against = {
            case: compare(gradients, found[case._replace(truncation="full")][2])
            for case, (_, _, gradients) in found.items()
        }
        wanted = {case: (norms, sizes, *against[case]) for case, (norms, sizes, _) in found.items()}
        return unpacked(jax.device_get(wanted), len(batch))

    run([workload.blank()] * networks)
    return run


def gates(case: Case, coins: Floats) -> Floats:
    """What multiplies a gradient on its way back from step t+1 to step t, (C, T)."""
    name, _, tau = case.truncation.partition(":")
    gates = np.ones_like(coins[:, : case.seq_len])
    if name == "chunked":
        gates[:, int(tau) - 1 :: int(tau)] = 0
    if name == "random":
        pi = 1 - 1 / float(tau)
        gates = (coins[:, : case.seq_len] < pi).astype(coins.dtype) / pi
    return gates


def mapped(T: int, loss_steps: str, networks: Network, gates: Array) -> tuple[Array, Array, Array]:
    """Run networks, whose arrays are stacked, one after the other."""
    from jax import lax

    return lax.map(lambda each: measured(T, loss_steps, *each), (networks, gates))


def measured(T: int, loss_steps: str, network: Network, gates: Array) -> tuple[Array, Array, Array]:
    """Norms of the states' gradients (T, B), of W_xh's, W_hh's and b_h's (3,), and these themselves, side by side."""
    import jax
    import jax.numpy as jnp

    params, x, y = network.params, network.x[:T], network.y[:T]
    B, (n, m) = x.shape[1], params["W_xh"].shape
    pushes = jnp.zeros((T, B, n), x.dtype)
    dh, hs = jax.grad(partial(loss, loss_steps=loss_steps), argnums=3, has_aux=True)(params, x, y, pushes, gates)
    before = jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])
    made_of = jnp.concatenate([x, before, jnp.ones_like(x[..., :1])], -1)
    dz = (1 - hs * hs) * dh
    gradient = dz.reshape(T * B, n).T @ made_of.reshape(T * B, -1) / B
    sizes = jnp.stack([jnp.linalg.norm(block) for block in jnp.split(gradient, [m, m + n], axis=1)])
    return jnp.linalg.norm(dh, axis=-1), sizes, gradient


def loss(
    params: dict[str, Array], x: Array, y: Array, pushes: Array, gates: Array, loss_steps: str
) -> tuple[Array, Array]:
    """Sum of the examples' losses, and the states; `pushes`, zeros, are added to these."""
    import jax.numpy as jnp
    from jax import lax

    def step(h: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        drive, push, gate = at
        h = jnp.tanh(drive + h @ params["W_hh"].T) + push
        cut = lax.stop_gradient(h)
        return cut + gate * (h - cut), h

    drive = x @ params["W_xh"].T + params["b_h"]
    _, hs = lax.scan(step, jnp.zeros_like(drive[0]), (drive, pushes, gates))
    counted = slice(-1, None) if loss_steps == "last" else slice(None)
    errors = (hs[counted] @ params["W_hy"].T + params["b_y"] - y[counted]) ** 2
    return errors.mean(axis=0).sum(), hs


def compared(gradient: Array, full: Array) -> tuple[Array, Array]:
    """Relative error and cosine of all gradients together."""
    import jax.numpy as jnp

    size, size_full = jnp.linalg.norm(gradient), jnp.linalg.norm(full)
    return jnp.linalg.norm(gradient - full) / size_full, jnp.sum(gradient * full) / (size * size_full)


def unpacked(wanted: dict[Case, tuple[Floats, ...]], networks: int) -> Answers:
    """Sort by network what is sorted by case."""
    answers: Answers = [{} for _ in range(networks)]
    for case, arrays in wanted.items():
        for found, (norms, sizes, error, cosine) in zip(answers, zip(*arrays, strict=True), strict=True):
            gradients = dict(zip(GRADIENTS["elman"], sizes.tolist(), strict=True))
            found[case] = Answer(norms, gradients, float(error), float(cosine))
    return answers
