"""Canonical linalg computes what the model computes: small nets through plain IREE against torch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

import iree.runtime as rt  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from iree.compiler import api, ir  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from dlas.compiler.frontends import ImportedModel, canonicalise, import_model  # noqa: E402
from dlas.passes.constants import read_constant  # noqa: E402
from dlas.passes.convolutions import CONVOLUTIONS  # noqa: E402
from dlas.passes.generics import walk  # noqa: E402

FLAGS = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
    "--iree-input-demote-f64-to-f32=false",
)


def execute(imported: ImportedModel, *inputs: np.ndarray) -> list[np.ndarray]:
    """Compile with IREE's defaults and run."""
    session = api.Session()
    session.set_flags(*FLAGS)
    with session.context, ir.Location.unknown():
        module = ir.Module.parse(imported.bytecode)
        invocation = session.invocation()
        invocation.import_module(module.operation)
        assert invocation.execute()
        output = api.Output.open_membuffer()
        invocation.output_vm_bytecode(output)
        data = bytes(output.map_memory())
    config = rt.Config("local-sync")
    result = rt.load_vm_module(rt.VmModule.copy_buffer(config.vm_instance, data), config).main(*inputs)
    return [value.to_host() for value in (result if isinstance(result, (list, tuple)) else [result])]


def randomise(model: nn.Module) -> nn.Module:
    """Statistics and weights that no mistake leaves unchanged."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 1.5)
                if module.affine:
                    module.weight.uniform_(-1.5, 1.5)
                    module.bias.uniform_(-1, 1)
    return model.eval()


def check(model: nn.Module, *inputs: Any) -> ImportedModel:
    """Compare the canonical form of ``model`` (as given, in its own dtype) with float64 torch; the canonical form."""
    canonical = canonicalise(import_model(model, inputs))
    results = execute(canonical, *(value.numpy() for value in inputs))
    precision = torch.finfo(inputs[0].dtype).eps if inputs[0].is_floating_point() else torch.finfo(torch.float32).eps
    with torch.no_grad():
        wide = [value.double() if value.is_floating_point() else value for value in inputs]
        expected = model.double()(*wide)
    for result, reference in zip(results, expected if isinstance(expected, tuple) else (expected,), strict=True):
        bound = 256 * precision * max(1.0, float(reference.abs().max()))
        np.testing.assert_allclose(result.astype(np.float64), reference.numpy(), rtol=0, atol=bound)
    check_form(canonical)
    return canonical


def check_form(canonical: ImportedModel) -> None:
    """Every convolution starts from zero and has constant weights; every linalg operation has a layer."""
    module = canonical.parse()
    for op in walk(module, *CONVOLUTIONS):
        assert op.operands[2].owner.name == "linalg.fill"
        assert read_constant(op.operands[1]) is not None
    for op in walk(module):
        if op.name.startswith("linalg.") and op.name not in ("linalg.yield", "linalg.index"):
            assert "dlas.layer" in op.attributes, str(op)


class Layer(nn.Module):
    """One drawn convolution with what is around it."""

    def __init__(self, before: bool, conv: nn.Conv2d, after: bool, activation: str | None) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(conv.in_channels) if before else None
        self.conv = conv
        self.after = nn.BatchNorm2d(conv.out_channels) if after else None
        self.activation = activation

    def forward(self, x):
        if self.before is not None:
            x = F.relu(self.before(x))
        x = self.conv(x)
        if self.after is not None:
            x = self.after(x)
        return x if self.activation is None else getattr(F, self.activation)(x)


@st.composite
def nets(draw: st.DrawFn) -> tuple[nn.Module, Any]:
    torch.manual_seed(draw(st.integers(0, 2**16)))
    channels = first = draw(st.sampled_from([2, 4, 6]))
    size, layers = draw(st.integers(6, 9)), []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0]))
        kernel = (draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 3])))
        conv = nn.Conv2d(
            channels,
            groups * draw(st.integers(1, 3)),
            kernel,
            stride=draw(st.sampled_from([1, 1, 2, (1, 2)])),
            padding=(draw(st.integers(0, 2)), draw(st.integers(1, 2))),
            dilation=draw(st.sampled_from([1, 1, 2])) if size >= 7 else 1,
            groups=groups,
            bias=draw(st.booleans()),
        )
        activation = draw(st.sampled_from([None, "relu", "relu6", "hardswish", "silu"]))
        layer = Layer(draw(st.booleans()), conv, draw(st.booleans()), activation)
        with torch.no_grad():
            try:
                out = layer.eval()(torch.zeros(1, channels, size, size))
            except RuntimeError:  # the window has become larger than the image
                break
        layers.append(layer)
        channels, size = conv.out_channels, min(out.shape[2:])
    if not layers:
        layers = [Layer(True, nn.Conv2d(channels, channels, 3, padding=1), True, "relu")]
        size = 6
    batch = draw(st.integers(1, 2))
    extent = 9
    return randomise(nn.Sequential(*layers)), torch.randn(batch, first, extent, extent)


@pytest.mark.slow
@given(nets())
def test_convolution_nets(drawn):
    check(*drawn)


class Function(nn.Module):
    def __init__(self, function, *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, *inputs):
        return self.function(self.parts, *inputs)


def _residual(parts, x):
    y = parts[0](x)
    return F.relu(parts[1](y) + y)


def _excite(parts, x):
    y = parts[0](x)
    return y * torch.sigmoid(parts[1](y.mean((2, 3), keepdim=True)))


def _written_in_place(parts: Any, x: Any) -> Any:
    y = parts[0](x)
    z = parts[1](y)  # of what y is before it is written
    parts[2](y)
    y += z
    y *= 2
    return parts[2](z + y), y


def _written_through_a_view(parts: Any, x: Any) -> Any:
    y = parts[0](x)
    seen = y.flatten(1)
    parts[2](y)
    return seen + 1


def _in_place(forward: Any) -> nn.Module:
    convolution = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    return Function(forward, convolution, nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True))


IMAGE = (2, 4, 7, 7)
CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "padding of an even kernel": (lambda: nn.Conv2d(4, 4, 4, padding="same"), IMAGE),
    "conv1d, grouped": (lambda: nn.Sequential(nn.Conv1d(4, 6, 3, padding=1, groups=2), nn.BatchNorm1d(6)), (2, 4, 9)),
    "conv1d, depthwise": (lambda: nn.Sequential(nn.Conv1d(4, 4, 3, groups=4), nn.BatchNorm1d(4)), (2, 4, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4)), (1, 2, 4, 4, 4)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), nn.BatchNorm2d(6)), IMAGE),
    "transposed, grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), IMAGE),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), IMAGE),
    "two batch norms": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)),
        IMAGE,
    ),
    "linear and batch norm": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()), (3, 6)),
    "linear on three dimensions": (lambda: nn.Linear(6, 5), (2, 3, 6)),
    "scalars after a convolution": (
        lambda: Function(lambda p, x: (p[0](x) * 0.5 + 1) / 3 - 2, nn.Conv2d(4, 4, 3)),
        IMAGE,
    ),
    "residual": (lambda: Function(_residual, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4)), IMAGE),
    "written in place": (lambda: _in_place(_written_in_place), IMAGE),
    "written in place through a view": (lambda: _in_place(_written_through_a_view), IMAGE),
    "squeeze and excite": (lambda: Function(_excite, nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 1)), IMAGE),
    "pooling": (
        lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
        IMAGE,
    ),
    "windows that fit once": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 4, 3, 2, 1, groups=2),
            nn.Conv2d(4, 6, 3, 2, 1),
            nn.Conv2d(6, 6, 3, 2, 1, groups=6),
            nn.BatchNorm2d(6),
        ),
        IMAGE,
    ),
    "windows that fit once, grouped and pooled": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 4, 2, groups=2), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 1)),
        (1, 4, 7, 6),
    ),
    "group and layer norm": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.LayerNorm((4, 7, 7))),
        IMAGE,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str):
    torch.manual_seed(1)
    build, shape = CASES[name]
    check(randomise(build()), torch.randn(shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_dtype(dtype):
    torch.manual_seed(2)
    model = randomise(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU()).to(dtype))
    canonical = check(model, torch.randn(1, 4, 6, 6).to(dtype))
    module = canonical.parse()
    # Convolution, its addition, the activation: nothing of the batch norm is left, at any width.
    assert len(walk(module, "linalg.generic")) == 2


GROUPED = [
    (c_in, c_out, groups)
    for c_in, c_out, groups in [(4, 4, 2), (4, 8, 2), (8, 4, 2), (2, 4, 2), (2, 6, 2), (4, 8, 4), (6, 12, 6), (6, 6, 3)]
]
VARIANTS: list[dict[str, Any]] = [
    {"padding": 1},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 2},
    {"padding": (1, 0), "stride": (1, 2)},
]


def test_grouped_convolutions_of_all_shapes():
    """Groups of one input channel with several outputs must not be taken for depthwise (torch-mlir issue 3745)."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(*shape[:2], 3, groups=shape[2], **variant) for shape in GROUPED for variant in VARIANTS]
    model = Function(lambda parts, *inputs: tuple(part(x) for part, x in zip(parts, inputs, strict=True)), *layers)
    canonical = check(model.eval(), *(torch.randn(1, layer.in_channels, 7, 6) for layer in layers))
    module = canonical.parse()
    assert len(walk(module, "linalg.conv_2d_ngchw_gfchw")) == len(layers)
