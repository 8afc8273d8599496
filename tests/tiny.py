"""Tiny images, networks, data and trainers: what the tests of models and training are made of."""

from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from ebm_zoo.data.loading import ShuffledData, fixed_loader
from ebm_zoo.models import (
    AlternatingBackProp,
    ConditionalCoopNets,
    CoopFlow,
    CoopNets,
    CoopVAEBM,
    CycleCoopNets,
    GenerativeConvNet,
    LatentEBM,
    NormalizingFlow,
    SequenceCycleCoopNets,
)
from ebm_zoo.networks import (
    ConvEncoder,
    ConvEnergy,
    ConvGenerator,
    ConvGRUPredictor,
    CouplingSize,
    Dequantisation,
    FlowPlusPlus,
    GaussianOutput,
    LabelledEnergy,
    LabelledGenerator,
    LatentEnergy,
    PairedEnergy,
    RecurrentOutput,
    ResNetTranslator,
    UNetGenerator,
)
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Langevin, ShortRun, Uniform, WarmStart
from ebm_zoo.space import Classes, Space, TokenSpace

SHAPE = (1, 8, 8)


def images(n: int, seed: int = 0) -> Tensor:
    """Random bars in [-1, 1], **(n, 1, 8, 8)**."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.rand(n, 1, 8, 1, generator=draw) * 1.6 - 0.8
    return rows + 0.1 * (torch.rand(n, *SHAPE, generator=draw) * 2 - 1)


def labelled(n: int) -> tuple[Tensor, Tensor]:
    """Random grey images in [0, 1], **(n, 1, 28, 28)**, and labels of three classes, **(n,)**."""
    draw = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, 28, 28, generator=draw), torch.arange(n) % 3


def classed(n: int) -> tuple[Tensor, Tensor]:
    """Random bars and labels of three classes."""
    return images(n), torch.arange(n) % 3


def pairs(n: int) -> tuple[Tensor, Tensor]:
    """Random bars, and the same mirrored and inverted: what is asked."""
    return images(n), -images(n).flip(-1)


def energy(channels: int = 1) -> ConvEnergy:
    return ConvEnergy(channels, ((6, 3, 1, 1), (8, 4, 2, 1), (1, 4, 1, 0)))


def generator(latent_dim: int = 4) -> ConvGenerator:
    return ConvGenerator(latent_dim, ((8, 4, 1, 0), (1, 4, 2, 1)), groups=2)


def fresh_flow() -> FlowPlusPlus:
    """A flow whose normalisations have not begun."""
    size = CouplingSize(4, 1, 2, heads=2)
    return FlowPlusPlus(SHAPE, ((0, 1), (1, 0)), size, Dequantisation(SHAPE, 1, size, context=2, squeezes=1))


def flow() -> FlowPlusPlus:
    """A flow that has begun, and is no longer the identity."""
    network = fresh_flow()
    network.initialise(images(64))
    for name, parameter in network.named_parameters():
        if ".last." in name:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return network


def convnet(**arguments: Any) -> GenerativeConvNet:
    """A GenerativeConvNet of a thousand parameters; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "energy": energy(),
        "noise": Uniform(),
        "space": Space(SHAPE),
        "chains": ShortRun(),
        "sampler": Langevin(steps=5, step_size=0.5, noise_scale=0.2, clamp=(-1.0, 1.0)),
        "optim": {"energy": Adam(lr=1e-2)},
    }
    return GenerativeConvNet(**{**defaults, **arguments})


REVISION = Langevin(steps=3, step_size=0.5, noise_scale=0.2, clamp=(-1.0, 1.0))
COOPERATION = {"energy": Adam(lr=1e-2), "generator": Adam(lr=1e-2)}


def coopnets(**arguments: Any) -> CoopNets:
    """CoopNets of two thousand parameters; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "energy": energy(),
        "generator": generator(),
        "space": Space(SHAPE),
        "sampler": REVISION,
        "optim": COOPERATION,
        "chains": ShortRun(),
    }
    return CoopNets(**{**defaults, **arguments})


def normalizing_flow(**arguments: Any) -> NormalizingFlow:
    """A flow alone; arguments replace its defaults."""
    return NormalizingFlow(**{"flow": flow(), "space": Space(SHAPE), "optim": {"flow": Adam(lr=1e-2)}, **arguments})


def coop_flow(**arguments: Any) -> CoopFlow:
    """CoopFlow; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "energy": energy(),
        "generator": flow(),
        "space": Space(SHAPE),
        "sampler": Langevin(steps=3, step_size=0.5, noise_scale=0.0, clamp=(-1.0, 1.0), max_move=0.1),
        "optim": COOPERATION,
        "chains": ShortRun(),
    }
    return CoopFlow(**{**defaults, **arguments})


def coop_vaebm(**arguments: Any) -> CoopVAEBM:
    """CoopVAEBM of two thousand parameters; arguments replace its defaults."""
    encoder = ConvEncoder(1, ((6, 4, 2, 1), (8, 4, 1, 0)))
    optim = {**COOPERATION, "encoder": Adam(lr=1e-2)}
    return CoopVAEBM(energy(), generator(), encoder, Space(SHAPE), REVISION, optim, ShortRun(), **arguments)


def labelled_coopnets(**arguments: Any) -> ConditionalCoopNets:
    """Conditional CoopNets of three classes; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "energy": LabelledEnergy(energy(2), classes=3, size=8),
        "generator": LabelledGenerator(generator(7), classes=3),
        "space": Space(SHAPE),
        "condition": Classes(3),
        "sampler": REVISION,
        "optim": COOPERATION,
    }
    return ConditionalCoopNets(**{**defaults, **arguments})


def translating_coopnets(**arguments: Any) -> ConditionalCoopNets:
    """Conditional CoopNets from images to images; arguments replace its defaults."""
    return labelled_coopnets(
        **{
            "energy": PairedEnergy(energy(2)),
            "generator": UNetGenerator((1, 1), (4, 4), latent_dim=2, groups=2),
            "condition": Space(SHAPE),
            "supervision": 0.2,
            **arguments,
        }
    )


TWO_DOMAINS = dict.fromkeys(("energy_a", "energy_b", "translator_ab", "translator_ba"), Adam(lr=1e-2))


def domains(n: int) -> tuple[Tensor, Tensor]:
    """Random bars of two domains, lying and standing, of which none belong together."""
    return images(n), images(n, seed=1).transpose(2, 3)


def translator(**arguments: Any) -> ResNetTranslator:
    return ResNetTranslator(1, **{"width": 2, "blocks": 1, **arguments})


def cycle_coopnets(**arguments: Any) -> CycleCoopNets:
    """CycleCoopNets of two thousand parameters; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "energy_a": energy(),
        "energy_b": energy(),
        "translator_ab": translator(),
        "translator_ba": translator(),
        "space": Space(SHAPE),
        "sampler": REVISION,
        "optim": TWO_DOMAINS,
    }
    return CycleCoopNets(**{**defaults, **arguments})


CLIP = (4, *SHAPE)


def clips(n: int) -> tuple[Tensor, Tensor]:
    """Clips of four frames in either domain, in which bars move by a pixel per frame."""
    a, b = domains(n)
    return tuple(torch.stack([x.roll(k, axis) for k in range(4)], 1) for x, axis in ((a, -2), (b, -1)))


def sequence_cycle(**arguments: Any) -> SequenceCycleCoopNets:
    """SequenceCycleCoopNets of four thousand parameters; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "energy_a": energy(),
        "energy_b": energy(),
        "translator_ab": translator(),
        "translator_ba": translator(),
        "predictor_a": ConvGRUPredictor(1, width=2, kernel=3),
        "predictor_b": ConvGRUPredictor(1, width=2, kernel=3),
        "space": Space(CLIP),
        "sampler": REVISION,
        "optim": {**TWO_DOMAINS, "predictor_a": Adam(lr=1e-2), "predictor_b": Adam(lr=1e-2)},
    }
    return SequenceCycleCoopNets(**{**defaults, **arguments})


def latent_ebm(**arguments: Any) -> LatentEBM:
    """LatentEBM of a thousand parameters; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "prior": LatentEnergy(4, (8,)),
        "generator": GaussianOutput(generator()),
        "space": Space(SHAPE),
        "prior_langevin": Langevin(steps=3, step_size=0.4),
        "posterior_langevin": Langevin(steps=4, step_size=0.1),
        "optim": {"prior": Adam(lr=1e-2), "generator": Adam(lr=1e-2)},
    }
    return LatentEBM(**{**defaults, **arguments})


TOKENS = TokenSpace(6, ("a", "b", "c"))


def sentences(n: int) -> Tensor:
    """Random sentences of one to five tokens, the first tokens of which are the likeliest, **(n, 6)**."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 6, (n, 1), generator=draw)
    tokens = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 6 * n, True, generator=draw).view(n, 6) + 1
    return tokens * (torch.arange(6) < lengths)


def sentence_ebm(**arguments: Any) -> LatentEBM:
    """LatentEBM of sentences; arguments replace its defaults."""
    decoder = RecurrentOutput(TOKENS, 4, embedding=3, hidden=8)
    return latent_ebm(**{"generator": decoder, "space": TOKENS, **arguments})


def abp(**arguments: Any) -> AlternatingBackProp:
    """AlternatingBackProp with chains for 64 data; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "generator": GaussianOutput(generator()),
        "space": Space(SHAPE),
        "posterior_langevin": Langevin(steps=4, step_size=0.1),
        "optim": {"generator": Adam(lr=1e-2)},
        "chains": WarmStart(64),
    }
    return AlternatingBackProp(**{**defaults, **arguments})


def indexed(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random bars with holes, which entries are known, and the index of each."""
    known = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(2)) < 0.7
    return images(n) * known, known, torch.arange(n)


def collate(items: list[Any]) -> Any:
    """A batch as the zoo's data modules give it: data, or a tuple of data and labels."""
    batch = default_collate(items)
    return tuple(batch) if isinstance(batch, list) else batch


class TinyData(LightningDataModule):
    """A few data, or data and labels, for every loop; training is shuffled."""

    def __init__(self, data: Tensor | tuple[Tensor, ...], batch_size: int = 4, shuffle: bool = True) -> None:
        super().__init__()
        self.data = TensorDataset(*data) if isinstance(data, tuple) else data
        self.batch_size, self.shuffle = batch_size, shuffle

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=self.batch_size, shuffle=self.shuffle, collate_fn=collate)

    def val_dataloader(self) -> DataLoader:
        first = Subset(self.data, range(self.batch_size))
        return DataLoader(first, batch_size=self.batch_size, collate_fn=collate)

    test_dataloader = predict_dataloader = val_dataloader


class Rows(Dataset):
    """Data, or tuples of data, fetched a batch at a time; every second batch is mirrored, as the generator says."""

    def __init__(self, data: Tensor | tuple[Tensor, ...]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data if isinstance(self.data, Tensor) else self.data[0])

    def __getitems__(self, indices: list[int]) -> Any:
        parts = self.data if isinstance(self.data, tuple) else (self.data,)
        # Pictures alone: of sentences and labels the order is no picture's.
        turned = torch.rand(()) < 0.5 and parts[0].dim() > 3
        rows = tuple(part[indices].flip(-1) if turned and part.dim() > 3 else part[indices] for part in parts)
        return rows if isinstance(self.data, tuple) else rows[0]


class ShuffledTinyData(ShuffledData):
    """A few data in the order of the zoo's own data modules, with random flips."""

    def __init__(self, data: Tensor | tuple[Tensor, ...], batch_size: int = 4) -> None:
        super().__init__()
        self.rows, self.batch_size = Rows(data), batch_size

    def train_dataloader(self) -> DataLoader:
        return self.shuffled(self.rows, self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return fixed_loader(Rows(self.rows.data), self.batch_size)


def trainer(**settings: Any) -> Trainer:
    """A quiet Trainer that writes nothing; settings replace its defaults."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    return Trainer(**{**quiet, **settings})


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Places where two nested containers of tensors and plain data are not the same to the bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return [f"{where}: {first.keys() ^ second.keys()}"]
        return [place for key in first for place in differences(first[key], second[key], f"{where}.{key}")]
    if isinstance(first, (list, tuple)) and len(first) == len(second):
        return [p for k, pair in enumerate(zip(first, second, strict=True)) for p in differences(*pair, f"{where}.{k}")]
    same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if same else [where]
