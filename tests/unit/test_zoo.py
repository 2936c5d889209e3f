"""The zoo: specs and their errors, the literature's parameters and MACs, and weights that are reproducible and sane."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from dlas.compiler.frontends import zoo
from dlas.errors import UsageError

# GSPC (Gibson et al., ASAP 2020), Tables 5.2 to 5.4: parameters and multiply-accumulates (None: not given).
WRN_CLASSIFIER = 1290  # the table leaves the classifier's parameters out
PAPER = [
    ("wrn-40-2,groups=S", 2242.26e3, 328.30e6),
    ("wrn-40-2,groups=2", 1357.68e3, 198.15e6),
    ("wrn-40-2,groups=4", 813.36e3, 118.52e6),
    ("wrn-40-2,groups=8", 541.20e3, None),
    ("wrn-40-2,groups=16", 405.12e3, None),
    ("wrn-40-2,groups=N", 292.22e3, 44.83e6),
    ("resnet34,groups=S", 21.79e6, 3.67e9),
    ("resnet34,groups=2", 13.22e6, 2.25e9),
    ("resnet34,groups=4", 8.14e6, 1.39e9),
    ("resnet34,groups=8", 5.60e6, 0.97e9),
    ("resnet34,groups=16", 4.34e6, 0.75e9),
    ("resnet34,groups=N", 3.13e6, 0.56e9),
    ("mobilenet-v2,groups=S", 44.05e6, 5.56e9),
    ("mobilenet-v2,groups=2", 23.75e6, 2.92e9),
    ("mobilenet-v2,groups=4", 13.59e6, 1.60e9),
    ("mobilenet-v2,groups=8", 8.52e6, 0.95e9),
    ("mobilenet-v2,groups=16", 5.98e6, 0.62e9),
    ("mobilenet-v2,groups=N", 3.50e6, 0.31e9),
]

# The published networks, exactly: parameters of the reference implementations, MACs of convolutions and linear layers.
PUBLISHED = [
    ("resnet18", 11_689_512, 1.81e9),
    ("resnet34", 21_797_672, 3.66e9),
    ("resnet50", 25_557_032, 4.09e9),
    ("resnext50-32x4d", 25_028_904, 4.23e9),
    ("mobilenet-v1", 4_231_976, 0.569e9),
    ("mobilenet-v2", 3_504_872, 0.301e9),
    ("vgg16", 138_357_544, 15.47e9),
    ("efficientnet-b0", 5_288_548, 0.386e9),
    ("densenet161", 28_681_000, 7.73e9),
    ("bert-base", 109_482_240, 11.17e9),
]


@pytest.mark.parametrize(("spec", "parameters", "macs"), PAPER)
def test_counts_of_the_gspc_paper(spec: str, parameters: float, macs: float | None) -> None:
    found_parameters, found_macs = zoo.count(*zoo.skeleton(spec))
    if spec.startswith("wrn"):
        found_parameters -= WRN_CLASSIFIER
    assert found_parameters == pytest.approx(parameters, rel=0.002)
    if macs is not None:
        assert found_macs == pytest.approx(macs, rel=0.03)


@pytest.mark.parametrize(("spec", "parameters", "macs"), PUBLISHED)
def test_counts_of_the_published_networks(spec: str, parameters: int, macs: float) -> None:
    found_parameters, found_macs = zoo.count(*zoo.skeleton(spec))
    assert found_parameters == parameters
    assert found_macs == pytest.approx(macs, rel=0.005)


def test_every_model_is_listed_with_its_keys() -> None:
    listed = {info.name: info for info in zoo.list_models()}
    assert set(listed) == {spec.partition(",")[0] for spec, *_ in PAPER + PUBLISHED} | {"layer"}
    assert all({"batch", "seed"} <= set(info.keys) and info.description for info in listed.values())
    assert "default N" in listed["mobilenet-v2"].keys["groups"]
    assert "default S" in listed["wrn-40-2"].keys["groups"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet35", "unknown zoo model 'resnet35'.*resnet34"),
        ("", "unknown zoo model ''"),
        ("resnet34,depth=3", "unknown key 'depth'.*groups=, size=, batch=, seed="),
        ("resnet34,groups", "'groups' is not key=value"),
        ("resnet34,groups=3", "groups=3 cannot be used.*S, 1, 2, 4, 8, 16, 32, 64, N"),
        ("mobilenet-v2,groups=32", "groups takes S, 1, 2, 4, 8, 16, N"),
        ("wrn-40-2,groups=0", "S, 1, 2, 4, 8, 16, N"),
        ("resnet34,groups=2,groups=4", "given twice"),
        ("resnet34,batch=-1", "an integer from 1"),
        ("resnet34,size=100", "a multiple of 32"),
        ("bert-base,seq=513", "an integer from 1 to 512"),
        ("vgg16,groups=2", "unknown key 'groups'"),
    ],
)
def test_wrong_specs_name_what_is_known(spec: str, message: str) -> None:
    for given in (spec, f"zoo:{spec}"):
        with pytest.raises(UsageError, match=f"^{re.escape(f'zoo:{spec}: ')}.*{message}"):
            zoo.build(given)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("layer,c=30,groups=4", "groups=4 does not divide the 30 channels"),
        ("layer,c=32,c_out=30,groups=4", "groups=4 does not divide the 30 channels"),
        ("layer,k=2", "k must be odd"),
    ],
)
def test_impossible_layers_are_refused(spec: str, message: str) -> None:
    for given in (spec, f"zoo:{spec}"):
        with pytest.raises(UsageError, match=f"^{re.escape(f'zoo:{spec}: ')}.*{message}"):
            zoo.build(given)


def test_zoo_prefix_and_layer_spelling() -> None:
    for spec in ("layer:c=8,h=4", "layer,c=8,h=4", "zoo:layer,c=8,h=4", "zoo:layer:c=8,h=4"):
        assert zoo.is_zoo_spec(spec)
        assert zoo.parse_spec(spec)[1]["c"] == 8
    assert not zoo.is_zoo_spec("model.onnx")
    assert not zoo.is_zoo_spec("dir/resnet34.pt2")


def test_layer_chain() -> None:
    module, (x,) = zoo.build("layer:c=8,h=6,groups=4,depth=4,batch=2")
    convolutions = [m for m in module if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 4 and all(c.groups == 4 and c.bias is not None for c in convolutions)
    assert module(x).shape == x.shape == (2, 8, 6, 6)
    assert zoo.count(module, (x,)) == (4 * (8 * 2 * 9 + 8), 4 * 2 * 36 * 8 * 2 * 9)


def test_layer_stride_and_pointwise() -> None:
    module, (x,) = zoo.build("layer:c=8,h=6,k=1,stride=2")
    assert module(x).shape == (1, 8, 3, 3)


def test_layer_channels_out() -> None:
    module, (x,) = zoo.build("layer:c=8,c_out=12,h=6,groups=2,depth=2")
    assert [(m.in_channels, m.out_channels) for m in module if isinstance(m, nn.Conv2d)] == [(8, 12), (12, 12)]
    assert module(x).shape == (1, 12, 6, 6)


def test_module_is_ready_for_inference() -> None:
    module, inputs = zoo.build("wrn-40-2,groups=8,batch=3")
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert [tuple(x.shape) for x in inputs] == [(3, 3, 32, 32)]
    y = module(*inputs)
    assert y.shape == (3, 10) and y.isfinite().all()


def test_bert_takes_token_ids() -> None:
    module, (ids,) = zoo.build("bert-base,seq=16,layers=1,batch=2")
    assert ids.shape == (2, 16) and ids.dtype == torch.int64
    assert module(ids).shape == (2, 768)


def test_same_spec_same_weights_whatever_the_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first, (x1,) = zoo.build("mobilenet-v2,size=32")
        torch.set_num_threads(2)
        second, (x2,) = zoo.build("mobilenet-v2,size=32")
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(x1, x2)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_another_seed_gives_other_weights_and_input() -> None:
    first, (x1,) = zoo.build("layer,c=4,h=4")
    second, (x2,) = zoo.build("layer,c=4,h=4,seed=1")
    assert not torch.equal(x1, x2) and not torch.equal(first.conv1.weight, second.conv1.weight)


def test_building_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    zoo.build("layer,c=4,h=4")
    assert torch.equal(state, torch.random.get_rng_state())


ALIVE = ["wrn-40-2,groups=8", "resnet34,groups=2,size=64", "resnet50,size=64", "mobilenet-v1,size=64"]
ALIVE += ["mobilenet-v2,groups=4,size=64", "efficientnet-b0,size=64"]


@pytest.mark.parametrize("spec", ALIVE)
def test_activations_stay_of_order_one_and_errors_small(spec: str) -> None:
    module, (x,) = zoo.build(spec)
    spreads: list[float] = []
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(lambda _m, _i, y: spreads.append(float(y.std())))
        assert not torch.allclose(norm.running_mean, torch.zeros_like(norm.running_mean))
        assert not torch.allclose(norm.weight, torch.ones_like(norm.weight))
    y = module(x)
    assert len(spreads) == len(norms)
    assert all(0.05 < spread < 20 for spread in spreads)
    assert 0.1 < float(y.abs().max()) < 100
    # The output must depend on the input, and must not amplify rounding: else no comparison of outputs means anything.
    assert float((module(-x) - y).norm() / y.norm()) > 0.05
    y64 = module.double()(x.double())
    assert float((y - y64).abs().max() / y64.abs().max()) < 1e-5
