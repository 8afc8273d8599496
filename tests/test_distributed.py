"""Two processes over gloo: equal weights, own noise and chains, exact resume, and the same numbers as one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import fit, noiseless, replayed
from tiny import TinyData, images

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two ranks have trained."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    ranks = [
        subprocess.Popen(
            [sys.executable, str(HERE / "ranks.py"), str(folder)],
            env={**os.environ, **launch, "LOCAL_RANK": str(rank), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=300)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
            rank.stdout.close()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    """What each rank recorded."""
    both = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert [rank["whole"]["ends"][0]["rank"] for rank in both] == [0, 1]
    return both


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("epoch", [0, 1])
def test_ranks_have_equal_weights(ranks, epoch):
    first, second = (rank["whole"]["ends"][epoch]["weights"] for rank in ranks)
    assert equal(first, second)
    assert not equal(first, ranks[0]["whole"]["starts"][epoch]["weights"])


def test_a_flow_begins_on_all_ranks_alike(ranks):
    first, second = (rank["flowing"]["starts"][0]["weights"] for rank in ranks)
    assert first["generator.initialised"]
    assert first["generator.checkerboard.0.norms.0.mean"].any(), "the normalisations have not begun"
    assert equal(first, second)
    assert equal(*(rank["flowing"]["ends"][-1]["weights"] for rank in ranks))


def test_ranks_have_their_own_noise_and_chains(ranks):
    first, second = (rank["whole"] for rank in ranks)
    assert not torch.equal(first["starts"][0]["rng"], second["starts"][0]["rng"])
    for epoch in range(2):
        memories = [rank["ends"][epoch]["chains"]["memory"] for rank in (first, second)]
        assert not torch.isclose(*memories).all((1, 2, 3)).any(), "a chain of one rank is a copy of the other's"


def test_resume_gives_each_rank_its_own_chains_and_noise_back(ranks):
    for rank in ranks:
        saved, taken_up = rank["whole"]["ends"][0], rank["resumed"]["starts"][0]
        assert equal(saved["chains"], taken_up["chains"]) and equal(saved["weights"], taken_up["weights"])
        assert len(rank["resumed"]["ends"]) == 1
        whole, resumed = rank["whole"]["ends"][1], rank["resumed"]["ends"][0]
        assert equal(whole["weights"], resumed["weights"])
        assert equal(whole["chains"], resumed["chains"])
        assert torch.equal(whole["rng"], resumed["rng"])


def test_resume_inside_an_epoch_is_exact_on_each_rank(ranks):
    for rank in ranks:
        uncut, cut = rank["uncut"]["ends"][-1], rank["cut"]["ends"][-1]
        assert len(rank["cut"]["ends"]) == 1
        assert equal(uncut["weights"], cut["weights"]) and equal(uncut["chains"], cut["chains"])
        assert torch.equal(uncut["rng"], cut["rng"])
    assert not equal(ranks[0]["uncut"]["ends"][-1]["chains"], ranks[1]["uncut"]["ends"][-1]["chains"])


def test_two_ranks_are_one_process_with_twice_the_batch(ranks):
    torch.manual_seed(2)
    alone = fit(noiseless(), TinyData(images(16), batch_size=8, shuffle=False))
    for epoch in range(2):
        expected = alone["ends"][epoch]["weights"]
        for rank in ranks:
            torch.testing.assert_close(rank["noiseless"]["ends"][epoch]["weights"], expected, rtol=1e-5, atol=1e-5)
    assert not equal(alone["starts"][0]["weights"], alone["ends"][1]["weights"])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_one_process_continues_from_two_with_new_chains(folder, ranks):
    model = replayed()
    alone = fit(model, TinyData(images(16)), ckpt_path=folder / "whole" / "epoch=0.ckpt")
    assert equal(alone["starts"][0]["weights"], ranks[0]["whole"]["ends"][0]["weights"])
    assert alone["starts"][0]["chains"] == {} and alone["ends"][-1]["chains"]["memory"].shape[0] == 12
