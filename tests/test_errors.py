"""What an error tells a user who has mistyped a name."""

import pytest

from chameleon_ray.errors import UnknownNameError


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("simulatd", ["tvm", "simulated"], "simulated"),
        ("resnet", ["resnet18", "vgg16"], "resnet18"),
        ("resnet81", ["resnet18", "vgg16"], "resnet18"),
        ("resnet50", ["resnet18", "vgg16"], None),  # another network
        ("vgg19", ["resnet18", "vgg16"], None),
        ("gpu", ["cpu", "recorded"], None),  # a short name is near to many
        ("13", ["1", "12"], None),
        ("explorer.wave", ["explorer.kind", "explorer.waves"], "explorer.waves"),
        ("explorer.foo", ["explorer.kind", "explorer.gae"], None),  # they share `explorer.` alone
        ("package.module.Class", ["ppo", "package.module:Class"], None),
    ],
)
def test_a_suggestion_is_what_was_probably_meant(name, known, meant):
    """Or there is none; the known names stand there in any case."""
    message = str(UnknownNameError("thing", name, known))
    assert f"Known: {', '.join(known)}." in message
    assert ("Did you mean" in message) == (meant is not None)
    assert meant is None or f"Did you mean {meant!r}?" in message
