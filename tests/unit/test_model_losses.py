"""Losses against few-line references that know nothing of torch's own losses."""

import math
import re

import pytest
import torch

from nnlo.errors import DataError, OptionsError
from nnlo.model.losses import LOSSES, get_loss, torch_losses

torch.set_num_threads(1)

CLASSES = torch.tensor([2, 0, 3, 1, 2])
ONEHOT = torch.eye(4)[CLASSES]


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def logits(rng):
    return torch.randn(5, 4, generator=rng)


def crossentropy(logits, classes):
    """Sample by sample in Python floats."""
    rows = [math.log(sum(math.exp(v) for v in row)) - row[k] for row, k in zip(logits.tolist(), classes, strict=True)]
    return sum(rows) / len(rows)


@pytest.mark.parametrize("name", ["categorical_crossentropy", "sparse_categorical_crossentropy", "CrossEntropy"])
@pytest.mark.parametrize(
    "labels",
    [
        ONEHOT,
        ONEHOT.double(),
        ONEHOT.to(torch.uint8),
        ONEHOT.bool(),
        CLASSES,
        CLASSES.to(torch.uint8),
        CLASSES.float(),
        CLASSES[:, None],
        CLASSES[:, None].to(torch.uint8),
    ],
    ids=lambda labels: f"{tuple(labels.shape)}-{labels.dtype}",
)
def test_crossentropy_takes_all_forms_of_labels(name, labels, logits):
    assert get_loss(name)(logits, labels).item() == pytest.approx(crossentropy(logits, CLASSES.tolist()), rel=1e-6)


def test_crossentropy_keeps_soft_labels(logits):
    soft = torch.full((5, 4), 0.25)
    expected = sum(crossentropy(logits, [k] * 5) for k in range(4)) / 4
    assert get_loss("categorical_crossentropy")(logits, soft).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("onehot", [False, True])
def test_crossentropy_of_pixels_is_the_mean_over_them(onehot, rng):
    logits = torch.randn(2, 3, 4, 5, generator=rng)
    classes = torch.randint(0, 3, (2, 4, 5), generator=rng)
    labels = torch.eye(3)[classes].permute(0, 3, 1, 2) if onehot else classes[..., None]
    expected = crossentropy(logits.permute(0, 2, 3, 1).reshape(-1, 3), classes.flatten().tolist())
    assert get_loss("categorical_crossentropy")(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_no_class_is_left_out_of_the_mean(logits):
    """torch by itself skips the class -100, and the mean would no longer be over the samples."""
    for name in ("categorical_crossentropy", "CrossEntropyLoss", "NLLLoss"):
        with pytest.raises((IndexError, DataError), match="-100"):
            get_loss(name)(logits, torch.tensor([0, 1, -100, 2, 3]))


def each(formula):
    """The mean of a formula of two floats over all elements."""

    def mean(output, target):
        terms = [formula(a, b) for a, b in zip(output.flatten().tolist(), target.flatten().tolist(), strict=True)]
        return sum(terms) / len(terms)

    return mean


def margin(a, b):
    return max(0.0, 1 - a * (1 if b > 0 else -1))


REAL = {
    "mse": each(lambda a, b: (a - b) ** 2),
    "mae": each(lambda a, b: abs(a - b)),
    "huber": each(lambda a, b: 0.5 * (a - b) ** 2 if abs(a - b) < 1 else abs(a - b) - 0.5),
    "mape": each(lambda a, b: 100 * abs((a - b) / b)),
    "log_cosh": each(lambda a, b: math.log(math.cosh(a - b))),
    "MSE": each(lambda a, b: (a - b) ** 2),
    "L1Loss": each(lambda a, b: abs(a - b)),
    "SmoothL1": each(lambda a, b: 0.5 * (a - b) ** 2 if abs(a - b) < 1 else abs(a - b) - 0.5),
}
POSITIVE = {
    "msle": each(lambda a, b: (math.log1p(a) - math.log1p(b)) ** 2),
    "poisson": each(lambda a, b: a - b * math.log(a + 1e-7)),
}
BINARY = {
    "binary_crossentropy": each(lambda a, b: math.log1p(math.exp(a)) - a * b),
    "BCEWithLogits": each(lambda a, b: math.log1p(math.exp(a)) - a * b),
    "hinge": each(margin),
    "squared_hinge": each(lambda a, b: margin(a, b) ** 2),
}


@pytest.mark.parametrize("shapes", [((6,), (6,)), ((6, 1), (6,)), ((6,), (6, 1)), ((6, 3), (6, 3))], ids=str)
@pytest.mark.parametrize("name", [*REAL, *POSITIVE, *BINARY])
def test_elementwise_losses(name, shapes, rng):
    output = torch.randn(shapes[0], generator=rng) * 2
    target = torch.randn(shapes[1], generator=rng)
    if name in POSITIVE:
        output, target = output.abs() + 0.1, target.abs()
    if name in BINARY:
        target = (target > 0).to(torch.uint8)
    expected = {**REAL, **POSITIVE, **BINARY}[name](output, target)
    assert get_loss(name)(output, target).item() == pytest.approx(expected, rel=1e-5)


def test_hinge_takes_labels_of_minus_one_too():
    output = torch.tensor([0.5, -0.25, 2.0])
    expected = get_loss("hinge")(output, torch.tensor([1, 0, 0]))
    assert get_loss("hinge")(output, torch.tensor([1.0, -1.0, -1.0])) == expected == (0.5 + 0.75 + 3.0) / 3


def test_bce_of_probabilities():
    value = get_loss("BCE")(torch.tensor([0.25, 0.5]), torch.tensor([1, 0]))
    assert value.item() == pytest.approx((math.log(4) + math.log(2)) / 2, rel=1e-6)


@pytest.mark.parametrize("name", ["kl_divergence", "kld", "KLDiv"])
def test_kl_divergence_is_a_mean_over_samples(name, logits):
    target = torch.tensor([[0.5, 0.25, 0.25, 0.0]] * 5)
    logs = torch.log(logits.exp() / logits.exp().sum(1, keepdim=True))
    given = logs if name == "KLDiv" else logits
    rows = [
        sum(t * (math.log(t) - q) for t, q in zip(ts, qs, strict=True) if t)
        for ts, qs in zip(target.tolist(), logs.tolist(), strict=True)
    ]
    assert get_loss(name)(given, target).item() == pytest.approx(sum(rows) / 5, rel=1e-5)


def test_cosine_similarity():
    output, target = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [-2.0, 0.0]])
    assert get_loss("cosine_similarity")(output, target).item() == pytest.approx(-(24 / 25 - 1) / 2, rel=1e-6)


@pytest.mark.parametrize("labels", [CLASSES, ONEHOT], ids=["numbers", "onehot"])
def test_torch_losses_that_want_class_numbers_get_them(labels, logits):
    assert get_loss("NLL")(logits, labels).item() == pytest.approx(-(logits * ONEHOT).sum().item() / 5, rel=1e-6)
    rows = logits.tolist()
    margins = [max(0, 1 - rows[i][k] + rows[i][j]) for i, k in enumerate(CLASSES.tolist()) for j in range(4) if j != k]
    assert get_loss("MultiMargin")(logits, labels).item() == pytest.approx(sum(margins) / 4 / 5, rel=1e-6)


@pytest.mark.parametrize("name", [*LOSSES, *torch_losses()])
def test_every_loss_is_a_mean_over_samples(name, rng):
    """Two batches of unequal size, weighted by samples, make the whole; the gradient is finite."""
    output = (torch.rand(6, 4, generator=rng) * 0.8 + 0.1).requires_grad_()
    target = torch.eye(4)[torch.tensor([0, 1, 2, 3, 3, 1])]
    loss = get_loss(name)
    whole = loss(output, target)
    parts = (2 * loss(output[:2], target[:2]) + 4 * loss(output[2:], target[2:])) / 6
    assert whole.dim() == 0
    assert parts.item() == pytest.approx(whole.item(), rel=1e-5)
    whole.backward()
    assert torch.isfinite(output.grad).all()


def test_aliases_and_torch_names_with_or_without_loss():
    assert get_loss("mse") is get_loss("mean_squared_error")
    assert get_loss("HuberLoss").name == get_loss("Huber").name == "HuberLoss"


def test_torch_losses_are_those_of_output_and_labels_alone():
    names = set(torch_losses())
    assert {"CrossEntropyLoss", "MSELoss", "KLDivLoss", "BCELoss", "SoftMarginLoss"} <= names
    assert not {"CTCLoss", "CosineEmbeddingLoss", "TripletMarginLoss", "AdaptiveLogSoftmaxWithLoss"} & names
    assert not {"LinearCrossEntropyLoss", "GaussianNLLLoss"} & names


def test_several_outputs_add_up(logits):
    mse, ce = get_loss("mse"), get_loss("categorical_crossentropy")
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([[3.0], [5.0]])
    zeros = [torch.zeros(2), torch.zeros(2)]
    assert mse([one, two], zeros) == mse(one, zeros[0]) + mse(two, zeros[1]) == 2.5 + 17.0
    assert ce([logits], CLASSES) == ce(logits, [CLASSES]) == ce(logits, CLASSES)
    with pytest.raises(OptionsError, match=re.escape("the model has 2 output(s), the data 1 label array(s)")):
        mse([one, two], one)


@pytest.mark.parametrize(
    ("name", "output", "labels", "wanted"),
    [
        ("categorical_crossentropy", (2, 10), (2, 7), "one-hot labels (2, 10) or class numbers (2,) are wanted"),
        ("categorical_crossentropy", (2, 10), (3,), "class numbers (2,)"),
        ("categorical_crossentropy", (2, 1), (2,), "binary_crossentropy"),
        ("categorical_crossentropy", (2,), (2,), "binary_crossentropy"),
        ("MultiMargin", (2, 3), (2, 2), "one-hot labels (2, 3)"),
        ("mse", (2, 1), (2, 3), "labels (2, 1) are wanted"),
        ("mse", (2,), (2, 2), "labels (2,) are wanted"),
        ("mse", (1, 2), (2, 1), "labels (1, 2) are wanted"),
        ("mse", (2, 6), (6, 2), "labels (2, 6) are wanted"),
        ("mse", (), (1,), "labels () are wanted"),
        ("mae", (1,), (3,), "labels (1,) are wanted"),
        ("binary_crossentropy", (2, 2), (2,), "labels (2, 2) are wanted"),
        ("kl_divergence", (2, 1), (2, 1), "several numbers a sample"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(name, output, labels, wanted):
    with pytest.raises(OptionsError) as caught:
        get_loss(name)(torch.zeros(output), torch.zeros(labels))
    message = str(caught.value)
    assert message.startswith(f"model output {output} does not fit labels {labels}: ")
    assert wanted in message
    assert "\n" not in message


def test_unknown_loss_lists_the_known():
    with pytest.raises(OptionsError) as caught:
        get_loss("crossentropi")
    message = str(caught.value)
    near = "did you mean CrossEntropy or binary_crossentropy"
    assert message.startswith(f"--loss: unknown loss 'crossentropi': {near}")
    with pytest.raises(OptionsError, match=r"^--loss: unknown loss 'zzz': choose one of binary_crossentropy, "):
        get_loss("zzz")
    assert "CrossEntropy" in message
    assert "module:callable" in message
    assert "\n" not in message


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return tmp_path


def test_a_callable_of_the_current_folder_gets_the_labels_untouched(in_folder):
    (in_folder / "own_losses_a.py").write_text(
        "def total(output, target):\n    return output[0].sum() + target\n"
        "class Half:\n    def __call__(self, output, target):\n        return output / 2\n"
    )
    for module in ("own_losses_a", "own_losses_a.py"):
        assert get_loss(f"{module}:total")([torch.ones(3)], torch.tensor(2)) == 5
        assert get_loss(f"{module}:Half")(torch.tensor(3.0), None) == 1.5
        assert get_loss(f"{module}:Half").name == f"{module}:Half"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "no_such_module_x:loss",
            "loss 'no_such_module_x:loss': ModuleNotFoundError: No module named 'no_such_module_x'",
        ),
        ("gone.py:loss", "loss 'gone.py:loss': file 'gone.py' is not there"),
        ("math:no_such", "loss 'math:no_such': 'math' has no callable 'no_such'"),
        ("math:pi", "loss 'math:pi': 'math' has no callable 'pi'"),
        ("bad.py:loss", "loss 'bad.py:loss', line 2: ZeroDivisionError: division by zero"),
        (":loss", "loss ':loss': give module:callable or file.py:callable"),
        ("decimal:Decimal", "loss 'decimal:Decimal': a Decimal cannot be called"),
    ],
)
def test_a_callable_that_cannot_be_had_is_one_line(spec, message, in_folder):
    (in_folder / "bad.py").write_text("a = 0\nb = 1 / a\n")
    with pytest.raises(OptionsError) as caught:
        get_loss(spec)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
