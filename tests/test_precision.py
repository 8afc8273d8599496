"""Learning in bfloat16: every network moves, and is taught what float32 teaches."""

import pytest
import torch
from contract import CASES, Case
from tiny import TinyData, trainer

cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())

UNSTEADY = ("translator", "predictor")
"""Networks with instance norm of 2 × 2 pixels: weights changed by a thousandth turn these gradients by a half."""


def gradients(case: Case, dtype: torch.dtype) -> dict[str, list[torch.Tensor | None]]:
    """What the first iteration teaches, by network, in a loop of one's own, for which autocast caches weights."""
    torch.manual_seed(0)
    model = case.model()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = torch.stack(list(model.losses(case.batch(8)).values())).sum()
    loss.backward()
    return {n: [p.grad for p in m.parameters() if p.requires_grad] for n, m in model.networks().items()}


@cases
def test_autocast_teaches_what_float32_does(case):
    full, mixed = gradients(case, torch.float32), gradients(case, torch.bfloat16)
    for name, expected in full.items():
        found = mixed[name]
        assert all(each is not None and torch.isfinite(each).all() for each in found), f"{name} learns in part"
        if not name.startswith(UNSTEADY):
            a, b = (torch.cat([each.flatten() for each in both]) for both in (expected, found))
            # One part in a hundred, but for the classifier, whose batch norm of eight images makes ten of it.
            assert (a - b).norm() < 0.2 * a.norm(), name


@pytest.mark.filterwarnings("ignore:You passed in a .val_dataloader. but")
@cases
def test_every_network_moves_under_a_trainer_in_mixed_precision(case):
    model = case.model()
    before = {name: value.clone() for name, value in model.named_parameters()}
    run = trainer(precision="bf16-mixed", max_steps=2, limit_val_batches=0)
    run.fit(model, datamodule=TinyData(case.batch(8)))
    after = dict(model.named_parameters())
    assert all(torch.isfinite(value).all() for value in after.values())
    for network in model.networks():
        # A layer that autocast casts: biases and norms would move beside weights that do not learn.
        weights = [n for n, p in after.items() if n.startswith(f"{network}.") and p.dim() > 1 and p.requires_grad]
        assert weights and not any(torch.equal(before[name], after[name]) for name in weights), network
