"""The table of zoo models and the parser of their specs ``NAME[,key=value...]``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dlas.errors import UsageError

from . import bert, densenet, efficientnet, layer, mobilenet, resnet, vgg, wrn

Values = Mapping[str, Any]
"""The value of every key of one parsed spec, defaults filled in."""


@dataclass(frozen=True)
class Key:
    """One option of a spec: its default, its meaning and the text -> value parser (ValueError says what is known)."""

    default: Any
    meaning: str
    parse: Callable[[str], Any]


def _integer(low: int, high: int, multiple: int = 1) -> Callable[[str], int]:
    rule = f"an integer from {low} to {high}" + (f", a multiple of {multiple}" if multiple > 1 else "")

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high or int(text) % multiple:
            raise ValueError(rule)
        return int(text)

    return parse


def _groups(default: str, channels: tuple[int, ...] | None) -> Key:
    """The key ``groups`` for 3x3 convolutions of these channel counts (None: checked when the module is built)."""
    common = math.gcd(*channels) if channels else 0
    known = [str(g) for g in range(1, common + 1) if common % g == 0] if channels else ["a divisor of c"]

    def parse(text: str) -> Any:
        if text in ("S", "N"):
            return text
        if not text.isdecimal() or int(text) < 1 or common % int(text):
            raise ValueError(", ".join(["S", *known, "N"]))
        return int(text)

    return Key(default, "groups of the 3x3 convolutions: S (standard), a number, or N (depthwise)", parse)


BATCH = Key(1, "batch size", _integer(1, 4096))
SEED = Key(0, "seed of the weights and of the example input", _integer(0, 2**31 - 1))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise ValueError("a number from 0, below 1")
    return value


SPARSITY = Key(
    0.0, "share of each convolution's and linear layer's weights that is zero, those of least magnitude", _share
)


def _size(default: int) -> Key:
    return Key(default, "height and width of the image", _integer(32, 1024, multiple=32))


@dataclass(frozen=True)
class ZooModel:
    """One zoo model: ``create(values)`` makes the module, ``example(values, generator)`` its input."""

    name: str
    description: str
    keys: Mapping[str, Key]
    create: Callable[[Values], nn.Module]
    example: Callable[[Values, torch.Generator], torch.Tensor]

    def calibration_sample(self, values: Values) -> torch.Tensor:
        """An input for the batch norms' statistics: another than the example, at the published resolution.

        Four of them where images are small. The example itself, or a last feature map of 2x2 pixels, would be too
        few values to make statistics from.
        """
        published = {key: entry.default for key, entry in self.keys.items() if key == "size"}
        batch = 4 if published.get("size", 224) < 64 else 1
        return self.example({**values, **published, "batch": batch}, torch.Generator().manual_seed(values["seed"] + 2))


@dataclass(frozen=True)
class ModelInfo:
    """What :func:`list_models` says of one model; ``keys`` maps a key to its default and meaning."""

    name: str
    description: str
    keys: dict[str, str]


def _image(values: Values, generator: torch.Generator) -> torch.Tensor:
    return torch.randn((values["batch"], 3, values["size"], values["size"]), generator=generator)


def _image224(values: Values, generator: torch.Generator) -> torch.Tensor:
    return torch.randn((values["batch"], 3, 224, 224), generator=generator)


def _token_ids(values: Values, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, bert.VOCABULARY, (values["batch"], values["seq"]), generator=generator)


def _features(values: Values, generator: torch.Generator) -> torch.Tensor:
    return torch.randn((values["batch"], values["c"], values["h"], values["h"]), generator=generator)


def _bert(values: Values) -> nn.Module:
    return bert.BertBase(values["layers"])


def _layer(values: Values) -> nn.Module:
    return layer.ConvLayers(*(values[key] for key in ("c", "k", "stride", "depth", "groups", "c_out")))


def _model(
    name: str,
    description: str,
    create: Callable[[Values], nn.Module],
    example: Callable[[Values, torch.Generator], torch.Tensor] = _image,
    **keys: Key,
) -> ZooModel:
    common = {"batch": BATCH, "seed": SEED, "sparsity": SPARSITY}
    return ZooModel(name, description, {**keys, **common}, create, example)


_IMAGENET = _size(224)
_RESNET_GROUPS = _groups("S", resnet.GROUPED_CHANNELS)

MODELS: dict[str, ZooModel] = {
    model.name: model
    for model in (
        _model(
            "wrn-40-2",
            "Wide ResNet 40-2, 32x32 images, 10 classes",
            lambda v: wrn.WideResNet(v["groups"]),
            groups=_groups("S", wrn.GROUPED_CHANNELS),
            size=_size(32),
        ),
        _model("resnet18", "ResNet-18", lambda v: resnet.resnet18(v["groups"]), groups=_RESNET_GROUPS, size=_IMAGENET),
        _model("resnet34", "ResNet-34", lambda v: resnet.resnet34(v["groups"]), groups=_RESNET_GROUPS, size=_IMAGENET),
        _model("resnet50", "ResNet-50", lambda v: resnet.resnet50(v["groups"]), groups=_RESNET_GROUPS, size=_IMAGENET),
        _model("resnext50-32x4d", "ResNeXt-50 32x4d", lambda v: resnet.resnext50_32x4d(), size=_IMAGENET),
        _model(
            "mobilenet-v1",
            "MobileNetV1, groups=N is the published network",
            lambda v: mobilenet.MobileNetV1(v["groups"]),
            groups=_groups("N", mobilenet.V1_GROUPED_CHANNELS),
            size=_IMAGENET,
        ),
        _model(
            "mobilenet-v2",
            "MobileNetV2, groups=N is the published network",
            lambda v: mobilenet.MobileNetV2(v["groups"]),
            groups=_groups("N", mobilenet.V2_GROUPED_CHANNELS),
            size=_IMAGENET,
        ),
        _model("vgg16", "VGG-16 without batch norm, 224x224 images", lambda v: vgg.VGG16(), _image224),
        _model("efficientnet-b0", "EfficientNet-B0", lambda v: efficientnet.EfficientNetB0(), size=_IMAGENET),
        _model("densenet161", "DenseNet-161", lambda v: densenet.DenseNet161(), size=_IMAGENET),
        _model(
            "bert-base",
            "BERT-base encoder and pooler, int64 token ids",
            _bert,
            _token_ids,
            seq=Key(128, "tokens", _integer(1, bert.MAX_SEQUENCE)),
            layers=Key(bert.LAYERS, "encoder layers", _integer(1, bert.LAYERS)),
        ),
        _model(
            "layer",
            "conv kxk (padding k // 2, bias) and ReLU on c x h x h features, depth times",
            _layer,
            _features,
            c=Key(64, "channels in", _integer(1, 8192)),
            c_out=Key(0, "channels out, 0: as many as in", _integer(0, 8192)),
            h=Key(16, "height and width of the features", _integer(1, 4096)),
            groups=_groups("S", None),
            k=Key(3, "kernel size, odd", _integer(1, 31)),
            stride=Key(1, "stride of each convolution", _integer(1, 8)),
            depth=Key(1, "layers in the chain", _integer(1, 64)),
        ),
    )
}


def list_models() -> list[ModelInfo]:
    """Every zoo model, in the order of the table."""
    return [
        ModelInfo(m.name, m.description, {k: f"{key.meaning} (default {key.default})" for k, key in m.keys.items()})
        for m in MODELS.values()
    ]


def is_zoo_spec(text: str) -> bool:
    """Whether ``text`` names a zoo model (``zoo:NAME...``, or a bare known name before the first ``,`` or ``:``)."""
    return text.startswith("zoo:") or text.replace(":", ",").partition(",")[0] in MODELS


def parse_spec(spec: str) -> tuple[ZooModel, dict[str, Any]]:
    """Parse ``[zoo:]NAME[,key=value...]`` (``NAME:key=value...`` too) into its model and the value of every key.

    Raises:
        UsageError: an unknown name, key or value, or a key given twice; the error names what is known.
    """
    spec = spec.removeprefix("zoo:")
    where = f"zoo:{spec}"
    name, _, rest = spec.replace(":", ",", 1).partition(",")
    if name not in MODELS:
        raise UsageError(f"unknown zoo model {name!r}", where=where, hint=f"known: {', '.join(MODELS)}")
    model = MODELS[name]
    given: dict[str, Any] = {}
    for item in rest.split(",") if rest else []:
        key, equals, text = item.partition("=")
        known = f"{name} takes {', '.join(f'{k}=' for k in model.keys)}"
        if not equals or key not in model.keys:
            found = f"unknown key {key!r}" if equals else f"{item!r} is not key=value"
            raise UsageError(found, where=where, hint=known)
        if key in given:
            raise UsageError(f"{key}= is given twice", where=where)
        try:
            given[key] = model.keys[key].parse(text)
        except ValueError as error:
            raise UsageError(f"{item} cannot be used", where=where, hint=f"{key} takes {error}") from None
    return model, {key: given.get(key, entry.default) for key, entry in model.keys.items()}
