"""Pruning: how much is masked, that it stays masked, and that masks become zeros."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import prune as torch_prune  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.frontends import zoo  # noqa: E402
from dlas.compiler.prune import bake_masks  # noqa: E402
from dlas.errors import UsageError  # noqa: E402


def _model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3)).eval()


def _zeros(layer: nn.Conv2d | nn.Linear) -> int:
    return int((layer.weight == 0).sum())


def test_global_scope_compares_layers() -> None:
    model = _model()
    with torch.no_grad():
        model[2].weight.mul_(1e-3)
    pruned = dlas.prune(model, 0.5)
    assert _zeros(pruned[0]) + _zeros(pruned[2]) == round(0.5 * (216 + 1152))
    assert _zeros(pruned[0]) == 0
    assert not torch_prune.is_pruned(model)


def test_layer_scope_and_least_magnitude() -> None:
    model = _model()
    pruned = dlas.prune(model, 0.75, scope="layer")
    for index in (0, 2):
        before, after = model[index].weight, pruned[index].weight
        assert _zeros(pruned[index]) == round(0.75 * before.numel())
        assert before[after == 0].abs().max() <= before[after != 0].abs().min()


def test_channels_are_masked_whole() -> None:
    weight = dlas.prune(_model(), 0.25, "layer", "channel")[2].weight
    assert int((weight.flatten(1).abs().sum(1) == 0).sum()) == 4


def test_steps_train_under_the_masks() -> None:
    seen = []

    def fine_tune(model: nn.Module) -> None:
        seen.append(_zeros(model[2]))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model(torch.ones(1, 3, 8, 8)).square().sum().backward()
        optimizer.step()

    pruned = dlas.prune(_model(), 0.9, "layer", steps=3, fine_tune=fine_tune)
    assert seen == sorted(seen) and seen[-1] == round(0.9 * 1152) and len(set(seen)) == 3
    baked = bake_masks(pruned)
    assert _zeros(baked[2]) == seen[-1] and not torch_prune.is_pruned(baked) and torch_prune.is_pruned(pruned)
    assert _zeros(dlas.prune(pruned, 0.95, "layer")[2]) == round(0.95 * 1152)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"amount": 1.0}, "amount=1.0 is not between 0 and 1"),
        ({"amount": 0.5, "scope": "block"}, "unknown scope 'block'"),
        ({"amount": 0.5, "structure": "row"}, "unknown structure 'row'"),
        ({"amount": 0.5, "steps": 0}, "steps=0 is not positive"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dlas.prune(_model(), **arguments)


def test_linear_layers_are_pruned_with_the_convolutions() -> None:
    model = nn.Sequential(*_model(), nn.Flatten(), nn.Linear(16, 40))
    pruned = dlas.prune(model, 0.5)
    assert sum(_zeros(pruned[index]) for index in (0, 2, 4)) == round(0.5 * (216 + 1152 + 640))
    pruned = dlas.prune(model, 0.75, "layer")
    assert [_zeros(pruned[index]) for index in (0, 2, 4)] == [162, 864, 480]
    pruned = dlas.prune(model, 0.75, layers=[nn.Conv2d])
    assert _zeros(pruned[4]) == 0 and _zeros(pruned[0]) + _zeros(pruned[2]) == round(0.75 * (216 + 1152))
    # Whole channels are those of convolutions: a classifier keeps its classes.
    assert _zeros(dlas.prune(model, 0.25, "layer", "channel")[4]) == 0
    rows = dlas.prune(model, 0.25, "layer", "channel", layers=[nn.Linear])[4].weight
    assert int((rows.abs().sum(1) == 0).sum()) == 10


def test_a_model_without_layers_to_prune() -> None:
    with pytest.raises(UsageError, match="no Conv2d or Linear layer"):
        dlas.prune(nn.ReLU(), 0.5)
    with pytest.raises(UsageError, match="no Conv2d layer"):
        dlas.prune(nn.Linear(2, 2), 0.5, structure="channel")
    with pytest.raises(UsageError, match="cannot prune <class .*ReLU'> layers"):
        dlas.prune(_model(), 0.5, layers=[nn.ReLU])


def test_zoo_models_are_pruned_layer_by_layer() -> None:
    model, _ = zoo.build("layer,c=16,sparsity=0.9")
    layer = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert _zeros(layer) == round(0.9 * layer.weight.numel())
    model, _ = zoo.build("bert-base,layers=1,seq=8,sparsity=0.8")
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert all(_zeros(layer) == round(0.8 * layer.weight.numel()) for layer in linear) and len(linear) == 7
    with pytest.raises(UsageError, match="sparsity=1 cannot be used"):
        zoo.build("layer,sparsity=1")
