"""What every model of the zoo promises, tested on each line of the contract table."""

import inspect
import json
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from contract import CASES, COUNT, Case
from jsonargparse import ArgumentParser
from lightning import seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from tiny import TinyData, trainer
from torch import nn

import ebm_zoo.models
from ebm_zoo import from_pretrained, save_pretrained
from ebm_zoo.config import from_config, to_config
from ebm_zoo.errors import ConfigError
from ebm_zoo.models import EnergyModel

# Lightning's word on models without a validation step.
pytestmark = pytest.mark.filterwarnings("ignore:You passed in a .val_dataloader. but")

MODES = {"plain": nullcontext, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


generative = pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in CASES.items() if c.energies])


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request) -> Case:
    return request.param


@pytest.fixture
def model(case) -> EnergyModel:
    return case.model()


@pytest.fixture
def batch(case) -> Any:
    return case.batch(COUNT)


def constructor_arguments(model):
    names = list(inspect.signature(type(model).__init__).parameters)[1:]
    return {name: getattr(model, name) for name in names}


def values(model):
    """A copy of all weights and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def fit(model, data, **settings):
    trainer(**settings).fit(model, datamodule=TinyData(data))
    return model


def test_every_model_has_its_line():
    models = {getattr(ebm_zoo.models, name) for name in ebm_zoo.models.__all__} - {EnergyModel}
    assert {type(case.model()) for case in CASES.values()} == models


def test_losses_are_finite_scalars(model, batch):
    losses = model.losses(batch)
    assert losses
    for loss in losses.values():
        assert loss.shape == () and torch.isfinite(loss)


def test_each_parameter_learns_from_exactly_one_loss(model, batch):
    losses = model.losses(batch)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    teachers = dict.fromkeys(parameters, 0)
    moved = set()
    for loss in losses.values():
        gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            teachers[name] += gradient is not None
            moved |= {name.split(".")[0]} if gradient is not None and gradient.any() else set()
    assert set(teachers.values()) == {1}, teachers
    assert moved == set(model.networks()), "a network gets no gradient but zero"


def test_sampling_and_tasks_leave_the_model_as_it_was(case, model, batch):
    before = values(model)
    model.losses(batch)
    assert equal(values(model), before) or not case.energies, "batch statistics moved"
    before = values(model.eval())
    model.predict_step(batch, 0)
    for name in case.tasks.keys() - set(case.refused):
        case.tasks[name][0](model, batch)
    assert [name for name, p in model.named_parameters() if p.grad is not None] == []
    assert all(p.requires_grad for p in model.parameters())
    assert equal(values(model), before)


def test_config_round_trip(model):
    config = json.loads(json.dumps(to_config(model)))
    rebuilt = from_config(config)
    assert type(rebuilt) is type(model)
    assert to_config(rebuilt) == config


def test_command_line_reads_the_same_config(model):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EnergyModel, "model")
    # The parser changes what it is given: it gets its own copy.
    settings = parser.parse_object({"model": to_config(model)})
    assert to_config(parser.instantiate(settings).model) == to_config(model)


def test_constructor_arguments_are_kept_under_their_names(model):
    arguments = constructor_arguments(model)
    again = constructor_arguments(type(model)(**arguments))
    assert all(again[name] is value for name, value in arguments.items())


@generative
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(1), nn.SyncBatchNorm(1)], ids=["batch", "sync_batch"])
def test_energies_refuse_batch_norm(case, model, norm):
    for name in case.energies:
        arguments = constructor_arguments(model)
        arguments[name] = nn.Sequential(norm, arguments[name])
        with pytest.raises(ConfigError, match="batch norm at '0'"):
            type(model)(**arguments)


def test_saved_model_answers_the_same(case, model, batch, tmp_path):
    loaded = from_pretrained(save_pretrained(model, tmp_path / "saved"))
    assert type(loaded) is type(model) and not loaded.training
    answers = []
    for each in (model.eval(), loaded):
        torch.manual_seed(1)
        answers.append(each.predict_step(batch, 0))
    assert equal(*answers)
    torch.manual_seed(1)
    fresh = case.model().eval().predict_step(batch, 0)
    assert not equal(answers[0], fresh), "other weights give the same answers: nothing is compared"


def test_a_model_loaded_in_inference_mode_answers_and_learns_outside_of_it(case, model, tmp_path):
    folder = save_pretrained(model, tmp_path / "saved")
    with torch.inference_mode():
        loaded = from_pretrained(folder)
    assert not any(value.is_inference() for value in loaded.state_dict().values())
    answers = loaded.predict_step(case.batch(COUNT), 0)
    assert {name: tuple(value.shape) for name, value in answers.items()} == case.predicted
    torch.stack(list(loaded.losses(case.batch(COUNT)).values())).sum().backward()


def test_a_model_is_not_built_in_inference_mode(case):
    with torch.inference_mode(), pytest.raises(ConfigError, match="build it outside"):
        case.model()


def test_loading_leaves_the_global_stream_alone(model, tmp_path):
    folder = save_pretrained(model, tmp_path / "saved")
    before = torch.get_rng_state()
    from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_of_an_own_generator_leave_the_global_stream_alone(model):
    if "sample" in model.tasks:
        before = torch.get_rng_state()
        first, second = (model.sample(2, generator=torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(torch.get_rng_state(), before) and torch.equal(first, second)


def test_fit_moves_every_network(case, model):
    before = values(model)
    fit(model, case.batch(8), max_steps=2)
    after = values(model)
    for network in model.networks():
        names = [name for name in after if name.startswith(f"{network}.")]
        assert any(not torch.equal(before[name], after[name]) for name in names)
    assert all(torch.isfinite(value).all() for value in after.values())


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_fit_takes_a_plain_loader(case, model):
    before = values(model)
    trainer(max_steps=1).fit(model, TinyData(case.batch(8)).train_dataloader())
    assert not equal(values(model), before)


def test_training_is_determined_by_the_seed(case):
    def trained(seed):
        seed_everything(seed, verbose=False)
        return values(fit(case.model(), case.batch(8), max_steps=2, limit_val_batches=0))

    assert equal(trained(1), trained(1))
    assert not equal(trained(1), trained(2))


@generative
def test_training_on_one_point_lowers_its_energy(case, model):
    data = case.batch(33)

    def part(rows):
        return data[rows] if isinstance(data, torch.Tensor) else tuple(each[rows] for each in data)

    @torch.no_grad()
    def height():
        point, others = (case.height(model, part(rows)) for rows in (slice(1), slice(1, None)))
        return (point - others.mean()).item()

    before = height()
    fit(model, part(torch.zeros(8, dtype=torch.long)), max_steps=30, limit_val_batches=0)
    assert height() < before


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_tasks_work_in_every_mode(case, model, mode):
    assert set(case.tasks) == set(model.tasks)
    with mode():
        x = case.batch(COUNT)
        assert x[0].is_inference() == (mode is torch.inference_mode)
        for name, (call, shape) in case.tasks.items():
            if name in case.refused:
                with pytest.raises(ConfigError):
                    call(model, x)
            else:
                answer = call(model, x)
                assert answer.shape == shape and torch.isfinite(answer).all(), name


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_predict_step_shapes(case, model, mode):
    with mode():
        answers = model.predict_step(case.batch(COUNT), 0)
    assert {name: tuple(value.shape) for name, value in answers.items()} == case.predicted
    assert all(torch.isfinite(value).all() and not value.requires_grad for value in answers.values())


@pytest.mark.parametrize("inference_mode", [True, False])
def test_every_loop_runs_under_a_real_trainer(case, model, inference_mode):
    run, data = trainer(inference_mode=inference_mode), TinyData(case.batch(COUNT))
    if is_overridden("validation_step", model):
        run.validate(model, datamodule=data, verbose=False)
        assert run.callback_metrics and all(torch.isfinite(value) for value in run.callback_metrics.values())
    run.test(model, datamodule=data, verbose=False)
    (answers,) = run.predict(model, datamodule=data)
    assert {name: tuple(value.shape) for name, value in answers.items()} == case.predicted
