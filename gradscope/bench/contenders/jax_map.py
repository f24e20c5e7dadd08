"""JAX as its users write it: `lax.scan` over the steps, `jax.grad`, mapped over networks, one compiled function a case.

Mapped by `lax.map`: `vmap` takes more than twice as long here, as XLA has no fast batched product for the CPU.

The states' gradients are those of zeros that are added to them. Gates act where a state enters the next step: its value
passes, of its gradient as much as the gate says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gradscope.bench.workload import GRADIENTS, Answer, Answers, Case, Network, Workload

TITLE = "JAX, jit"
NEEDS: tuple[str, ...] = ("jax",)
TRUNCATIONS = ("full", "chunked", "random")


def supports(workload: Workload) -> bool:
    """Whether every truncation of the workload is written here."""
    return all(case.truncation.partition(":")[0] in TRUNCATIONS for case in workload.cases)


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:  # noqa: ARG001
    """Make the functions of all cases; each is compiled when it is first called."""
    import jax
    from jax import lax

    def mapped(case: Case, *batch: Any) -> Any:
        return lax.map(lambda network: gradients_of(case, *network), batch)

    if workload.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    answers = {case: jax.jit(partial(mapped, case)) for case in workload.cases}
    comparison = jax.jit(jax.vmap(compare))

    def run(batch: Sequence[Network]) -> Answers:
        params = {name: np.stack([network.params[name] for network in batch]) for name in batch[0].params}
        x, y, coins = (np.stack(each) for each in zip(*(network[1:] for network in batch), strict=True))
        found = {
            case: answer(params, x[:, : case.seq_len], y[:, : case.seq_len], coins) for case, answer in answers.items()
        }
        compared = {case: comparison(own[1], found[case._replace(truncation="full")][1]) for case, own in found.items()}
        ready = jax.device_get({case: (found[case][0], *compared[case]) for case in found})
        return [
            {
                case: Answer(
                    norms[c], {name: float(sizes[name][c]) for name in GRADIENTS}, float(error[c]), float(cosine[c])
                )
                for case, (norms, sizes, error, cosine) in ready.items()
            }
            for c in range(len(batch))
        ]

    return run


def gradients_of(case: Case, params: dict[str, Any], x: Any, y: Any, coins: Any) -> tuple[Any, dict[str, Any]]:
    """Norms of the states' gradients (T, B), and the gradients of the mean over examples, of one network."""
    import jax
    import jax.numpy as jnp

    T, B, _ = x.shape
    recurrent = {name: params[name] for name in GRADIENTS}
    pushes = jnp.zeros((T, B, params["W_hh"].shape[0]), x.dtype)
    loss = partial(loss_of, case, params, x, y, entering(case, coins, x.dtype))
    gradients, dh = jax.grad(loss, argnums=(0, 1))(recurrent, pushes)
    return jnp.linalg.norm(dh, axis=-1), {name: gradient / B for name, gradient in gradients.items()}


def entering(case: Case, coins: Any, dtype: Any) -> Any:
    """How much of its gradient passes where h_{t-1} enters step t, (T,)."""
    import jax.numpy as jnp

    name, _, tau = case.truncation.partition(":")
    steps = jnp.arange(case.seq_len)
    if name == "chunked":
        return (steps % int(tau) != 0).astype(dtype)
    if name == "random":
        pi = 1 - 1 / float(tau)
        return jnp.concatenate([jnp.ones(1, dtype), (coins[: case.seq_len - 1] < pi) / pi]).astype(dtype)
    return jnp.ones(case.seq_len, dtype)


def loss_of(
    case: Case, params: dict[str, Any], x: Any, y: Any, gates: Any, recurrent: dict[str, Any], pushes: Any
) -> Any:
    """The sum over examples of their losses."""
    import jax.numpy as jnp
    from jax import lax

    def step(h: Any, at: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        drive, gate, push = at
        passed = h if case.truncation == "full" else lax.stop_gradient(h) * (1 - gate) + h * gate
        h = jnp.tanh(drive + passed @ recurrent["W_hh"].T) + push
        return h, h

    drive = x @ recurrent["W_xh"].T + recurrent["b_h"]
    _, states = lax.scan(step, jnp.zeros(pushes.shape[1:], x.dtype), (drive, gates, pushes))
    seen, wanted = (states, y) if case.loss_steps == "all" else (states[-1:], y[-1:])
    return jnp.sum((seen @ params["W_hy"].T + params["b_y"] - wanted) ** 2) / len(seen)


def compare(gradients: dict[str, Any], full: dict[str, Any]) -> tuple[dict[str, Any], Any, Any]:
    """Norms by name, relative error and cosine, of one network."""
    import jax.numpy as jnp

    g, g_full = (jnp.concatenate([each[name].ravel() for name in GRADIENTS]) for each in (gradients, full))
    size, size_full = jnp.linalg.norm(g), jnp.linalg.norm(g_full)
    sizes = {name: jnp.linalg.norm(gradient) for name, gradient in gradients.items()}
    return sizes, jnp.linalg.norm(g - g_full) / size_full, g @ g_full / (size * size_full)
