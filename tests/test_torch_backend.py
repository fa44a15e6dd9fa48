"""`torch.compile(model, backend="chameleon")`: outputs of torch, and torch where it cannot be."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_models import counting, mobile, residual, small

from chameleon_ray import tune
from chameleon_ray.deploy.build import deploy
from chameleon_ray.deploy.torch_backend import chameleon
from chameleon_ray.env_settings import Env
from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.history import load
from chameleon_ray.networks.lookup import look_up
from chameleon_ray.tasks import Target


@pytest.fixture(autouse=True)
def fresh():
    """Nothing that was compiled before is left."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("module", "shape"),
    [(small, (1, 3, 16, 16)), (residual, (1, 8, 16, 16)), (mobile, (1, 32, 14, 19))],
)
def test_a_compiled_model_computes_what_torch_does(module, shape, recwarn):
    """Whatever is called again, with other numbers."""
    model = module()
    compiled = torch.compile(model, backend=chameleon, options={"threads": 1})
    with torch.inference_mode():
        for seed in range(3):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            assert torch.allclose(compiled(x), model(x), atol=1e-5, rtol=1e-4)
    assert not [w for w in recwarn if "chameleon" in str(w.message)]


LATER = """
import sys, torch
from small_models import small
from chameleon_ray.deploy.torch_backend import chameleon
options = {"threads": 1, "trials": 2, "run": sys.argv[1]}
model, x = small(), torch.ones(1, 3, 16, 16)
with torch.inference_mode():
    found = torch.compile(model, backend=chameleon, options=options)(x)
    assert torch.allclose(found, model(x), atol=1e-5, rtol=1e-4)
assert "ray" not in sys.modules
"""


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.slow
def test_layers_that_nobody_knows_are_tuned_at_the_first_call(tmp_path, capfd):
    """In a run of their own, from which the next process starts, and which can be deployed."""
    run = tmp_path / "run"
    other = look_up("small_models:residual", Target(cores=1), "1x8x16x16")
    env = Env(measurer="simulated", cores=1)
    tune(other, env=env, policy="random", layers=(1,), trials=1, run=run)
    model, x = small(), torch.ones(1, 3, 16, 16)
    options = {"threads": 1, "trials": 2, "run": run}
    with torch.inference_mode():
        compiled = torch.compile(model, backend=chameleon, options=options)
        assert torch.allclose(compiled(x), model(x), atol=1e-5, rtol=1e-4)
    assert capfd.readouterr().err.count(", done") == 2
    assert len(load(run).result.layers) == 1
    state = load(f"{run}-2")
    assert [layer.measurements for layer in state.result.layers] == [2, 2]
    assert len(state.ended) == 2
    assert ", 1 cores" in state.result.device

    def written():
        return {path: path.stat().st_mtime_ns for path in Path(f"{run}-2").iterdir()}

    before = written()
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", LATER, run], check=True, cwd=here)
    assert written() == before
    assert not deploy(f"{run}-2", tmp_path / "out").by_rule


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.slow
def test_a_budget_that_is_too_short_leaves_the_model_by_rule(tmp_path):
    """With a warning, and no run."""
    options = {"threads": 1, "time_budget_seconds": 1e-3, "run": tmp_path / "run"}
    model, x = small(), torch.ones(1, 3, 16, 16)
    compiled = torch.compile(model, backend=chameleon, options=options)
    with torch.inference_mode(), pytest.warns(UserWarning, match="over before anything was"):
        assert torch.allclose(compiled(x), model(x), atol=1e-5, rtol=1e-4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{}, {"trials": 2}])
def test_what_cannot_be_taken_runs_in_torch_and_says_so(options, tmp_path, monkeypatch):
    """A model of which nothing can be tuned; the warning has the reason."""
    monkeypatch.chdir(tmp_path)
    model = torch.nn.LayerNorm(4)
    compiled = torch.compile(model, backend=chameleon, options=options)
    x = torch.arange(12.0).reshape(3, 4)
    with torch.inference_mode(), pytest.warns(UserWarning, match=r"runs in torch.*can be tuned"):
        found = compiled(x)
    assert torch.allclose(found, model(x))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"treads": 1}, UnknownNameError, "unknown option 'treads'.*threads"),
        ({"from": "runs/mine"}, SettingsError, "list of run folders"),
        ({"from": ["/nowhere"]}, Exception, "/nowhere"),
        ({"from": 3}, SettingsError, "list of run folders, not 3"),
        ({"threads": "2"}, SettingsError, "threads '2' is not a whole number from 1"),
        ({"trials": 0}, SettingsError, "trials 0 is not a whole number from 1"),
        ({"trials": True}, SettingsError, "trials True is not"),
        ({"time_budget_seconds": -1}, SettingsError, "time_budget_seconds -1 is no positive"),
        ({"trials": 2, "run": 3}, SettingsError, "run is a folder, not 3"),
        ({"run": "runs/mine"}, SettingsError, "without trials or time_budget_seconds nothing"),
        ({"trials": 2, "policy": "chamaeleon"}, UnknownNameError, "unknown policy.*chameleon"),
    ],
)
def test_options_that_cannot_be_are_refused(options, error, message):
    """They are the user's, and no reason to run in torch."""
    compiled = torch.compile(small(), backend=chameleon, options=options)
    with torch.inference_mode(), pytest.raises(Exception, match=message):
        compiled(torch.zeros(1, 3, 16, 16))
    with pytest.raises(error, match=message):
        chameleon(torch.fx.symbolic_trace(torch.nn.ReLU()), [torch.ones(1)], options=options)


def test_another_module_of_the_same_kind_has_its_own_weights():
    """torch takes the code of one for the other; and weights may be written to."""
    one, other = small(), small()
    with torch.no_grad():
        other.first.weight.mul_(2)
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for model in (one, other, one):
            found = torch.compile(model, backend=chameleon, options={"threads": 1})(x)
            assert torch.allclose(found, model(x), atol=1e-5, rtol=1e-4)
    compiled = torch.compile(one, backend=chameleon, options={"threads": 1})
    with torch.no_grad():
        compiled(x)
        one.last.bias.add_(1)
        assert torch.allclose(compiled(x), one(x), atol=1e-5, rtol=1e-4)


def test_what_has_a_state_or_asks_for_gradients_runs_in_torch():
    """With a warning that says so; results and gradients are torch's."""
    x = torch.ones(1, 8, 4, 4)
    model, right = counting(), counting()
    compiled = torch.compile(model, backend=chameleon)
    with torch.no_grad(), pytest.warns(UserWarning, match="changes its own buffers"):
        found = compiled(x)
    with torch.no_grad():
        assert torch.allclose(found, right(x))
        assert torch.allclose(compiled(x), right(x))
    model = small()
    with pytest.warns(UserWarning, match="gradients"):
        torch.compile(model, backend=chameleon)(torch.ones(1, 3, 16, 16)).sum().backward()
    assert model.first.weight.grad.abs().sum() > 0
