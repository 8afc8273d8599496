"""What every test shares: checked shapes, fixed seeds, no network and no data of the machine."""

import os
import random
from pathlib import Path

import jaxtyping
from hub_server import ENVIRONMENT

# Read when huggingface_hub is imported: no test asks the Hub itself, or sends a token of the machine.
os.environ.update(ENVIRONMENT, HF_ENDPOINT="http://127.0.0.1:9")
# Before anything imports the package: every annotated function is checked against its jaxtyping shapes.
jaxtyping.install_import_hook("ebm_zoo", "typecheck.check")
# Read when wandb is imported.
os.environ["WANDB_MODE"] = "offline"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

# Tensors are tiny: a second thread brings nothing, and waits for its turn on a machine that does other work.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Each test starts from the same streams, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the public sets that may lie on the machine, but for the trainings marked slow."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("EBM_ZOO_DATA", str(tmp_path / "no_data"))
