"""The actor: its size, its mask, its checkpoints, and the same answers from an exported file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from deploy.onnxruntime.run import OrtRunner
from examples.mec.actors import OrtActor, TorchActor
from examples.mec.candidates import order_preserving
from examples.mec.checkpoint import Architecture, Record, Training, load_checkpoint, save_checkpoint
from examples.mec.features import features
from examples.mec.learning import Learner, LearnerSettings, Memory
from examples.mec.queues import States
from examples.mec.simulation import simulate
from examples.mec.system import MecSystem
from examples.mec.traces import draw_trace
from examples.mec.train import train, weights_file
from export.onnx_export import export_float
from export.settings import ExportSettings
from quant.errors import BadInput
from quant.graph import capture

SMALL = Architecture(users=6, width=16, depth=1, heads=2, hidden=32, masked=True)


def some_states(system: MecSystem, count: int, active: int | None = None) -> States:
    trace = draw_trace(system, 3.0, count, seed=0)
    generator = np.random.default_rng(1)
    there = np.broadcast_to(np.arange(system.users) < (active or system.users), (count, system.users))
    backlog, debt = (generator.exponential(mean, there.shape) * there for mean in (25, 70))
    return States(trace.gains, backlog, debt, there)


def test_the_actor_has_the_specified_number_of_parameters() -> None:
    model = Architecture().build()
    assert sum(p.numel() for p in model.parameters()) == 68_033
    assert model(torch.zeros(3, 10, 3)).shape == (3, 10)


def test_features_are_the_published_formula_and_of_the_order_of_one() -> None:
    gains = np.array([[0.0, 0.3, 2.5]])
    backlog, debt = np.array([[0.0, 25.0, 200.0]]), np.array([[0.0, 70.0, 500.0]])
    states = States(gains, backlog, debt, np.ones((1, 3), bool))
    found = features(states)
    wanted = [
        np.log([1e-4, 0.3, 2.5]) * 0.5 + 1.2,
        np.log([1.0, 26.0, 201.0]) * 0.5 - 1.5,
        np.log([1.0, 71.0, 501.0]) * 0.5 - 2.0,
    ]
    np.testing.assert_allclose(found[0], np.stack(wanted, axis=1), rtol=1e-6)
    assert np.abs(found).max() < 3.5


def test_absent_users_change_nothing() -> None:
    """A masked actor of six places with four users there is the actor of four users."""
    torch.manual_seed(0)
    system = MecSystem(users=6)
    wide = SMALL.build().eval()
    narrow = replace(SMALL, users=4).build().eval()
    state = dict(wide.state_dict())
    state["positions"] = state["positions"][:4]
    narrow.load_state_dict(state)
    states = some_states(system, 16, active=4)
    tokens = torch.from_numpy(features(states, activity=True))
    junk = tokens.clone()
    junk[:, 4:, :3] = 100.0
    with torch.inference_mode():
        answers = wide(tokens)[:, :4]
        # Masked scores take no part in any sum, so only the order of summation may differ.
        assert (wide(junk)[:, 4:] == -1).all()
        torch.testing.assert_close(wide(junk)[:, :4], answers, rtol=0, atol=1e-6)
        torch.testing.assert_close(narrow(tokens[:, :4]), answers, rtol=0, atol=1e-5)


def test_a_masked_model_is_captured_with_one_input() -> None:
    model = SMALL.build().eval()
    graph = capture(model, torch.randn(2, 6, 4))
    tokens = torch.from_numpy(features(some_states(MecSystem(users=6), 8, active=3), activity=True))
    with torch.inference_mode():
        torch.testing.assert_close(graph(tokens), model(tokens), rtol=1e-5, atol=1e-5)


def test_the_exported_actor_decides_as_the_model(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(weights_file(3.0))
    model, example = tmp_path / "model.onnx", torch.randn(2, 10, 3)
    export_float(capture(checkpoint.model, example), example, model, ExportSettings(), {})
    states = some_states(checkpoint.record.system, 64)
    with OrtRunner(model) as runner:
        exported = OrtActor(runner).logits(states)
    own = TorchActor(checkpoint.model).logits(states)
    np.testing.assert_allclose(exported, own, atol=1e-3)  # float32, logits up to some 20
    decisions = [order_preserving(logits, states.active, 10) for logits in (exported, own)]
    assert np.array_equal(*decisions)


def test_checkpoints_come_back_and_are_refused_for_another_system(tmp_path: Path) -> None:
    torch.manual_seed(3)
    system, path = MecSystem(users=6), tmp_path / "actor.safetensors"
    record = Record(SMALL, system, Training(arrival=3.0, frames=10, seed=0), (0.5, 0.25))
    model = SMALL.build()
    save_checkpoint(path, model, record)
    loaded = load_checkpoint(path, system, SMALL)
    assert loaded.record == record
    assert not loaded.model.training
    tokens = torch.randn(2, 6, 4)
    # Weights are stored in float16.
    torch.testing.assert_close(loaded.model(tokens), model(tokens), rtol=0, atol=2e-2)
    with pytest.raises(BadInput, match=r"power is 0\.1, not 0\.2; lyapunov is 20\.0, not 10"):
        load_checkpoint(path, MecSystem(users=6, power=0.2, lyapunov=10))
    with pytest.raises(BadInput, match="depth is 1, not 2"):
        load_checkpoint(path, architecture=replace(SMALL, depth=2))
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(BadInput, match="does not say what it was trained for"):
        load_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="cannot be read as safetensors"):
        load_checkpoint(path)


def test_memory_forgets_the_oldest_and_never_gives_what_was_not_stored() -> None:
    memory = Memory(4, users=2, width=3)
    for value in range(1, 7):
        memory.store(torch.full((2, 3), float(value)), np.array([True, False]), np.array([True, True]))
        seen = memory.sample(50, torch.Generator().manual_seed(0))[0]
        assert set(seen.unique().tolist()) <= set(range(max(1, value - 3), value + 1))
    assert len(memory) == 4


def test_training_repeats_bit_for_bit_and_learns() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    architecture = Architecture(width=16, depth=1, heads=2, hidden=32)
    runs = [train(MecSystem(), architecture, Training(arrival=3.0, frames=420, seed=1)) for _ in range(2)]
    torch.set_num_threads(threads)
    (first, done, losses), (second, _, _) = runs
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert len(losses) == 15  # from slot 140 on, every 20: 128 samples are needed
    assert losses[-1] < 0.85 * losses[0]
    assert done.backlog.shape == (1, 420, 10)


def test_absent_users_do_not_take_part_in_learning() -> None:
    system = MecSystem(users=6)
    learner = Learner(system, SMALL.build(), LearnerSettings(batch=16, every=16, guard=True, adaptive=True))
    trace = draw_trace(system, 2.0, 80, seed=2, changes=6, fewest=2)
    done = simulate(system, trace, learner)
    assert not done.offload[~done.trace.active].any()
    assert len(learner.losses) == 5
    assert np.isfinite(learner.losses).all()
