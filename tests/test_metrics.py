"""The metrics against closed forms, small cases counted by hand, and torch-fidelity."""

import io
import math
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from ebm_zoo.errors import ConfigError, DataError, WeightsError
from ebm_zoo.metrics import (
    GenerationMetrics,
    GreyClassifier,
    Inception,
    distances,
    frechet_distance,
    kernel_distance,
    nearest_distance,
    precision_recall_density_coverage,
)


def gaussian(seed: int, n: int, d: int, shift: float = 0.0) -> Tensor:
    """Correlated Gaussian features: a fixed random mixing of white noise."""
    noise = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mixing = torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(99))
    return noise @ mixing / d**0.5 + shift


def with_moments(seed: int, mean: Tensor, covariance: Tensor) -> Tensor:
    """Samples whose sample mean and covariance are exactly the given ones."""
    white = gaussian(seed, 50, len(mean))
    white = white - white.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(white.T.cov()), white.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def fidelity_fid(real: Tensor, generated: Tensor) -> float:
    statistics = [fid_features_to_statistics(features) for features in (generated, real)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def fidelity_kid(real: Tensor, generated: Tensor, subsets: int, size: int) -> float:
    figures = kid_features_to_metric(generated, real, kid_subsets=subsets, kid_subset_size=size, verbose=False)
    return figures["kernel_inception_distance_mean"]


# Fréchet distance


def test_frechet_of_known_gaussians() -> None:
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.8], [-0.8, 3.0]], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    # The trace of a 2 x 2 matrix root: sqrt(tr M + 2 sqrt(det M)); a and b do not commute.
    product = a @ b
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = 5 + a.trace() + b.trace() - 2 * root
    distance = frechet_distance(with_moments(0, 0 * mean, a), with_moments(1, mean, b))
    assert distance.dtype == torch.float64
    torch.testing.assert_close(distance, expected)
    torch.testing.assert_close(
        frechet_distance(with_moments(0, 0 * mean, a), with_moments(1, mean, a)), mean.square().sum()
    )


@pytest.mark.parametrize("n, m", [(300, 200), (10, 12)])
def test_frechet_equals_torch_fidelity(n: int, m: int) -> None:
    real, generated = gaussian(0, n, 24), gaussian(1, m, 24, shift=0.3)
    # With fewer samples than dimensions torch-fidelity's eigenvalues are off by the root of the rounding.
    assert frechet_distance(real, generated).item() == pytest.approx(fidelity_fid(real, generated), rel=1e-6)


def test_frechet_of_equal_sets_is_zero_and_of_shifted_sets_the_shift() -> None:
    few = gaussian(0, 5, 64).float()
    assert frechet_distance(few, few.clone()).item() == pytest.approx(0, abs=1e-10)
    assert frechet_distance(few, few + 2).item() == pytest.approx(4 * 64, rel=1e-5)


def test_frechet_of_a_collapsed_generator_is_finite() -> None:
    real = gaussian(0, 30, 8)
    collapsed = torch.ones(10, 8)
    expected = (real.mean(0) - 1).square().sum() + real.T.cov().trace()
    torch.testing.assert_close(frechet_distance(real, collapsed), expected)


# Kernel distance


def test_kernel_distance_of_one_whole_subset_equals_torch_fidelity() -> None:
    real, generated = gaussian(0, 80, 16), gaussian(1, 80, 16, shift=0.2)
    ours = kernel_distance(real, generated, subsets=1, subset_size=80)
    assert ours.item() == pytest.approx(fidelity_kid(real, generated, 1, 80), rel=1e-9)
    # Sets smaller than the subset are taken whole.
    torch.testing.assert_close(kernel_distance(real, generated, subsets=1), ours)


def test_kernel_distance_counted_by_hand() -> None:
    real, generated = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    # k(0, 1) = 1 within real, k(0, 2) = 1 within generated, and 1, 1, 1, 27 across.
    assert kernel_distance(real, generated, subsets=1).item() == pytest.approx(1 + 1 - 2 * 30 / 4)


def test_kernel_distance_over_subsets_agrees_with_torch_fidelity() -> None:
    real, generated = gaussian(0, 400, 8), gaussian(1, 300, 8, shift=0.5)
    ours = kernel_distance(real, generated, subsets=100, subset_size=150, generator=torch.Generator().manual_seed(0))
    assert ours.item() == pytest.approx(fidelity_kid(real, generated, 100, 150), rel=0.03)


def test_kernel_distance_follows_its_generator() -> None:
    real, generated = gaussian(0, 60, 4), gaussian(1, 60, 4)

    def distance(seed: int) -> float:
        stream = torch.Generator().manual_seed(seed)
        return kernel_distance(real, generated, subsets=3, subset_size=20, generator=stream).item()

    assert distance(0) == distance(0)
    assert distance(0) != distance(1)


@pytest.mark.parametrize("wrong", [{"subsets": 0}, {"subset_size": 1}])
def test_kernel_distance_refuses_empty_subsets(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="nothing to compare: take at least 1 and 2"):
        kernel_distance(gaussian(0, 5, 2), gaussian(1, 5, 2), **wrong)


# Precision, recall, density, coverage


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall_equal_torch_fidelity(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_CHUNK", 32)
    real, generated = gaussian(0, 150, 6), 0.8 * gaussian(1, 90, 6, shift=0.7)
    ours = precision_recall_density_coverage(real, generated, k)
    theirs = prc_features_to_metric(generated, real, prc_neighborhood=k, verbose=False)
    assert 0 < ours["recall"] < ours["precision"] < 1
    assert ours["precision"] == pytest.approx(theirs["precision"])
    assert ours["recall"] == pytest.approx(theirs["recall"])


def test_balls_counted_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    generated = torch.tensor([[0.5], [10.0]])
    # Real balls have radius 1: two of them hold 0.5, none holds 10. Generated balls have radius 9.5.
    assert precision_recall_density_coverage(real, generated, k=1) == {
        "precision": 0.5,
        "recall": 1.0,
        "density": 1.0,
        "coverage": 0.5,
    }


def test_balls_of_equal_and_of_distant_sets() -> None:
    # Whole numbers are exact in double precision, so that ties with a ball's surface are ties.
    real = torch.randint(0, 1000, (100, 8), generator=torch.Generator().manual_seed(0)).double()
    same = precision_recall_density_coverage(real, real.clone())
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    assert same["density"] == pytest.approx(6 / 5)  # each sample's own ball, and k others on average
    assert set(precision_recall_density_coverage(real, real + 1e5).values()) == {0.0}


@pytest.mark.parametrize("k", [0, 10])
def test_balls_need_more_samples_than_neighbours(k: int) -> None:
    with pytest.raises(DataError, match=f"k={k} neighbours.*20 real and 10 generated"):
        precision_recall_density_coverage(gaussian(0, 20, 3), gaussian(1, 10, 3), k)


# What every distance refuses


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, precision_recall_density_coverage])
def test_distances_refuse_unusable_features(distance) -> None:
    good = gaussian(0, 20, 3)
    broken = good.clone()
    broken[7, 1] = torch.nan
    for pair in ((broken, good), (good, broken / 0)):
        with pytest.raises(DataError, match="holds NaN or infinite values"):
            distance(*pair)
    with pytest.raises(DataError, match="There are 1 generated samples: give at least 2"):
        distance(good, good[:1])
    with pytest.raises(DataError, match=r"Features \(20, 3\) \(real\) and \(20, 2\)"):
        distance(good, good[:, :2])


# Nearest distance


def test_nearest_distance_equals_the_full_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_CHUNK", 7)
    x, reference = gaussian(0, 20, 12).reshape(20, 1, 3, 4), gaussian(1, 50, 12).reshape(50, 3, 4)
    expected = torch.cdist(x.flatten(1), reference.flatten(1)).min(1).values
    torch.testing.assert_close(nearest_distance(x, reference), expected)
    lines = torch.cdist(x[0, 0], reference[0, :1])[:, 0]
    torch.testing.assert_close(nearest_distance(x[0, 0], reference[:1, 0]), lines)


def test_nearest_distance_of_a_copy_is_exactly_zero() -> None:
    reference = 1000 + gaussian(0, 40, 100)
    assert nearest_distance(reference.flip(0), reference).tolist() == [0] * 40


def test_nearest_distance_refuses_what_it_cannot_compare() -> None:
    x = torch.zeros(3, 4)
    with pytest.raises(DataError, match=r"references \(3, 4\) and \(3, 5\)"):
        nearest_distance(x, torch.zeros(3, 5))
    with pytest.raises(DataError, match="no reference"):
        nearest_distance(x, x[:0])
    with pytest.raises(DataError, match="reference holds NaN"):
        nearest_distance(x, x / 0)


# Extractors


def test_grey_classifier_shapes_and_size() -> None:
    classifier = GreyClassifier(classes=7)
    images = torch.rand(3, 1, 28, 28)
    assert classifier.name == "grey_classifier"
    assert classifier(images).shape == (3, 128)
    convolutions = 9 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128)
    expected = convolutions + 2 * (32 + 32 + 64 + 64 + 128) + (128 + 1) * 7
    assert sum(weight.numel() for weight in classifier.parameters()) == expected
    assert GreyClassifier(width=4)(images).shape == (3, 16)


def test_grey_classifier_logits_are_its_head_on_its_features() -> None:
    classifier = GreyClassifier().eval()
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(classifier.logits(images), classifier.head(classifier(images)))


def test_grey_classifier_works_on_the_scale_from_minus_one_to_one() -> None:
    classifier = GreyClassifier()
    seen: list[Tensor] = []
    classifier.blocks.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    classifier(torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 28, 28))
    assert seen[0][:, 0, 0, 0].tolist() == [-1, 0, 1]


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 3, 28, 28)])
def test_grey_classifier_refuses_other_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"sees \(1, 28, 28\) images"):
        GreyClassifier().logits(torch.rand(shape))


@pytest.mark.parametrize("value", [-1.0, 1.01, math.nan])
def test_grey_classifier_refuses_another_range(value: float) -> None:
    images = torch.rand(2, 1, 28, 28)
    images[1, 0, 3, 4] = value
    with pytest.raises(DataError, match=r"out of \[0, 1\] or NaN"):
        GreyClassifier()(images)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of the published form, a plain dictionary without batch counters, with random values."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=nothing)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    state = network.state_dict()
    torch.save({key: state[key] for key in state if not key.endswith("num_batches_tracked")}, path)
    return path


def test_inception_equals_torch_fidelity(inception_file: Path) -> None:
    grey = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    inception = Inception(str(inception_file))
    theirs = FeatureExtractorInceptionV3("", ["2048"], feature_extractor_weights_path=str(inception_file))
    # Through [-1, 1] and back, where rounding leaves some levels a little too low.
    features = inception((2 * (grey / 255) - 1 + 1) / 2)
    assert inception.name == "inception-v3-compat"
    assert features.shape == (2, 2048)
    assert features.std(0).max() > 0
    torch.testing.assert_close(features, theirs(grey.expand(-1, 3, -1, -1))[0], rtol=0, atol=0)
    with pytest.raises(DataError, match="not 2 channels"):
        inception(torch.rand(1, 2, 8, 8))
    with pytest.raises(DataError, match=r"out of \[0, 1\]"):
        inception(-torch.rand(1, 3, 8, 8))


def test_inception_without_network_names_the_file_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    with pytest.raises(WeightsError, match="no route to host") as caught:
        Inception()
    assert URL_INCEPTION_V3 in str(caught.value)


class Intruder:
    """Pickles into a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_inception_refuses_files_that_are_no_weights(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    contents = {"code": Intruder(trace), "list": [1, 2], "other": {"weight": torch.zeros(3)}}
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not a weight file")
    for name in (*contents, "empty", "text", "missing"):
        with pytest.raises(WeightsError, match=f"loaded from .*{name}"):
            Inception(str(tmp_path / name))
    assert not trace.exists()


# The metric


class Pixels(nn.Module):
    """Normalised means of image blocks, with weights and statistics that a metric could spoil or leak."""

    name = "pixels"

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1))


def images(seed: int, shift: float) -> Tensor:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 0.5 + shift


def filled(features: nn.Module, real: Tensor, generated: Tensor) -> GenerationMetrics:
    metric = GenerationMetrics(features, k=3)
    for batch in real.split(16):
        metric.update(batch, real=True)
    for batch in generated.split(9):
        metric.update(batch, real=False)
    return metric


def test_metric_gathers_batches_and_repeats_its_figures() -> None:
    features = Pixels()
    real, generated = images(0, 0.0), images(1, 0.1)
    metric = filled(features, real, generated)
    figures = metric.compute()
    with torch.no_grad():
        pair = features(real), features(generated)
    expected = {
        "frechet_distance": frechet_distance(*pair).item(),
        "kernel_distance": kernel_distance(*pair, subsets=1).item(),  # 40 samples are one subset
        **precision_recall_density_coverage(*pair, k=3),
    }
    assert figures == pytest.approx(expected, rel=1e-4)
    assert all(type(figure) is float for figure in figures.values())
    assert figures["frechet_distance"] > 0.001
    torch.manual_seed(5)
    assert filled(features, real, generated).compute() == figures


def test_metric_leaves_its_extractor_alone() -> None:
    class Holder(nn.Module):
        def __init__(self, metric: GenerationMetrics) -> None:
            super().__init__()
            self.metric = metric

    features = Pixels().train()
    metric = filled(features, images(0, 0.0), images(1, 0.1))
    assert features.norm.num_batches_tracked == 0
    assert not any(state.requires_grad for state in metric.real_features)
    assert metric.features.name == "pixels"
    assert dict(Holder(metric).state_dict()) == {}
    assert list(metric.parameters()) == []


def test_metric_resets_and_names_the_missing_side() -> None:
    metric = filled(Pixels(), images(0, 0.0), images(1, 0.1))
    metric.reset()
    metric.update(images(2, 0.0), real=True)
    with pytest.raises(DataError, match="0 generated samples"):
        metric.compute()


def test_metric_joins_the_ranks() -> None:
    features = Pixels()
    real, generated = images(0, 0.0), images(1, 0.1)
    whole = filled(features, real, generated).compute()
    metric = filled(features, real[:20], generated[:20])
    other = filled(features, real[20:], generated[20:])
    answers = iter([torch.cat(other.real_features), torch.cat(other.generated_features)])
    metric.dist_sync_fn = lambda mine, group: [mine, next(answers)]
    metric.distributed_available_fn = lambda: True
    assert metric.compute() == pytest.approx(whole, rel=1e-4)
