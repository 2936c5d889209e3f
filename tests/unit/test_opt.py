"""Pass pipelines as text: splitting, options and what is said about mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("torch_mlir.ir")

from dlas.compiler.opt import choose_context, parse_pipeline, run  # noqa: E402
from dlas.errors import CompileError, UsageError  # noqa: E402
from dlas.passes import registry  # noqa: E402
from dlas.passes.canonical import PIPELINE  # noqa: E402

TEXT = "func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> { return %x : tensor<4xf32> }"


def test_pipeline_splits_at_the_top_level_only():
    steps = parse_pipeline("dlas-fold-constants{max-growth=3}, func.func(canonicalize,cse),canonicalize{top-down=true}")
    assert [step.text for step in steps] == [
        "dlas-fold-constants{max-growth=3}",
        "func.func(canonicalize,cse)",
        "canonicalize{top-down=true}",
    ]
    assert (steps[0].name, steps[0].options) == ("dlas-fold-constants", {"max-growth": "3"})
    assert [step.is_ours for step in steps] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the pass pipeline is empty"),
        ("cse,func.func(canonicalize", "brackets do not match"),
        ("cse}", "brackets do not match"),
        ("dlas-fold-constants{max-growth}", "option 'max-growth' has no value"),
        ("dlas-fold", "unknown pass 'dlas-fold' .*dlas-fold-constants"),
    ],
)
def test_wrong_pipelines(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        parse_pipeline(text)


def test_options_have_types():
    assert registry.create("dlas-fold-batch-norm", {"into-weights": "false"}) == registry.passes()[
        "dlas-fold-batch-norm"
    ](into_weights=False)
    with pytest.raises(UsageError, match="option into-weights='no' is not true or false"):
        registry.create("dlas-fold-batch-norm", {"into-weights": "no"})


def test_context_comes_from_the_passes():
    assert choose_context(parse_pipeline("cse"), None) == "torch-mlir"
    assert choose_context(parse_pipeline("cse"), "iree") == "iree"
    assert choose_context(parse_pipeline("cse,dlas-name-layers"), None) == "torch-mlir"


def test_canonical_pipeline_is_a_pipeline():
    module, _ = run(TEXT, ",".join(PIPELINE))
    assert "return %arg0" in str(module)


def test_input_that_does_not_parse():
    with pytest.raises(CompileError, match=r"x.mlir: does not parse as MLIR: .* at line 1, column 10$"):
        run("func.func", "cse", where="x.mlir")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="two passes are named 'dlas-name-layers'"):

        @registry.register("dlas-name-layers", context="torch-mlir")
        @dataclass(frozen=True)
        class Other(registry.Pass):
            pass


def test_only_dataclasses_are_registered():
    with pytest.raises(TypeError, match="is not a dataclass"):
        registry.register("dlas-other", context="iree")(type("Plain", (registry.Pass,), {}))
