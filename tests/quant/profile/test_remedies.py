from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quant.methods import method_names
from quant.observers import observer_names
from quant.profile.figures import (
    Comparison,
    EndToEnd,
    InputProfile,
    Isolated,
    LayerProfile,
    OutlierLine,
    Profile,
    WeightProfile,
)
from quant.profile.histogram import Histogram
from quant.profile.remedies import findings_at, remedies, rule_names
from quant.recipe import Recipe

HISTOGRAM = Histogram(1.0, np.ones(4096, np.int64), np.ones(4096, np.int64))
HEALTHY = LayerProfile(
    name="blocks.7.mlp.fc2",
    kind="linear",
    output=Comparison(35.0, 1e-3, 0.999, 1e-4, 0.01, 0.01, HISTOGRAM),
    isolated=Isolated(qsnr_db=40.0, weight_share=0.3, mean_shift=0.01),
    weight=WeightProfile(8, "per_channel", 40.0),
    input=InputProfile("gelu", 8, 2.0, 12.0, 1e-5, 0.1),
)


def layer(**changes: dict[str, Any]) -> LayerProfile:
    """A healthy layer with some figures changed."""
    parts = {part: replace(getattr(HEALTHY, part), **fields) for part, fields in changes.items()}
    return replace(HEALTHY, **parts)


def test_a_healthy_layer_gets_no_advice():
    assert findings_at(HEALTHY) == []


@pytest.mark.parametrize(
    ("changes", "rule", "first_try", "figure"),
    [
        ({"input": {"channel_ratio": 100.7}}, "outlier_units", "outlier_side_path", "100.7 times"),
        (
            {"input": {"source": "layer_norm", "channel_ratio": 6.0}},
            "uneven_channels",
            "layer_norm_linear",
            "6.0 times",
        ),
        ({"input": {"source": "other", "channel_ratio": 6.0}}, "uneven_channels", "mse_grid", "6.0 times"),
        (
            {"input": {"clipped": 0.004, "clipping_share": 0.8}},
            "clipping",
            "omse",
            "0.4% of the input makes 80%",
        ),
        ({"input": {"range_sigmas": 40.0}}, "long_tails", "percentile", "40 standard deviations"),
        (
            {"isolated": {"weight_share": 0.9}, "weight": {"bits": 4, "sqnr_db": 17.0}},
            "weight",
            "gptq",
            "4-bit weight (SQNR 17.0 dB) makes 90%",
        ),
        (
            {"isolated": {"weight_share": 0.9}, "weight": {"granularity": "per_tensor"}},
            "weight",
            "per_channel",
            "90%",
        ),
        ({"isolated": {"mean_shift": 0.45}}, "mean_shift", "bias_correction", "45%"),
        (
            {"isolated": {"qsnr_db": 12.0}, "output": {"qsnr_db": 11.0}},
            "too_few_bits",
            "overrides",
            "12.0 dB",
        ),
    ],
)
def test_each_cause_is_found_with_its_figure_and_nothing_else(changes, rule, first_try, figure):
    (found,) = findings_at(layer(**changes))
    assert (found.layer, found.rule, found.tries[0]) == (HEALTHY.name, rule, first_try)
    assert figure in found.text


def test_the_input_is_not_blamed_where_the_weight_makes_the_noise():
    found = findings_at(layer(input={"channel_ratio": 50.0}, isolated={"weight_share": 0.95}))
    assert [finding.rule for finding in found] == ["weight"]


def test_inherited_errors_are_told_apart_from_the_layers_own():
    (found,) = findings_at(layer(output={"qsnr_db": 12.0}))
    assert found.rule == "inherited"
    assert "28.0 dB are lost" in found.text
    assert found.tries == ()


def test_a_float_layer_gets_no_advice():
    float_layer = replace(layer(input={"bits": None, "channel_ratio": 100.0}), weight=None)
    assert findings_at(float_layer) == []


def test_every_rule_tries_what_a_recipe_can_name():
    """Methods and observers by name, else a key or a granularity of a recipe."""
    known = {*method_names(), *observer_names(), *Recipe.model_fields, "per_channel", "per_group"}
    spoiled = [
        layer(input={"source": source, "channel_ratio": 9.0, "range_sigmas": 99.0, "clipping_share": 0.1})
        for source in ("gelu", "layer_norm", "other")
    ]
    spoiled += [layer(input={"clipping_share": 0.9}, isolated={"mean_shift": 0.9, "qsnr_db": 1.0})]
    spoiled += [
        layer(isolated={"weight_share": 0.9}, weight={"granularity": g, "bits": 4})
        for g in ("per_tensor", "per_channel", "per_group")
    ]
    found = [finding for one in spoiled for finding in findings_at(one)]
    assert {finding.rule for finding in found} | {"inherited"} == set(rule_names())
    assert {name for finding in found for name in finding.tries} <= known


def test_remedies_come_for_the_worst_layers_first():
    layers = [
        replace(layer(isolated={"qsnr_db": db, "mean_shift": 0.5}), name=name)
        for name, db in (("good", 50.0), ("worst", 21.0), ("bad", 30.0))
    ]
    layers.append(replace(HEALTHY, name="float", weight=None, input=replace(HEALTHY.input, bits=None)))
    nan = float("nan")
    found = Profile(1, tuple(layers), (), EndToEnd(30.0, 1.0, 1.0, 0.0), OutlierLine(nan, nan, nan))
    assert [one.name for one in found.worst(5)] == ["worst", "bad", "good"]
    assert [finding.layer for finding in remedies(found, 2) if finding.rule == "mean_shift"] == [
        "worst",
        "bad",
    ]
