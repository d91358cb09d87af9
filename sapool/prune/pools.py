"""How pools and dynamic convolutions follow: their own layers keep what belongs to the channels that stay."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from sapool.errors import InputError
from sapool.poolings import Pooling
from sapool.poolings.attention import Positions, SelfAttention
from sapool.poolings.dynamic import DynamicConv2d

# What a layer of a pool puts out and takes: the pooled map's channels, tokens' channels before and after attention, or
# those of a hidden layer.
_ROLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "logit.0": ("channels", "channels"),
        "logit.1": ("channels", ""),
        "hidden.0": ("hidden", "channels"),
        "hidden.1": ("hidden", ""),
        "mean.0": ("channels", "hidden"),
        "mean.1": ("channels", ""),
        "deviation.0": ("channels", "hidden"),
        "deviation.1": ("channels", ""),
        "embed.0": ("tokens", "channels"),
        "embed.1": ("tokens", ""),
        "restore.0": ("channels", "mixed"),
        "restore.1": ("channels", ""),
        "project.0": ("channels", "mixed"),
        "project.1": ("channels", ""),
        "local.0": ("channels", "channels"),
        "local.1": ("channels", ""),
        "offset": ("", "channels"),
        "mask": ("", "channels"),
    }
)


@torch.no_grad()
def pool_state(pool: Pooling, channels: Tensor) -> dict[str, Tensor]:
    """A pool's state dict with the channels of its map that stay.

    Tokens have as many channels for each of the map's as before, in whole multiples of the heads; hidden layers follow
    in the same way. Which of them stay is told by the square norms of what belongs to each.

    Args:
        pool: stays as it is.
        channels: numbers of those that stay, ascending.

    Raises:
        InputError: the pool has layers that aren't known here.
    """
    kept = {"channels": channels, "": None, **_inner(pool, len(channels))}
    state: dict[str, Tensor] = {}
    for path, layer in pool.named_modules():
        if isinstance(layer, SelfAttention):
            state |= {f"{path}.{key}": value for key, value in _attention_state(layer, kept).items()}
        elif isinstance(layer, Positions):
            state |= {f"{path}.{key}": value for key, value in _position_state(layer, kept["tokens"]).items()}
        elif isinstance(layer, (nn.Conv2d, DynamicConv2d, nn.BatchNorm2d)) and ".attention." not in f".{path}":
            if path not in _ROLES:
                raise _unknown(pool, path)
            out, into = (kept[role] for role in _ROLES[path])
            state |= {f"{path}.{key}": value for key, value in layer_state(layer, out, into).items()}
    odd = [key for key in pool.state_dict() if key not in state]
    if odd:
        raise _unknown(pool, odd[0])
    return state


def _unknown(pool: Pooling, path: str) -> InputError:
    return InputError(f"pruning doesn't know how {path} of a {type(pool).__name__} follows the pooled channels")


def layer_state(layer: nn.Module, out: Tensor | None, into: Tensor | None) -> dict[str, Tensor]:
    """A layer's state dict with the outputs and inputs that stay; None for all."""
    if isinstance(layer, DynamicConv2d):
        own = {"weight": _dynamic_weight(layer, out, into)}
        if layer.bias is not None:
            own["bias"] = _taken(layer.bias, 1, out)
        seen = {f"attention.fc1.{key}": value for key, value in layer_state(layer.attention.fc1, None, into).items()}
        rest = {f"attention.fc2.{key}": value for key, value in layer.attention.fc2.state_dict().items()}
        return {**own, **seen, **rest}
    state = dict(layer.state_dict())
    for key, value in state.items():
        narrower = _taken(value, 0, out) if value.dim() else value
        state[key] = _taken(narrower, 1, into) if value.dim() > 1 else narrower
    return state


def _dynamic_weight(layer: DynamicConv2d, out: Tensor | None, into: Tensor | None) -> Tensor:
    weight = _taken(layer.weight, 1, out)
    if layer.groups == 1:
        return _taken(weight, 2, into)
    if layer.groups == layer.out_channels or into is None:
        return weight
    raise InputError("grouped dynamic convolutions can't be pruned")


def _taken(value: Tensor, axis: int, numbers: Tensor | None) -> Tensor:
    value = value.detach()
    return value.clone() if numbers is None else value.index_select(axis, numbers.to(value.device))


def _inner(pool: Pooling, left: int) -> dict[str, Tensor]:
    """What stays of a pool's inner channels."""
    children = dict(pool.named_modules())
    found: dict[str, Tensor] = {}
    if "hidden.0" in children:
        rows = _norms(children["hidden.0"], 0) + _norms(children["mean.0"], 1) + _norms(children["deviation.0"], 1)
        found["hidden"] = _largest(rows, left // 2)
    attention = children.get("attention")
    if isinstance(attention, SelfAttention):
        width, heads = attention.out_proj.in_features, attention.heads
        # As the planner rounds, on the ratio that the pool was built with.
        size = max(round(width * left / pool.channels / heads), 1) * heads
        query, key, value = attention.in_proj_weight.detach().chunk(3)
        tokens = _norms(children["embed.0"], 0) + sum(part.square().sum(0) for part in (query, key, value))
        # The first half of the channels have their positions from columns, the rest from rows.
        half = width // 2
        found["tokens"] = torch.cat(
            (_largest(tokens[:half], size // 2), half + _largest(tokens[half:], size - size // 2))
        )
        inside = sum(part.square().sum(1) for part in (query, key, value)) + attention.out_proj.weight.square().sum(0)
        each = inside.view(heads, -1)
        found["inside"] = torch.cat(
            [head * each.shape[1] + _largest(norms, size // heads) for head, norms in enumerate(each)]
        )
        after = children["restore.0" if "restore.0" in children else "project.0"]
        found["mixed"] = _largest(attention.out_proj.weight.square().sum(1) + _norms(after, 1), size)
    return found


def _norms(layer: nn.Module, axis: int) -> Tensor:
    """Square norms of a convolution's weight, for each output (axis 0) or input (axis 1); over all kernels."""
    weight = layer.get_parameter("weight").detach()
    axis += weight.dim() - 4
    return weight.square().sum([other for other in range(weight.dim()) if other != axis])


def _largest(norms: Tensor, count: int) -> Tensor:
    return norms.topk(count).indices.sort().values


def _attention_state(layer: SelfAttention, kept: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    tokens, inside, mixed = kept["tokens"], kept["inside"], kept["mixed"]
    assert tokens is not None
    assert inside is not None
    width = layer.out_proj.in_features
    rows = torch.cat([inside + part * width for part in range(3)])
    weight = _taken(_taken(layer.in_proj_weight, 0, rows), 1, tokens)
    bias = _taken(layer.in_proj_bias, 0, rows)
    # Scores are divided by the root of a head's width, which is another one now.
    scale = (len(inside) / width) ** 0.5
    for value in (weight, bias):
        value[: len(inside)] *= scale
    projection = _taken(_taken(layer.out_proj.weight, 0, mixed), 1, inside)
    return {
        "in_proj_weight": weight,
        "in_proj_bias": bias,
        "out_proj.weight": projection,
        "out_proj.bias": _taken(layer.out_proj.bias, 0, mixed),
    }


def _position_state(layer: Positions, tokens: Tensor | None) -> dict[str, Tensor]:
    assert tokens is not None
    columns = layer.column.shape[1]
    return {
        "row": _taken(layer.row, 1, tokens[tokens >= columns] - columns),
        "column": _taken(layer.column, 1, tokens[tokens < columns]),
    }
