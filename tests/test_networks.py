"""The paper's networks as data; `test_paper.py` holds them to its tables."""

import pytest

from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.networks import NETWORKS, choose_layers, network


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_numbered_from_one(name):
    """Indices are those of the paper, in order."""
    layers = network(name)
    assert [layer.index for layer in layers] == list(range(1, len(layers) + 1))


@pytest.mark.parametrize(
    ("name", "convolutions", "gflop"),
    [("alexnet", 5, 1.31), ("vgg16", 13, 30.7), ("resnet18", 21, 3.65)],
)
def test_uses_add_up_to_the_whole_network(name, convolutions, gflop):
    """All convolutions of one forward pass, with repetitions, and their GFLOP.

    VGG-16 has 13 and 30.7 GFLOP as published. ResNet-18 here is the variant that the paper
    tuned: its first stage has a 1x1 projection, so that there are 21 and not 20.
    """
    layers = network(name)
    assert sum(layer.uses for layer in layers) == convolutions
    total = sum(layer.uses * layer.task.flop for layer in layers)
    assert total / 1e9 == pytest.approx(gflop, rel=0.01)


def test_an_unknown_network_is_named_with_the_known_ones():
    """A typing error is met with what was probably meant."""
    with pytest.raises(UnknownNameError, match=r"'resnet-18'.*Did you mean 'resnet18'.*vgg16"):
        network("resnet-18")


def test_layers_are_chosen_by_number_in_the_networks_order():
    """Numbers pick layers; no numbers pick all."""
    layers = network("alexnet")
    assert [layer.index for layer in choose_layers(layers, [4, 1])] == [1, 4]
    assert choose_layers(layers, []) == layers


@pytest.mark.parametrize("number", [0, 6, -1])
def test_a_number_that_is_no_layer_is_refused(number):
    """The message names the option and the known numbers."""
    with pytest.raises(UnknownNameError, match=r"--layers: unknown layer.*1, 2, 3, 4, 5"):
        choose_layers(network("alexnet"), [1, number])


def test_a_layer_named_twice_is_refused():
    """The same layer twice is most likely a typing error."""
    with pytest.raises(SettingsError, match="stands twice"):
        choose_layers(network("alexnet"), [1, 1])
