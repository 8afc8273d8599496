"""Training through a real Trainer: exact resume, clipping, schedules, divergence, checkpoints, the loss."""

import math
from typing import Any

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import SHAPE, ShuffledTinyData, TinyData, convnet, coopnets, differences, energy, images, trainer
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import ebm_zoo.models
from ebm_zoo.callbacks import DivergenceGuard
from ebm_zoo.config import to_config
from ebm_zoo.errors import ConfigError, DataError, DivergenceError, WeightsError
from ebm_zoo.losses import maximum_likelihood
from ebm_zoo.models import EnergyModel, GenerativeConvNet
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Chains, FittedGaussian, FromData, Persistent, Uniform, langevin
from ebm_zoo.space import Space


class TwoNetworks(EnergyModel):
    """Two networks with a loss each; the second loss is a thousand times steeper."""

    def __init__(self, first: nn.Module, second: nn.Module, space: Space, optim: dict[str, Adam]) -> None:
        super().__init__(space, optim)
        self.first, self.second = first, second

    def losses(self, batch):
        return {"first": self.first(batch).mean(), "second": 1000 * self.second(batch).mean()}

    def validation_step(self, batch, batch_idx):
        """Lightning asks for one where there are data for it."""


@pytest.fixture
def two_networks(monkeypatch):
    """TwoNetworks as a public class of the zoo."""
    monkeypatch.setattr(TwoNetworks, "__module__", "ebm_zoo.models.two_networks")
    monkeypatch.setattr(ebm_zoo.models, "TwoNetworks", TwoNetworks, raising=False)
    monkeypatch.setattr(ebm_zoo.models, "__all__", [*ebm_zoo.models.__all__, "TwoNetworks"])
    return lambda **optim: TwoNetworks(energy(), energy(), Space(SHAPE), optim)


class Watch(Callback):
    """Records a quantity of the model after every training batch."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(self.look(trainer, pl_module))


def each_epoch(folder):
    return ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)


def read(path):
    return torch.load(path, weights_only=True)


# Resume (more in test_resume.py)


def test_chains_are_in_the_checkpoint_and_not_among_the_weights(tmp_path):
    model = convnet(chains=Persistent(size=16))
    run = trainer(max_epochs=1, enable_checkpointing=True, callbacks=[each_epoch(tmp_path)])
    run.fit(model, datamodule=TinyData(images(8)))
    checkpoint = read(tmp_path / "epoch=0.ckpt")
    (rank,) = checkpoint["ebm_zoo"]["ranks"]
    assert torch.equal(rank["chains"]["chains"]["memory"], model.chains.memory)
    assert checkpoint["state_dict"].keys() == dict(model.named_parameters()).keys()
    assert checkpoint["ebm_zoo"]["config"] == to_config(model) == dict(checkpoint["hyper_parameters"])


class Remembering(nn.Module):
    """An energy that holds chains of its own."""

    def __init__(self, network: nn.Module, chains: Persistent) -> None:
        super().__init__()
        self.network, self.chains = network, chains

    def forward(self, x):
        return self.network(x)


class ManyChains(EnergyModel):
    """Chains in an attribute, a tuple, a dict in a dict and networks, all of which are run."""

    def __init__(
        self, energy: nn.Module, space: Space, optim: dict[str, Adam], chains: Chains, replay: Any, more: Any
    ) -> None:
        super().__init__(space, optim)
        self.energy, self.chains, self.replay, self.more = energy, chains, replay, more
        self.again = chains

    def losses(self, batch):
        drawn = []
        for chains in (self.chains, *self.replay, self.more["a"]["b"], self.energy[0].chains):
            drawn.append(langevin(self.energy, chains.start(batch, Uniform()), steps=2, step_size=0.3))
            chains.finish(drawn[-1])
        return {"energy": maximum_likelihood(self.energy, batch, torch.cat(drawn))}


def many_chains():
    memories = [Persistent(size=8 + k, refresh=0.3) for k in range(5)]
    network = nn.Sequential(Remembering(energy(), memories[4]))
    return ManyChains(
        network,
        Space(SHAPE),
        {"energy": Adam(1e-2)},
        memories[0],
        (memories[1], memories[2]),
        {"a": {"b": memories[3]}},
    )


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_chains_are_found_wherever_they_are_held_and_go_on_where_they_were(tmp_path, monkeypatch):
    # Configurations are not what is tested here, and a Sequential has none.
    for place in ("base", "checkpoint"):
        monkeypatch.setattr(f"ebm_zoo.models.{place}.to_config", lambda model: {})
    names = ("chains", "replay.0", "replay.1", "more.a.b", "energy.0.chains")
    assert {name: each.size for name, each in many_chains().chains_by_name().items()} == {
        name: 8 + k for k, name in enumerate(names)
    }
    states = {}
    for name, epochs, ckpt_path in (("whole", 2, None), ("resumed", 2, tmp_path / "whole" / "epoch=0.ckpt")):
        torch.manual_seed(1)
        model = many_chains()
        torch.manual_seed(2 if ckpt_path is None else 3)
        run = trainer(
            max_epochs=epochs, limit_val_batches=0, enable_checkpointing=True, callbacks=[each_epoch(tmp_path / name)]
        )
        run.fit(model, datamodule=ShuffledTinyData(images(12)), ckpt_path=ckpt_path, weights_only=True)
        states[name] = read(tmp_path / name / "epoch=1.ckpt")
    whole, resumed = ((state["state_dict"], state["ebm_zoo"]) for state in states.values())
    assert differences(whole, resumed) == []
    (rank,) = whole[1]["ranks"]
    assert {name: len(each["memory"]) for name, each in rank["chains"].items()} == {
        name: 8 + k for k, name in enumerate(names)
    }


def test_noise_is_fitted_to_the_training_data_before_the_first_step():
    data = images(64)
    model = convnet(noise=FittedGaussian(SHAPE, rank=5))
    trainer(max_steps=1, limit_val_batches=0).fit(model, datamodule=TinyData(data))
    torch.testing.assert_close(model.noise.centre(data), data.mean(0, keepdim=True))
    fitted = model.noise.mean.clone()
    trainer(max_steps=1, limit_val_batches=0).fit(model, datamodule=TinyData(-data))
    assert torch.equal(model.noise.mean, fitted)


LOADERS = {
    "in_order": lambda: DataLoader(images(40), batch_size=8),
    "shuffled": lambda: DataLoader(images(40), batch_size=8, shuffle=True),
    "own_generator": lambda: DataLoader(
        images(40), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3)
    ),
    "own_sampler": lambda: DataLoader(
        images(40), 8, sampler=RandomSampler(range(40), generator=torch.Generator().manual_seed(3))
    ),
    "persistent_worker": lambda: DataLoader(
        images(40), batch_size=8, shuffle=True, num_workers=1, persistent_workers=True
    ),
    "one_tensor": lambda: DataLoader(TensorDataset(images(40)), batch_size=8, shuffle=True),
    "zoo": lambda: ShuffledTinyData(images(40), batch_size=8).train_dataloader(),
}


no_validation = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


@no_validation
@pytest.mark.parametrize("length", [{"max_epochs": 2}, {"max_epochs": -1, "max_steps": 10}], ids=["epochs", "steps"])
@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS.keys())
def test_data_are_looked_at_before_training_and_come_in_the_same_order(loader, length):
    seen = []
    for known in (False, True):
        noise = FittedGaussian(SHAPE, rank=5)
        if known:
            noise.fit(images(40).split(8))
        model, batches = convnet(noise=noise), []
        model.losses = lambda batch, model=model, batches=batches: (
            batches.append((batch.clone(), torch.get_rng_state())),
            {"energy": model.energy(batch).mean()},
        )[1]
        torch.manual_seed(1)
        trainer(limit_val_batches=0, **length).fit(model, loader())
        torch.testing.assert_close(noise.mean, images(40).mean(0).flatten(), atol=0.05, rtol=0)
        seen.append(batches)
    assert len(seen[0]) == 10 and differences(*seen) == []


@no_validation
@pytest.mark.parametrize("make", [convnet, lambda: convnet(noise=FittedGaussian(SHAPE, rank=5)), coopnets])
def test_batches_of_another_kind_are_refused(make):
    for batch in ((images(8), torch.zeros(8)), {"x": images(8)}):
        rows = TensorDataset(*batch) if isinstance(batch, tuple) else [{"x": row} for row in batch["x"]]
        with pytest.raises(DataError, match=r"a batch must be one tensor, \(B, ...\), not a (list|dict)"):
            trainer(max_steps=1).fit(make(), DataLoader(rows, batch_size=4))


# Optimisation


def test_each_network_is_clipped_to_its_own_limit(two_networks):
    def norms(trainer, model):
        now = [nn.utils.get_total_norm([p.grad for p in net.parameters()]) for net in (model.first, model.second)]
        before = [trainer.callback_metrics[f"gradient_norm/{name}"] for name in ("first", "second")]
        return torch.stack([*now, *before]).tolist()

    watch = Watch(norms)
    run = trainer(max_steps=3, limit_val_batches=0, callbacks=[watch])
    run.fit(two_networks(first=Adam(1e-3, clip=0.01), second=Adam(1e-3)), datamodule=TinyData(images(8)))
    assert len(watch.seen) == 3
    for first, second, first_before, second_before in watch.seen:
        assert first == pytest.approx(0.01, rel=1e-3) and first_before > 0.02
        assert second == pytest.approx(second_before) and second > 10 * first_before


def test_the_limit_of_the_trainer_comes_last(two_networks):
    def norm(trainer, model):
        return nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()

    watch = Watch(norm)
    run = trainer(max_steps=2, limit_val_batches=0, callbacks=[watch], gradient_clip_val=0.5)
    run.fit(two_networks(first=Adam(1e-3, clip=0.01), second=Adam(1e-3)), datamodule=TinyData(images(8)))
    assert watch.seen == pytest.approx([0.5, 0.5], rel=1e-3)


def test_learning_rates_follow_each_networks_schedule(two_networks):
    watch = Watch(lambda trainer, model: [group["lr"] for group in trainer.optimizers[0].param_groups])
    run = trainer(max_epochs=4, limit_val_batches=0, callbacks=[watch])
    model = two_networks(first=Adam(0.1, warmup=3), second=Adam(0.2, final=0.5))
    run.fit(model, datamodule=TinyData(images(8)))
    first, second = zip(*watch.seen, strict=True)
    # After step t = 1 ... 8 the rate of step t + 1 is set; eight steps in all.
    assert first == pytest.approx([0.1 * min(1, (t + 1) / 3) for t in range(1, 9)])
    assert second == pytest.approx([0.2 * (0.5 + 0.5 * (1 + math.cos(math.pi * t / 8)) / 2) for t in range(1, 9)])


def test_schedule_begins_and_ends_where_it_says():
    settings = Adam(lr=1.0, warmup=4, final=0.1)
    assert settings.factor(0, 100.0) == pytest.approx(0.25)
    assert settings.factor(100, 100.0) == settings.factor(200, 100.0) == pytest.approx(0.1)
    assert Adam(final=0.1).factor(50, 100.0) == pytest.approx(0.55)
    assert Adam(final=0.1).factor(10**6, math.inf) == Adam().factor(7, 10.0) == 1


def test_adam_gets_the_settings_of_each_network(two_networks):
    run = trainer(max_steps=1, limit_val_batches=0)
    model = two_networks(first=Adam(0.1, betas=(0.0, 0.9)), second=Adam(0.2))
    run.fit(model, datamodule=TinyData(images(8)))
    groups = run.optimizers[0].param_groups
    assert [(g["name"], g["initial_lr"], g["betas"]) for g in groups] == [
        ("first", 0.1, (0.0, 0.9)),
        ("second", 0.2, (0.9, 0.999)),
    ]
    assert [len(g["params"]) for g in groups] == [6, 6]


@pytest.mark.parametrize("optim", [{}, {"generator": Adam()}, {"energy": Adam(), "noise": Adam()}])
def test_optim_must_name_the_trained_networks(optim):
    with pytest.raises(ConfigError, match=r"exactly the trained networks \['energy'\]"):
        trainer(max_steps=1).fit(convnet(optim=optim), datamodule=TinyData(images(8)))


def test_frozen_networks_need_no_settings(two_networks):
    model = two_networks(second=Adam(1e-2))
    model.first.requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    trainer(max_steps=1, limit_val_batches=0).fit(model, datamodule=TinyData(images(8)))
    changed = [not torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True)]
    assert not any(changed[:6]) and any(changed[6:])


@pytest.mark.parametrize("data", [images(8)[..., :4], images(8) * 3], ids=["shape", "range"])
def test_the_first_batch_must_belong_to_the_space(data):
    with pytest.raises(DataError, match="This model takes"):
        trainer(max_steps=1, limit_val_batches=0).fit(convnet(), datamodule=TinyData(data))


# Divergence


class Poison(Callback):
    """Spoils the weights before the sixth step."""

    def __init__(self, value):
        self.value = value

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 5:
            nn.init.constant_(next(pl_module.energy.parameters()), self.value)


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "nan"), (1e12, r"-?\d\S*")])
def test_divergence_stops_training_and_keeps_the_last_checkpoint(value, said, tmp_path):
    watch = Watch(lambda trainer, model: {k: v.clone() for k, v in model.state_dict().items()})
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_last=True, save_top_k=-1)
    callbacks = [Poison(value), DivergenceGuard(limit=100.0), watch, keep]
    run = trainer(max_epochs=3, enable_checkpointing=True, callbacks=callbacks)
    with pytest.raises(DivergenceError, match=rf"loss 'energy' is {said} at step 6 \(limit 100\)"):
        run.fit(convnet(chains=FromData()), datamodule=TinyData(images(16)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch=0.ckpt", "last.ckpt"]
    for name in ("epoch=0.ckpt", "last.ckpt"):
        model = EnergyModel.load_from_checkpoint(tmp_path / name)
        assert differences(model.state_dict(), watch.seen[3]) == []
        assert torch.isfinite(model.sample(2)).all()


def test_guard_lets_a_healthy_training_pass():
    run = trainer(max_epochs=2, callbacks=[DivergenceGuard(limit=100.0)])
    run.fit(convnet(), datamodule=TinyData(images(16)))
    assert run.global_step == 8


def test_guard_names_the_loss_of_the_parts(two_networks):
    run = trainer(max_epochs=1, limit_val_batches=0, callbacks=[DivergenceGuard(limit=1e-6)])
    with pytest.raises(DivergenceError, match=r"loss 'first' is .* at step 1"):
        run.fit(two_networks(first=Adam(), second=Adam()), datamodule=TinyData(images(8)))
    with pytest.raises(ConfigError, match="limit > 0 and patience"):
        DivergenceGuard(limit=0.0)


# Checkpoints


def test_load_from_checkpoint(two_networks, tmp_path):
    model = convnet(penalty=0.1)
    run = trainer(max_steps=2, limit_val_batches=0)
    run.fit(model, datamodule=TinyData(images(8)))
    path = tmp_path / "last.ckpt"
    run.save_checkpoint(path)
    for cls in (GenerativeConvNet, EnergyModel):
        loaded = cls.load_from_checkpoint(path)
        assert type(loaded) is GenerativeConvNet and to_config(loaded) == to_config(model)
        assert differences(loaded.state_dict(), model.state_dict()) == []
    with pytest.raises(WeightsError, match=r"last\.ckpt holds a GenerativeConvNet, not a TwoNetworks"):
        TwoNetworks.load_from_checkpoint(path)


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    torch.save(torch.zeros(3), tmp_path / "tensor.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "empty.ckpt").touch()
    for name in ("foreign", "tensor", "text", "empty", "missing"):
        with pytest.raises(WeightsError, match=rf"{name}\.ckpt"):
            GenerativeConvNet.load_from_checkpoint(tmp_path / f"{name}.ckpt")


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    data = TinyData(images(8))
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(convnet(), datamodule=data)
    run.save_checkpoint(tmp_path / "last.ckpt")
    other = convnet(noise=FittedGaussian(SHAPE, rank=2))
    with pytest.raises(WeightsError, match="another model"):
        trainer(max_steps=2, limit_val_batches=0).fit(other, datamodule=data, ckpt_path=tmp_path / "last.ckpt")


# The loss


def test_maximum_likelihood_gradient_on_a_gaussian():
    # E = θ x²: the gradient of the loss is mean x⁺² − mean x⁻².
    theta = torch.tensor(0.7, requires_grad=True)
    positive, negative = torch.randn(5, 2), torch.randn(7, 2, requires_grad=True)
    loss = maximum_likelihood(lambda x: theta * x.square().sum(1), positive, negative)
    loss.backward()
    expected = positive.square().sum(1).mean() - negative.square().sum(1).mean()
    torch.testing.assert_close(theta.grad, expected.detach())
    assert negative.grad is None, "samples are constants of the loss"


def test_maximum_likelihood_penalty_and_context():
    positive, negative, scale = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [4.0]]), torch.tensor(2.0)

    def energy(x, scale):
        return scale * x.flatten()

    assert maximum_likelihood(energy, positive, negative, scale).item() == pytest.approx(4 - 6)
    # Energies 2, 6 on data and 4, 8 on samples: mean squares 20 and 40.
    loss = maximum_likelihood(energy, positive, negative, scale, penalty=0.1)
    assert loss.item() == pytest.approx(4 - 6 + 0.1 * (20 + 40))
