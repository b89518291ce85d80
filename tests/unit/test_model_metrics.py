"""Metrics: sums over the samples, counted by hand."""

import pytest
import torch
from torch import nn

from nnlo.errors import OptionsError
from nnlo.model.losses import get_loss
from nnlo.model.metrics import METRICS, get_metric, get_metrics

torch.set_num_threads(1)

LOGITS = torch.tensor([[0.0, 2.0, 1.0], [3.0, -1.0, 0.0], [0.5, 0.25, 0.0], [-1.0, -2.0, -0.5]])
CLASSES = torch.tensor([1, 0, 2, 2])  # right but for the third
ONEHOT = torch.eye(3)[CLASSES]


@pytest.mark.parametrize(
    "labels",
    [CLASSES, CLASSES[:, None], CLASSES.float(), CLASSES.to(torch.uint8), ONEHOT, ONEHOT.long(), ONEHOT.bool()],
)
def test_accuracy_counts_the_right_ones(labels):
    assert get_metric("acc")(LOGITS, labels) == 3


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("labels", [[1, 0, 0, 1], [1, -1, -1, 1]])
def test_accuracy_of_a_single_logit(shape, labels):
    output = torch.tensor([0.2, -0.3, 4.0, 0.7]).reshape(shape)
    assert get_metric("acc")(output, torch.tensor(labels)) == 3
    assert get_metric("acc")(output, torch.tensor(labels)[:, None].float()) == 3


def test_threshold_is_that_of_the_loss():
    probabilities, labels = torch.tensor([0.2, 0.8]), torch.tensor([0, 1])
    (by_probability,) = get_metrics(["acc"], get_loss("BCELoss"))
    (by_logit,) = get_metrics(["acc"], get_loss("BCEWithLogitsLoss"))
    assert by_probability(probabilities, labels) == 2
    assert by_logit(probabilities, labels) == 1


def test_accuracy_of_pixels_is_a_share_of_each_sample():
    classes = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]])
    logits = torch.eye(2)[torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1]])].permute(0, 2, 1)
    assert get_metric("acc")(logits, classes) == 0.75 + 0.5


def test_binary_accuracy_of_several_labels():
    logits = torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    labels = torch.tensor([[1, 0], [1, 0], [1, 1]])
    assert get_metric("binary_acc")(logits, labels) == 1.0 + 0.5 + 0.0


@pytest.mark.parametrize("labels", [torch.tensor([5, 0, 3]), torch.eye(7)[torch.tensor([5, 0, 3])]])
def test_top5(labels):
    logits = torch.tensor([[7.0, 6, 5, 4, 3, 2, 1], [7, 6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6, 7]])
    assert get_metric("top5")(logits, labels) == 2


def test_top5_of_fewer_classes_has_all_right():
    assert get_metric("top5")(LOGITS, CLASSES) == 4


def test_errors_sum_each_samples_mean():
    output, target = torch.tensor([[1.0, 3.0], [0.0, -4.0]]), torch.tensor([[0, 0], [0, 0]])
    assert get_metric("mae")(output, target) == 2.0 + 2.0
    assert get_metric("mse")(output, target) == 5.0 + 8.0
    assert get_metric("mse")(torch.tensor([[2.0], [3.0]]), torch.tensor([0.0, 0.0])) == 13.0


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_adds_up_over_batches(name):
    """On dyadic numbers: exactly."""
    metric = get_metric(name)
    output, labels = (nn.functional.pad(tensor, (0, 1)) for tensor in (LOGITS, ONEHOT))
    assert metric(output[:1], labels[:1]) + metric(output[1:], labels[1:]) == metric(output, labels)


def test_of_several_outputs_the_first_counts():
    assert get_metric("acc")([LOGITS, torch.zeros(4)], [CLASSES, torch.ones(4)]) == 3


def test_names_are_known_by_their_aliases_and_kept_once():
    assert get_metric("accuracy").name == "acc"
    names = [metric.name for metric in get_metrics(["top5", "accuracy", "acc"], get_loss("mse"))]
    assert names == ["top5", "acc"]
    known = "choose one of acc, binary_acc, mae, mse, top5"
    with pytest.raises(OptionsError, match=rf"^--metrics: unknown metric 'speed': {known}$"):
        get_metric("speed")
    with pytest.raises(OptionsError, match=rf"'Accurracy': {known} \(did you mean accuracy\?\)$"):
        get_metric("Accurracy")


@pytest.mark.parametrize(("name", "shape"), [("acc", (4, 2)), ("acc", (3,)), ("top5", (4, 2)), ("mae", (4,))])
def test_labels_that_do_not_fit_are_refused(name, shape):
    with pytest.raises(OptionsError, match=r"model output \(4, 3\) does not fit labels"):
        get_metric(name)(LOGITS, torch.zeros(shape))
