"""A model file for handwritten digits: mpirun -np 3 TrainingDriver --model examples/example_mnist_torch.py

Without --train-data it trains on MNIST where GetData has put it, else on scikit-learn's digits.
"""

from torch import nn
from torch.nn import functional


class Net(nn.Module):
    """Images (N, 28, 28, 1) to logits (N, 10)."""

    def __init__(self, maps, dense, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(1, maps, 3, padding=1)
        self.conv2 = nn.Conv2d(maps, 2 * maps, 3, padding=1)
        self.dense = nn.Linear(2 * maps * 7 * 7, dense)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dense, 10)

    def forward(self, images):
        maps = images.permute(0, 3, 1, 2)  # torch has the channels in front
        for convolution in (self.conv1, self.conv2):
            maps = functional.max_pool2d(functional.relu(convolution(maps)), 2)
        return self.output(self.dropout(functional.relu(self.dense(maps.flatten(1)))))


def get_model(maps=8, dense=64, dropout=0.3):
    """--model-params maps=16,dense=128 changes these; the classifier returns logits."""
    return Net(int(maps), int(dense), float(dropout))


def get_name():
    """How the files of a run begin."""
    return "example_mnist"


def parameter_range():
    """What a search may try, by the parameters' names."""
    from skopt.space import Integer, Real

    return [Integer(4, 32, name="maps"), Integer(16, 256, name="dense"), Real(0.0, 0.7, name="dropout")]


get_model.defaults = {"optimizer": "adam", "lr": 1e-3, "loss": "categorical_crossentropy"}
get_model.parameter_range = parameter_range
get_model.data_sets = "mnist", "digits"  # without --train-data: the first of them that is there
