"""Models by name and by file, their builders, and the lines for those that cannot be had."""

import os
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import nnlo.models.mlp
import nnlo.models.mnist
from nnlo.errors import DataError, OptionsError
from nnlo.model import ModelBuilder, ModelPytorch, load_model

torch.set_num_threads(1)

MODEL = """
import torch
from helper_of_{name} import WIDTH

def get_model(width=WIDTH, bias=True):
    return torch.nn.Linear(width, 2, bias)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of models, with another as the current one."""
    (tmp_path / "current").mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "models"


def write(folder, text, name="own"):
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def refusal(call, *args, kind=OptionsError, **kwargs):
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_mnist_has_the_layers_that_it_is_known_for():
    source = load_model("mnist")
    model = source.get_model()
    assert source.name == "mnist"
    assert count(model) == 21_840
    assert [tuple(p.shape) for p in model.parameters() if p.dim() > 1] == [
        (10, 1, 5, 5),
        (20, 10, 5, 5),
        (50, 320),
        (10, 50),
    ]
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.5]


def test_mnist_computes_what_plain_torch_does():
    torch.manual_seed(2)
    model = load_model("mnist").get_model(kernel_size=3, dropout=0.25, dense=7).eval()
    images = torch.rand(3, 28, 28, 1)
    conv1, conv2, dense, output = (m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    pool = nn.functional.max_pool2d
    maps = pool(conv1(images.reshape(3, 1, 28, 28)).relu(), 2)
    maps = pool(conv2(maps).relu(), 2).reshape(3, -1)
    assert torch.allclose(model(images), output(dense(maps).relu()), atol=1e-6)


def test_mnist_drops_only_before_the_output():
    model = load_model("mnist").get_model(dropout=1.0)
    images, hidden = torch.rand(2, 28, 28, 1), []
    model.dropout.register_forward_pre_hook(lambda _module, inputs: hidden.append(inputs[0]))
    model.eval()(images)
    assert torch.equal(model.train()(images), model.output.bias.expand(2, 10))
    assert torch.equal(*hidden)


@pytest.mark.parametrize("kernel_size", [1, 9])
def test_mnist_takes_the_ends_of_its_range(kernel_size):
    assert load_model("mnist").get_model(kernel_size=kernel_size)(torch.rand(1, 28, 28, 1)).shape == (1, 10)


@pytest.mark.parametrize("params", [{"kernel_size": 0}, {"kernel_size": 10}, {"dropout": 1.5}, {"dense": 0}])
def test_mnist_refuses_the_rest(params):
    (name,) = params
    assert refusal(load_model("mnist").get_model, **params).startswith(
        f"model 'mnist': {name} is {params[name]}, give "
    )


def test_mlp_layers():
    source = load_model("mlp")
    assert count(source.get_model()) == 784 * 64 + 64 + 64 * 10 + 10
    assert count(source.get_model(hidden=3, layers=2, inputs=4, classes=2)) == 15 + 12 + 8
    assert count(source.get_model(layers=0)) == 7850
    assert source.get_model()(torch.rand(3, 28, 28, 1)).shape == (3, 10)
    assert refusal(source.get_model, layers=-1) == "model 'mlp': layers is -1, give 0 or more"


def test_mlp_computes_what_plain_torch_does():
    model = load_model("mlp").get_model(hidden=5, layers=2, inputs=6, classes=3)
    one, two, three = (module for module in model.modules() if isinstance(module, nn.Linear))
    x = torch.randn(4, 2, 3)
    assert torch.equal(model(x), three(two(one(x.reshape(4, 6)).relu()).relu()))


def test_ranges_import_skopt_only_when_asked_for():
    assert callable(nnlo.models.mnist.get_model.parameter_range)
    assert callable(nnlo.models.mlp.get_model.parameter_range)


def test_defaults_are_a_copy():
    load_model("mnist").defaults["lr"] = 5
    assert load_model("mnist").defaults["lr"] == 2e-3


def test_a_file_imports_from_its_own_folder_and_the_current_one(folder):
    write(folder, "WIDTH = 3\n", "helper_of_a")
    (folder.parent / "current" / "helper_of_b.py").write_text("WIDTH = 4\n")
    for name, width in (("a", 3), ("b", 4)):
        source = load_model(write(folder, MODEL.format(name=name)))
        assert source.get_model().in_features == width
        assert source.name == "own"
    assert source.get_model(width=7, bias=False).in_features == 7


def test_a_changed_file_is_read_anew(folder, monkeypatch):
    """Same size, same second: what a cached .pyc would be taken for."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for width in (3, 4, 5):
        text = f"import torch\ndef get_model():\n    return torch.nn.Linear({width}, 1)\n"
        path = write(folder, text)
        os.utime(path, (1e9, 1e9))
        assert load_model(path).get_model().in_features == width
    assert not list(folder.glob("**/*own*.pyc"))


def test_a_file_may_import_later_too(folder):
    write(folder, "WIDTH = 5\n", "helper_of_c")
    lazily = (
        "def get_model():\n    from helper_of_c import WIDTH\n    import torch\n    return torch.nn.Linear(WIDTH, 1)\n"
    )
    assert load_model("../models/own.py" if write(folder, lazily) else "").get_model().in_features == 5


def test_what_a_file_says_of_itself(folder):
    bare = load_model(write(folder, "def get_model(): ...\n", "bare"))
    assert (bare.name, bare.train_list, bare.val_list, bare.features, bare.labels) == ("bare", None, None, None, None)
    assert (bare.defaults, bare.parameter_range) == ({}, [])
    rich = load_model(
        write(
            folder,
            "def get_model(): ...\n"
            "get_model.defaults = {'lr': 0.5}\nget_model.parameter_range = ['dimension']\n"
            "def get_name(): return 'jets'\n"
            "def get_train(): return 'train.list'\ndef get_val(): return 'val.list'\n"
            "def get_features(): return ('Images', abs)\ndef get_labels(): return 'Labels'\n",
        )
    )
    assert (rich.name, rich.train_list, rich.val_list) == ("jets", "train.list", "val.list")
    assert (rich.features, rich.labels) == (("Images", abs), "Labels")
    assert (rich.defaults, rich.parameter_range) == ({"lr": 0.5}, ["dimension"])


def test_lists_are_asked_for_only_where_they_are_needed(folder):
    source = load_model(write(folder, "def get_model(): ...\ndef get_train():\n    raise OSError('no disk')\n"))
    message = refusal(lambda: source.train_list)
    assert message == f"model file '{folder / 'own.py'}', line 3: OSError: no disk"


def test_unknown_name_lists_the_known():
    message = refusal(load_model, "mnits")
    assert message.startswith("unknown model 'mnits': choose one of cifar10, conv1, mlp, mnist, topclass, or ")
    assert "unknown model 'mnist.get'" in refusal(load_model, "mnist.get")


def test_missing_file_is_named(folder):
    for spec in ("gone.py", "some/where", str(folder)):
        assert refusal(load_model, spec).startswith(f"model file '{spec}' is not there: give the path of a .py file")


def test_a_file_that_is_no_python_source(folder):
    (folder / "own.txt").write_text("hello")
    assert "own.txt' is no Python source" in refusal(load_model, folder / "own.txt")


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("import os\n\nraise ValueError('no such layer\\nmore')\n", "', line 3: ValueError: no such layer"),
        ("def get_model(:\n    pass\n", "', line 1: SyntaxError: "),
        ("def check():\n    raise KeyError('a')\n\n\ncheck()\n", "', line 2: KeyError: 'a'"),
        ("x = 1\nimport no_such_module_y\n", "', line 2: ModuleNotFoundError: No module named 'no_such_module_y'"),
        ("import sys\nsys.exit(0)\n", "', line 2: SystemExit: 0"),
        ("import json\njson.loads('{')\n", "', line 2: JSONDecodeError: "),
        ("assert False\n", "', line 1: AssertionError"),
        ("x = 1\n", "' has no function get_model(**params) that returns a torch module: add one"),
        ("get_model = 3\n", "' has no function get_model(**params) that returns a torch module: add one"),
        ("def get_model(): ...\ndef get_name(): return 'a/b'\n", "': get_name() returned 'a/b', "),
    ],
)
def test_a_file_that_fails_is_one_line_with_its_place(text, end, folder):
    path = write(folder, text)
    before = set(sys.modules)
    message = refusal(load_model, path)
    assert message.startswith(f"model file '{path}{end}")
    if "line" in end:
        assert not any(name.startswith("_nnlo_own") for name in set(sys.modules) - before)


@pytest.mark.parametrize(
    ("body", "params", "end"),
    [
        ("    return 3", {}, ": get_model returned int, a torch.nn.Module is wanted"),
        ("    return 1 / 0", {}, ", line 2: ZeroDivisionError: division by zero"),
    ],
)
def test_get_model_that_fails_is_one_line(body, params, end, folder):
    path = write(folder, f"def get_model(width=1):\n{body}\n")
    assert refusal(load_model(path).get_model, **params) == f"model file '{path}'{end}"


def test_an_unknown_parameter_is_told_with_the_known(folder):
    path = write(folder, "def get_model(width=1):\n    return 3\n")
    start = f"--model-params: model file '{path}' has no parameter"
    assert refusal(load_model(path).get_model, depth=2) == f"{start} 'depth': choose among width"
    assert refusal(load_model(path).get_model, widht=2) == f"{start} 'widht': choose among width (did you mean width?)"
    path = write(folder, "def get_model():\n    return 3\n")
    assert refusal(load_model(path).get_model, depth=2).endswith("has no parameter 'depth': it has none: drop it")


def test_get_model_with_any_parameters_gets_them(folder):
    path = write(folder, "import torch\ndef get_model(**params):\n    return torch.nn.Linear(params['n'], 1)\n")
    assert load_model(path).get_model(n=6).in_features == 6


def test_builder_builds_with_parameters_and_anew_each_time():
    builder = ModelPytorch("a communicator", "mlp", hidden=2, inputs=3)
    one, two = builder.build_model(), builder.build_model()
    assert (builder.comm, builder.name, count(one)) == ("a communicator", "mlp", 8 + 30)
    assert not {id(p) for p in one.parameters()} & {id(p) for p in two.parameters()}
    assert ModelPytorch(None, builder.source).name == "mlp"


def test_own_builder_has_the_name_of_its_class():
    class Jets(ModelBuilder):
        def __init__(self):
            """Without the base's."""

    class Named(ModelBuilder):
        name = "other"

    assert (Jets().name, Jets().comm, Named("comm").name, Named("comm").comm) == ("Jets", None, "other", "comm")
    with pytest.raises(NotImplementedError, match="Jets must override build_model"):
        Jets().build_model()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_loaded(suffix, tmp_path):
    state = load_model("mlp").get_model(hidden=2).state_dict()
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    model = ModelPytorch(None, "mlp", weights=path, hidden=2).build_model()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    other = ModelPytorch(None, "mlp", weights=path, hidden=3)
    assert refusal(other.build_model, kind=DataError).startswith(f"weights file '{path}' does not fit the model")
    path.write_bytes(b"nonsense")
    assert "is damaged" in refusal(ModelPytorch(None, "mlp", path).build_model, kind=DataError)
    path.unlink()
    assert "is not there" in refusal(ModelPytorch(None, "mlp", path).build_model, kind=DataError)


class Touch:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_pickle_is_loaded(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(Touch(tmp_path / "touched"), path)
    said = refusal(ModelPytorch(None, "mlp", path).build_model, kind=DataError)
    assert "is damaged, or holds more than tensors: write it with torch.save(model.state_dict(), ...)" in said
    assert "weights_only" not in said
    assert not (tmp_path / "touched").exists()
