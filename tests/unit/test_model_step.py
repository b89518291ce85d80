"""A batch's gradient, an evaluation and the check before them, against plain torch."""

import re

import pytest
import torch
from torch import nn

from nnlo.errors import DataError, OptionsError
from nnlo.model.losses import Loss, get_loss
from nnlo.model.metrics import get_metric, get_metrics
from nnlo.model.step import GradientStep, check_fit, evaluate

torch.set_num_threads(1)

CE = get_loss("categorical_crossentropy")
ACC = get_metrics(["acc"], CE)


class Several(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, a, b):
        return [a * self.scale, b + self.scale]


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(5)
    return torch.randn(8, 6, generator=rng), torch.randint(0, 3, (8,), generator=rng)


@pytest.fixture
def module():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))


def give_gradients(module):
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in module.parameters()]


def test_gradient_is_plain_torchs_and_adds_to_the_memory_that_is_there(module, batch):
    x, y = batch
    torch.manual_seed(1)
    nn.functional.cross_entropy(module(x), y).backward()
    expected = [parameter.grad.clone() for parameter in module.parameters()]
    memory = give_gradients(module)
    step = GradientStep(module, CE)
    for times in (1, 2):
        torch.manual_seed(1)
        step(x, y)
        for parameter, place, gradient in zip(module.parameters(), memory, expected, strict=True):
            assert parameter.grad is place
            assert torch.equal(place, times * gradient)


def test_sums_grow_by_loss_times_samples_and_by_the_metrics(module, batch):
    x, y = batch
    give_gradients(module)
    metrics = get_metrics(["acc", "top5"], CE)
    torch.manual_seed(1)
    with torch.no_grad():
        output = module(x)
    sums = torch.tensor([100.0, 10.0, 1.0], dtype=torch.float64)
    same = sums
    torch.manual_seed(1)
    GradientStep(module, CE, metrics)(x, y, sums)
    value = nn.functional.cross_entropy(output, y).item()
    right = int((output.argmax(1) == y).sum())
    assert sums is same
    assert sums.tolist() == [100.0 + value * 8, 10.0 + right, 9.0]
    assert not sums.requires_grad


def test_the_step_trains_what_was_left_in_eval_mode_and_respects_what_is_frozen(module, batch):
    give_gradients(module)
    module.eval()
    GradientStep(module, CE)(*batch)
    assert all(one.training for one in module.modules())
    module[1].eval()
    before = module[1].running_mean.clone()
    GradientStep(module, CE)(*batch)
    assert not module[1].training
    assert torch.equal(module[1].running_mean, before)


def test_several_inputs_and_outputs():
    module = Several()
    give_gradients(module)
    x = [torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])]
    y = [torch.zeros(2), torch.zeros(2)]
    sums = torch.zeros(2, dtype=torch.float64)
    loss = get_loss("mse")
    GradientStep(module, loss, [get_metric("mae")])(x, y, sums)
    # a: mean of (s a)^2 = 20, derivative 2 s mean(a^2) = 20; b: mean of (b + s)^2 = 12.5, derivative 2 mean(b + s) = 7
    assert module.scale.grad == 27.0
    assert sums.tolist() == [2 * 32.5, 8.0]
    assert evaluate(module, [(x, y)], loss, [get_metric("mae")]) == {"loss": 32.5, "mae": 4.0}
    check_fit(module, x, y, loss)


def test_evaluation_weighs_by_samples_exactly():
    """Dyadic data in unequal batches: the mean over all samples to the last bit."""
    x = torch.arange(7.0)[:, None] / 4
    y = torch.tensor([0.5, 0, 1, 0.25, 2, 0, 1])
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(2.0)
        module.bias.fill_(-0.5)
    errors = [(2 * a - 0.5) - b for a, b in zip(x[:, 0].tolist(), y.tolist(), strict=True)]
    batches = [(x[:4], y[:4]), (x[4:5], y[4:5]), (x[5:], y[5:])]
    found = evaluate(module, iter(batches), get_loss("mse"), [get_metric("mae")])
    assert found == {"loss": sum(e * e for e in errors) / 7, "mae": sum(map(abs, errors)) / 7}


def test_evaluation_is_in_eval_mode_and_leaves_no_trace(module, batch):
    x, y = batch
    module[1].eval()
    modes = [one.training for one in module.modules()]
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random = torch.get_rng_state()
    found = evaluate(module, [(x, y)], CE, ACC)
    assert [one.training for one in module.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    module.eval()
    output = module(x)
    assert found["loss"] == nn.functional.cross_entropy(output, y).item()
    assert found["acc"] == (output.argmax(1) == y).sum().item() / 8


def test_evaluation_restores_the_modes_when_it_fails(module, batch):
    def broken():
        yield batch
        raise RuntimeError("file gone")

    with pytest.raises(RuntimeError, match="file gone"):
        evaluate(module, broken(), CE)
    assert all(one.training for one in module.modules())
    assert torch.is_grad_enabled()


def test_evaluation_and_check_record_no_gradients(module, batch):
    recorded = []
    module.register_forward_hook(lambda _module, _x, output: recorded.append(output.requires_grad))
    evaluate(module, [batch], CE)
    check_fit(module, *batch, CE)
    assert recorded == [False, False]


def test_nothing_to_evaluate_is_said(module):
    for batches in ([], [(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))]):
        with pytest.raises(DataError, match="no sample to evaluate"):
            evaluate(module, batches, get_loss("mse") if not batches else CE)


def test_a_fit_passes_and_leaves_no_trace(module, batch):
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    check_fit(module, *batch, CE, ACC)
    check_fit(module, batch[0], torch.eye(3)[batch[1]], CE, ACC)
    assert module.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def refusal(module, x, y, loss, metrics=()):
    with pytest.raises(OptionsError) as caught:
        check_fit(module, x, y, loss, metrics)
    message = str(caught.value)
    assert "\n" not in message
    return message


X = torch.zeros(2, 6)


@pytest.mark.parametrize(
    ("outputs", "labels", "loss", "start"),
    [
        (10, torch.zeros(2, 7), "categorical_crossentropy", "model output (2, 10) does not fit labels (2, 7): "),
        (1, torch.zeros(2, 3), "mse", "model output (2, 1) does not fit labels (2, 3): "),
        (3, torch.zeros(2), "mae", "model output (2, 3) does not fit labels (2,): "),
        (3, torch.tensor([0, 3]), "categorical_crossentropy", "labels hold 3, the model has the classes 0 to 2; "),
        (3, torch.tensor([0, -100]), "CrossEntropy", "labels hold -100, the model has the classes 0 to 2; "),
        (3, torch.tensor([0.0, 1.5]), "CrossEntropy", "labels hold 1.5, the model has the classes 0 to 2; "),
        (3, torch.ones(2, 3), "sparse_categorical_crossentropy", "labels (2, 3) are not one-hot, "),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_one_line(outputs, labels, loss, start):
    message = refusal(nn.Linear(6, outputs), X, labels, get_loss(loss))
    assert message.startswith(start)
    assert message.endswith(f"(loss '{get_loss(loss).name}')")
    assert "--labels-name" in message


def test_top5_of_five_classes_is_refused():
    labels, metrics = torch.tensor([0, 1]), [get_metric("top5")]
    check_fit(nn.Linear(6, 6), X, labels, CE, metrics)
    message = refusal(nn.Linear(6, 5), X, labels, CE, metrics)
    said = "of 5 classes, the right one is always among the best 5"
    assert message == f"{said}; drop it from --metrics (metric 'top5')"


def test_a_metric_that_does_not_fit_is_named():
    message = refusal(nn.Linear(6, 1), X, torch.tensor([0.5, 7.0]), get_loss("mse"), [get_metric("acc")])
    assert message.startswith("labels (2,) of a single output are not 0 or 1")
    assert message.endswith("; drop it from --metrics (metric 'acc')") and "--loss" not in message
    assert "(metric 'top5')" in refusal(nn.Linear(6, 1), X, torch.zeros(2), get_loss("mse"), [get_metric("top5")])


def test_input_that_the_model_cannot_take():
    message = refusal(nn.Linear(4, 3), X, torch.tensor([0, 1]), CE)
    assert message.startswith("the model cannot take input (2, 6) float32 (RuntimeError: mat1 and mat2 shapes ")
    assert "--features-name" in message
    assert "float64" in refusal(nn.Linear(6, 3), X.double(), torch.tensor([0, 1]), CE)
    assert "input (2, 6), (2, 6) float32 (TypeError" in refusal(nn.Linear(6, 3), [X, X], torch.tensor([0, 1]), CE)


class Odd(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer


@pytest.mark.parametrize("answer", [{"logits": X}, [X, "text"], [], None])
def test_a_model_that_returns_no_tensors(answer):
    message = refusal(Odd(answer), X, torch.tensor([0, 1]), CE)
    assert message.startswith(f"the model returns {type(answer).__name__}: ")


def test_a_loss_that_fails_or_gives_no_scalar():
    module, y = nn.Linear(6, 3), torch.tensor([0, 1])
    fails = Loss("mine:broken", lambda output, target: output @ target, None)
    where = "loss 'mine:broken' with model output (2, 3) and labels (2,) "
    assert re.match(re.escape(where + "fails (RuntimeError: "), refusal(module, X, y, fails))
    for function, found in ((lambda output, _: output.sum(1), "(2,)"), (lambda output, _: 1.0, "float")):
        assert refusal(module, X, y, Loss("mine:broken", function, None)).startswith(f"{where}gives {found}: ")
