"""What every loss of the registry promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from loss_inputs import whole_loss

from minivess.config.schema import LossConfig
from minivess.errors import MinivessError
from minivess.losses import LOSSES, build_loss

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss

SHAPE = (12, 12, 8)
CONFIG = LossConfig(skeleton_iterations=3)
# Terms that see a part of the voxels only, and are added to another loss.
ON_SKELETONS = {"cbdice", "cldice", "centerline_ce", "skeleton_recall"}
ON_SURFACES = {"boundary", "hausdorff_dt"}
PARTIAL = ON_SKELETONS | ON_SURFACES
# The signed distance inside a vessel is negative.
SIGNED = {"boundary", "generalized_dice_boundary"}
# Where the paper's definition has nothing to say, whatever is predicted: labels without a skeleton
# or a surface, ratios whose numerator is 0.
NO_GRADIENT = {
    ("boundary", "empty"),
    ("boundary", "full"),
    ("cldice", "full"),
    ("dice", "empty"),
    ("skeleton_recall", "empty"),
    ("tversky", "empty"),
}
# Where some wrong predictions have no skeleton or surface either, and look right.
BLIND = NO_GRADIENT | {("hausdorff_dt", "full"), ("cbdice", "full"), ("centerline_ce", "full")}


@pytest.fixture(params=sorted(LOSSES))
def loss_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loss(loss_name: str) -> Loss:
    return whole_loss(loss_name, CONFIG)


def labels() -> dict[str, torch.Tensor]:
    """Two samples each."""
    import torch

    tube = np.zeros((2, 1, *SHAPE), dtype=np.uint8)
    tube[0, 0, 3:8, 4:9, :] = 1  # of odd width: scikit-image leaves no skeleton of the others
    tube[1, 0, :, 6, 4] = 1
    noise = np.random.default_rng(0).random((2, 1, *SHAPE)) < 0.5
    mixed = np.stack([np.zeros_like(tube[0]), np.ones_like(tube[0])])
    arrays = {
        "tube": tube,
        "empty": np.zeros_like(tube),
        "full": np.ones_like(tube),
        "mixed": mixed,
        "noise": noise.astype(np.uint8),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def predicting(label: torch.Tensor, strength: float) -> torch.Tensor:
    """Logits that predict a label; the wrong way round where the strength is negative."""
    import torch

    sign = 2.0 * label.float() - 1.0
    return torch.cat([-strength * sign, strength * sign], dim=1)


def predictions() -> dict[str, torch.Tensor]:
    import torch

    rng = np.random.default_rng(1)
    noise = torch.from_numpy(rng.normal(0, 2, (2, 2, *SHAPE)).astype(np.float32))
    flat = labels()
    return {
        "noise": noise,
        "zeros": torch.zeros_like(noise),
        "nothing": predicting(flat["empty"], 50.0),
        "everything": predicting(flat["full"], 50.0),
        "huge": 1e4 * noise,
        "tube": predicting(flat["tube"], 3.0),
    }


def gradient(
    loss: Loss, logits: torch.Tensor, label: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, label)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("label", ["tube", "empty", "full", "mixed", "noise"])
@pytest.mark.parametrize("logits", ["noise", "zeros", "nothing", "everything", "huge", "tube"])
def test_value_and_gradient_are_finite(loss_name: str, loss: Loss, logits: str, label: str) -> None:
    import torch

    value, grad = gradient(loss, predictions()[logits], labels()[label])
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert value >= -1e-6 or loss_name in SIGNED
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("label", ["tube", "empty", "full", "noise"])
def test_a_prediction_that_can_be_better_has_a_gradient(
    loss_name: str, loss: Loss, label: str
) -> None:
    # cbDice alone is blind where nothing is predicted, hence a prediction with some vessel.
    _, grad = gradient(loss, predictions()["noise"], labels()[label])
    if (loss_name, label) in NO_GRADIENT:
        assert grad.abs().sum() < 1e-6
        return
    assert grad.abs().sum() > 1e-4
    # Softmax: what one channel gains the other loses.
    assert grad.sum(dim=1).abs().max() < 1e-6


@pytest.mark.parametrize("name", sorted(set(LOSSES) - PARTIAL))
@pytest.mark.parametrize("label", ["tube", "full"])
def test_training_can_start_from_a_network_that_predicts_nothing(name: str, label: str) -> None:
    target = labels()[label]
    logits = predicting(target * 0, 3.0)
    _, grad = gradient(whole_loss(name, CONFIG), logits, target)
    vessel = target[:, 0] > 0
    assert (grad[:, 1][vessel] < 0).all(), "more of it where vessel is"


def test_a_step_along_the_gradient_does_what_the_gradient_says(loss_name: str) -> None:
    import torch

    # With one bin no voxel changes its bin.
    loss = whole_loss(loss_name, CONFIG.model_copy(update={"ace_bins": 1}))
    # Far enough from probability 0.5 that masks and hard skeletons stay as they are.
    rng = np.random.default_rng(2)
    sign = np.where(rng.random((1, 1, *SHAPE)) < 0.85, 1, -1) * (
        2.0 * labels()["tube"][:1].numpy() - 1
    )
    foreground = torch.from_numpy((sign * rng.uniform(1.0, 2.0, sign.shape)).astype(np.float32))
    logits = torch.cat([-foreground / 2, foreground / 2], dim=1)
    label = labels()["tube"][:1]
    _, grad = gradient(loss, logits, label)
    direction = grad / grad.norm()
    step = 0.005
    ahead = loss(logits + step * direction, label).item()
    behind = loss(logits - step * direction, label).item()
    assert (ahead - behind) / (2 * step) == pytest.approx(grad.norm().item(), rel=0.02)


def test_autocast_does_not_change_the_value(loss: Loss) -> None:
    import torch

    logits, label = predictions()["noise"], labels()["tube"]
    expected = gradient(loss, logits, label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradient(loss, logits, label)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_bfloat16_logits_are_computed_in_float32(loss: Loss) -> None:
    import torch

    logits, label = predictions()["noise"].bfloat16(), labels()["tube"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, grad = gradient(loss, logits, label)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(logits.float(), label))
    assert grad.dtype == torch.bfloat16


@pytest.mark.parametrize("label", ["tube", "full", "noise"])
def test_better_predictions_have_lower_losses(loss_name: str, label: str) -> None:
    import torch

    loss = whole_loss(loss_name, CONFIG)
    target = labels()[label]
    rng = torch.Generator().manual_seed(0)
    flipped = torch.rand(target.shape, generator=rng) < 0.2
    noisy = torch.where(flipped, 1 - target, target)
    perfect = loss(predicting(target, 20.0), target).item()
    worse = loss(predicting(noisy, 5.0), target).item()
    wrong = loss(predicting(target, -5.0), target).item()
    if (loss_name, label) in BLIND:
        assert perfect <= worse
        return
    if loss_name not in SIGNED:
        assert perfect == pytest.approx(0.0, abs=2e-5)
    assert perfect < worse
    # A noisy mask has more skeleton to be wrong on than a mask that is wrong everywhere.
    if not loss_name.endswith("centerline_ce"):
        assert worse < wrong


def test_an_empty_label_is_predicted_perfectly_by_nothing(loss_name: str, loss: Loss) -> None:
    empty = labels()["empty"]
    perfect = loss(predicting(empty, 20.0), empty).item()
    assert perfect == pytest.approx(0.0, abs=1e-3)
    if loss_name not in ("boundary", "skeleton_recall"):
        assert perfect < loss(predictions()["noise"], empty).item()


def test_equal_input_gives_equal_bytes_and_stays_as_it_is(loss: Loss) -> None:
    import torch

    logits, label = predictions()["noise"], labels()["tube"]
    kept = logits.clone(), label.clone()
    one, two = gradient(loss, logits, label), gradient(loss, logits, label)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert torch.equal(logits, kept[0])
    assert torch.equal(label, kept[1])


def test_the_type_of_the_label_does_not_matter(loss: Loss) -> None:
    import torch

    logits, label = predictions()["noise"], labels()["tube"]
    values = [loss(logits, label.to(dtype)) for dtype in (torch.uint8, torch.float32, torch.int64)]
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(MinivessError) as caught:
        build_loss("cbdice_cldise", CONFIG)
    assert caught.value.code == "MV-CONFIG-003"
    assert caught.value.fix == "did you mean cbdice_cldice?"


def test_the_default_loss_is_in_the_registry() -> None:
    from minivess.config.schema import Experiment

    assert Experiment(name="demo").losses[0] in LOSSES


def test_needs_are_those_of_losses_that_are_there_and_of_their_parameters() -> None:
    import inspect

    from minivess.losses import NEEDS, needs_of
    from minivess.losses.needs import KNOWN

    assert set(NEEDS) <= set(LOSSES)
    for name in LOSSES:
        parameters = inspect.signature(build_loss(name, CONFIG)).parameters
        assert set(parameters) & set(KNOWN) == needs_of(name), name
