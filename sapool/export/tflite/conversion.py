"""From a network to the bytes of a `.tflite`, float and int8, by litert-torch and ai-edge-quantizer."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, fx, nn

from sapool.errors import WorkError, first_line
from sapool.export.tflite import flatbuffer
from sapool.export.tflite.concatenation import split_concatenations
from sapool.export.tflite.mixtures import mix_apart
from sapool.export.tflite.order import narrow_early
from sapool.export.tflite.ranges import ranges_of
from sapool.export.tflite.tokens import share_tokens
from sapool.passes.export.mirror import FLIP

_MIXED = "mixed"
"""What names of products of softmaxes and values begin with."""
_IN_FLOATS = ("SQRT",)
"""What the quantizer would do in int8 and TensorFlow Lite Micro can't: it stays float, with conversions around it."""


class _ChannelsLast(nn.Module):
    """A network that takes and returns maps as (N, H, W, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        results = self.network(image.permute(0, 3, 1, 2))
        results = (results,) if isinstance(results, Tensor) else results
        return tuple(result.permute(0, 2, 3, 1) if result.dim() == 4 else result for result in results)


def convert(flat: fx.GraphModule, image: Tensor) -> tuple[flatbuffer.Model, bool]:
    """A flat graph as a float model that takes (1, H, W, C), and whether its image has to be turned before it.

    Raises:
        WorkError: the converter can't.
    """
    turned = [node for node in flat.graph.nodes if node.target is FLIP and node.all_input_nodes[0].op == "placeholder"]
    for node in turned:
        node.replace_all_uses_with(node.all_input_nodes[0])
        flat.graph.erase_node(node)
    flat.recompile()
    with quiet() as said, tempfile.TemporaryDirectory() as folder:
        import litert_torch  # noqa: PLC0415 - it brings jax, and both talk when they are loaded

        file = Path(folder) / "float.tflite"
        try:
            converted = litert_torch.convert(_ChannelsLast(flat).eval(), (image.permute(0, 2, 3, 1).contiguous(),))
            converted.export(str(file))
        except Exception as error:  # whatever the converter's layers raise
            raise WorkError(f"litert-torch can't convert the network: {first_line(error) or said()}") from error
        model = flatbuffer.read(file.read_bytes())
    flatbuffer.simplify(model)
    share_tokens(model)
    mix_apart(model)
    split_concatenations(model)
    return model, bool(turned)


def quantize(model: flatbuffer.Model, images: Tensor) -> flatbuffer.Model:
    """A float model's int8 twin, its ranges fitted to images (N, C, H, W).

    Every operation is in int8, with a scale for each channel of a weight, save softmaxes, their products with values,
    and `_IN_FLOATS`. An int8 softmax has a scale of 1/256, an int16 one of 1/32768: over more than a few tokens the
    weights of an int8 one would be 0 or 1 steps. The product takes them as they are: averages of many values lie close
    together, and what 8 bits leave of the differences is too little for the batch norms behind them.

    Raises:
        WorkError: the quantizer can't.
    """
    with quiet() as said, tempfile.TemporaryDirectory() as folder:
        from ai_edge_quantizer import qtyping, quantizer, recipe  # noqa: PLC0415
        from ai_edge_quantizer.algorithm_manager import AlgorithmName  # noqa: PLC0415

        source, target = Path(folder) / "float.tflite", Path(folder) / "int8.tflite"
        _name_mixtures(model)
        source.write_bytes(flatbuffer.write(model))
        try:
            tool = quantizer.Quantizer(str(source))
            tool.load_quantization_recipe(recipe.static_wi8_ai8())
            names = qtyping.TFLOperationName
            tool.add_static_config(".*", names.SOFTMAX, activation_num_bits=16, weight_num_bits=8)
            tool.add_static_config(f"{_MIXED}/", names.BATCH_MATMUL, activation_num_bits=16, weight_num_bits=8)
            for name in _IN_FLOATS:
                tool.update_quantization_recipe(".*", names(name), algorithm_key=AlgorithmName.NO_QUANTIZE)
            tool.quantize(ranges_of(model, images)).export_model(str(target), overwrite=True)
        except Exception as error:  # as above
            raise WorkError(f"ai-edge-quantizer can't quantize the network: {first_line(error) or said()}") from error
        quantized = flatbuffer.read(target.read_bytes())
    narrow_early(quantized)
    return quantized


def _name_mixtures(model: flatbuffer.Model) -> None:
    """Names the products of softmaxes and values, for the quantizer tells operations of a kind apart by their names."""
    graph = model.subgraphs[0]
    made = {int(out): operator for operator in graph.operators for out in operator.outputs}
    for number, operator in enumerate(graph.operators):
        maker = made.get(int(operator.inputs[0])) if flatbuffer.code(model, operator) == "BATCH_MATMUL" else None
        if maker is not None and flatbuffer.code(model, maker) == "SOFTMAX":
            graph.tensors[int(operator.outputs[0])].name = f"{_MIXED}/{number}/".encode()


@contextlib.contextmanager
def quiet() -> Iterator[Any]:
    """Keeps what libraries print, in whatever language, out of the terminal; gives what tells its last line."""
    with tempfile.TemporaryFile() as heard, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = [(stream, os.dup(number)) for stream, number in ((sys.stdout, 1), (sys.stderr, 2))]
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            os.dup2(heard.fileno(), number)

        def last() -> str:
            heard.seek(0)
            lines = heard.read().decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""

        try:
            with contextlib.redirect_stdout(open(os.devnull, "w")), contextlib.redirect_stderr(open(os.devnull, "w")):  # noqa: PTH123
                yield last
        finally:
            for (stream, copy), number in zip(kept, (1, 2), strict=True):
                stream.flush()
                os.dup2(copy, number)
                os.close(copy)


def flipped(results: Sequence[Tensor], turned: bool) -> list[Tensor]:
    """A turned network's maps as its image lies."""
    return [result.flip((2, 3)) if turned and result.dim() == 4 else result for result in results]
