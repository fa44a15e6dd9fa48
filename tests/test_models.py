"""Models of other people as networks: what their layers are, and what is refused."""

import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import residual

from chameleon_ray.errors import (
    RunFolderError,
    SettingsError,
    UnknownNameError,
    UnsupportedError,
)
from chameleon_ray.history import network_of
from chameleon_ray.networks import Network
from chameleon_ray.networks.lookup import look_up
from chameleon_ray.networks.model import torch_module
from chameleon_ray.networks.source import Input, parse_inputs, source_of
from chameleon_ray.tasks import Conv2d, Matmul, Target

TARGET = Target(model="znver4", lanes=16, cores=2)


def test_a_function_s_module_becomes_layers():
    """Each shape once with its uses, in order; the rest is named with the reason."""
    found = look_up("small_models:small", TARGET, "1x3x16x16")
    assert [(layer.index, layer.uses) for layer in found.layers] == [(1, 1), (2, 2)]
    assert found.layers[1].task == Conv2d(
        in_channels=8, out_channels=8, height=16, width=16, kernel_height=3, kernel_width=3,
        padding=1, epilogue=("bias", "relu", "add"),
    )  # fmt: skip
    assert found.inputs == "1x3x16x16"
    reasons = {one.what.split()[0]: one.reason for one in found.untuned}
    assert reasons["conv2d"] == "it is dilated"
    assert reasons["matmul"] == "nothing to tune: its weights are packed, and read once"
    assert reasons["mean"] == ""
    assert "relu" not in reasons  # it is in the convolutions


def test_products_become_layers():
    """Dense layers of many rows, and both products of attention, with what follows them."""
    found = look_up("small_models:attending", TARGET, "2x16x8x12")
    products = {layer.task.key: layer.uses for layer in found.layers[1:]}
    assert products == {
        Matmul(rows=12, inner=32, columns=96, epilogue=("bias",)).key: 1,
        Matmul(batch=8, rows=6, inner=8, columns=6, constant=False).key: 1,
        Matmul(batch=8, rows=6, inner=6, columns=8, constant=False).key: 1,
        Matmul(rows=12, inner=32, columns=32, epilogue=("bias",)).key: 1,
        Matmul(rows=12, inner=32, columns=300, epilogue=("bias", "gelu")).key: 1,
    }
    assert found.layers[0].task.epilogue == ("bias",)  # a bias and a norm
    assert not {"divide", "subtract", "gelu"} & {one.what for one in found.untuned}


def test_a_layer_has_what_follows_it_in_the_network():
    """One of two branches takes the addition of both; activations of three kinds."""
    found = look_up("small_models:residual", TARGET, "1x8x16x16")
    assert [layer.task.epilogue for layer in found.layers] == [
        ("bias", "relu"),
        ("bias", "add", "relu"),
        ("bias",),
        ("bias", "clip6"),
        ("bias", "silu"),
    ]
    assert [one.what for one in found.untuned] == []


def test_layers_without_a_template_keep_their_numbers_from_others():
    """They are among the untuned; the others' numbers stay."""
    found = look_up("small_models:small", TARGET, "1x3x16x16")
    assert [layer.index for layer in found.layers] == [1, 2]
    assert "8->8 3x3 g8 @16 +relu" in [one.what for one in found.untuned]


def test_a_run_folder_holds_a_model_s_layers():
    """So that it can be read where the model is not."""
    found = look_up("small_models:small", TARGET, "1x3x16x16")
    again = Network.from_json(found.name, found.to_json())
    assert again == found
    assert Network(name="/models/a b.onnx", layers=()).file_name == "models-a-b.onnx"


@pytest.mark.parametrize("model", [{"layers": []}, {"inputs": "1", "layers": [[1, "x", 1]]}, [3]])
def test_a_run_folder_whose_model_cannot_be_read_is_named(model):
    """As another version may have written it, or a hand."""
    with pytest.raises(RunFolderError, match=r"run\.json: the layers of mine"):
        network_of({"network": "mine", "model": model})


@pytest.mark.parametrize(
    ("name", "shapes", "uses"),
    [("resnet18", 11, 20), ("squeezenet1_0", 22, 26), ("mobilenet_v2", 30, 52)],
)
@pytest.mark.slow
def test_models_of_torchvision_have_the_convolutions_that_they_are_known_for(name, shapes, uses):
    """ResNet-18 as the paper has it, but for its projection in the first stage."""
    found = look_up(f"torchvision:{name}", TARGET)
    plain = Counter()
    for layer in found.layers:
        plain[replace(layer.task, epilogue=(), block=1, nchw="", form="direct")] += layer.uses
    assert len(plain) == shapes
    assert plain.total() == uses
    if name == "resnet18":
        paper = {layer.task: layer.uses for layer in look_up("resnet18", TARGET).layers}
        assert plain.items() <= paper.items()


@pytest.mark.slow
def test_no_block_of_a_model_of_torchvision_is_without_effect():
    """As torchvision begins to train this one, each counts for a millionth."""
    module = torch_module(source_of("torchvision:convnext_tiny", "", trust=False))
    images = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = module(images)
        module.features[1][0].block[0].weight.zero_()
        without = module(images)
    assert (outputs - without).abs().max() > 1e-3 * outputs.abs().max()


@pytest.mark.parametrize("name", ["googlenet", "vit_b_16"])
@pytest.mark.slow
def test_what_a_model_of_torchvision_computes_depends_on_what_it_is_given(name):
    """Or errors would tell nothing: as torchvision begins to train these two, it does not."""
    source = source_of(f"torchvision:{name}", "", trust=False)
    once, again = torch_module(source), torch_module(source)
    images = torch.randn((2, 3, 224, 224), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = once(images)
        assert torch.equal(outputs, again(images))
    scale = outputs.abs().max()
    assert torch.isfinite(scale)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3 * scale


def test_on_a_gpu_layers_are_tuned_without_what_follows_them():
    """Its templates have none; equal shapes are one layer then."""
    found = look_up("small_models:residual", TARGET, "1x8x16x16")
    gpu = Target(kind="cuda", model="sm_90", cores=132)
    on_gpu = look_up("small_models:residual", gpu, "1x8x16x16")
    assert [layer.task.epilogue for layer in on_gpu.layers] == [()] * 5
    assert [layer.task for layer in on_gpu.layers] == [
        replace(layer.task, epilogue=()) for layer in found.layers
    ]


def test_files_of_torch_export_and_onnx_have_the_same_layers(tmp_path):
    """Whatever the model came as."""
    of_function = look_up("small_models:residual", TARGET, "1x8x16x16")
    program = torch.export.export(residual(), (torch.zeros(1, 8, 16, 16),))
    torch.export.save(program, tmp_path / "model.pt2")
    torch.onnx.export(program, (), tmp_path / "model.onnx", dynamo=True, verbose=False)
    for name in ("model.pt2", "model.onnx"):
        found = look_up(str(tmp_path / name), TARGET)
        assert (found.inputs, found.stem) == ("1x8x16x16", "model")
        assert [layer.task for layer in found.layers] == [x.task for x in of_function.layers]


def test_an_onnx_file_with_open_shapes_takes_them_from_the_user(tmp_path):
    """It says which input is open; a batch of two is as good as one."""
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        residual(), (torch.zeros(2, 8, 16, 16),), dynamic_shapes=({0: batch},)
    )
    file = tmp_path / "model.onnx"
    torch.onnx.export(program, (), file, dynamo=True, verbose=False)
    with pytest.raises(SettingsError, match=r"input 'x' is .*x8x16x16.*--input"):
        look_up(str(file), TARGET)
    found = look_up(str(file), TARGET, "2x8x16x16")
    assert {layer.task.batch for layer in found.layers} == {2}
    with pytest.raises(SettingsError, match=r"--input: .* takes 1: x"):
        look_up(str(file), TARGET, "2x8x16x16,1x2")


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "weights.bin", "model.ckpt"])
def test_pickles_are_refused_with_the_way_out(name):
    """Whether they exist or not."""
    with pytest.raises(SettingsError, match=r"pickle.*torch.export.save.*module:function"):
        source_of(name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data/constants/opaque_obj_0", b"cos\nsystem\n(S'false'\ntR."),
        ("data/constants/CUSTOM_OBJ_0", b""),  # torch finds names in any case
        ("data/aotinductor/model/code.so", b""),
        ("models/model.json", b'{"sizes": [{"as_expr": {"expr_str": "__import__(1)"}}]}'),
        ("data/weights/weight_0.so", b""),
    ],
)
def test_a_program_that_might_run_something_is_refused_until_it_is_trusted(tmp_path, name, content):
    """By what its archive holds; nothing is loaded."""
    file = tmp_path / "odd.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"odd/{name}", content)
    with pytest.raises(SettingsError, match=rf"odd/{name}.*--trust"):
        look_up(str(file), TARGET)
    with pytest.raises(SettingsError, match="not a whole file"):
        look_up(str(file), TARGET, trust=True)


def test_a_program_with_open_sizes_is_refused(tmp_path):
    """Trusted or not: code is made for one size."""
    file = tmp_path / "open.pt2"
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        residual(), (torch.zeros(2, 8, 16, 16),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, file)
    with pytest.raises(SettingsError, match="left open"):
        look_up(str(file), TARGET)
    with pytest.raises(UnsupportedError, match="one size"):
        look_up(str(file), TARGET, trust=True)


def test_a_file_s_own_sizes_are_not_changed(tmp_path):
    """What the user says has to be what the file says."""
    program = torch.export.export(residual(), (torch.zeros(1, 8, 16, 16),))
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(SettingsError, match=r"--input 2x8x16x16.*takes 1x8x16x16"):
        look_up(str(tmp_path / "model.pt2"), TARGET, "2x8x16x16")


def onnx_model(operator="Relu", domain="", opset=17, weight=None):
    """A graph of one operator, and of a sum with a weight, if there is one."""
    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy")
    middle = "m" if weight is not None else "y"
    nodes = [onnx.helper.make_node(operator, ["x"], [middle], domain=domain)]
    weights = []
    if weight is not None:
        nodes.append(onnx.helper.make_node("Add", ["m", "w"], ["y"]))
        weights.append(onnx.numpy_helper.from_array(weight, "w"))
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], weights)
    opsets = [onnx.helper.make_opsetid("", opset)]
    opsets += [onnx.helper.make_opsetid(domain, 1)] if domain else []
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_an_onnx_file_of_a_newer_opset_or_an_unknown_operator_says_which(tmp_path):
    """And what to do about it."""
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx_model(opset=99).SerializeToString())
    with pytest.raises(UnsupportedError, match=r"its opset is 99.*opset_version="):
        look_up(str(file), TARGET)
    file.write_bytes(onnx_model("Whirl", domain="my.own").SerializeToString())
    with pytest.raises(UnsupportedError, match="Whirl"):
        look_up(str(file), TARGET)


def test_an_onnx_file_whose_weights_lie_beside_it_and_are_gone_is_damaged(tmp_path):
    """Not a crash."""
    onnx = pytest.importorskip("onnx")
    file = tmp_path / "model.onnx"
    weight = np.zeros((1, 4), dtype=np.float32)
    onnx.save_model(
        onnx_model(weight=weight), file, save_as_external_data=True, location="w", size_threshold=0
    )
    (tmp_path / "w").unlink()
    with pytest.raises(SettingsError, match="not a whole ONNX model"):
        look_up(str(file), TARGET)


def test_what_is_used_elsewhere_or_put_out_is_no_epilogue():
    """A layer's output that others need has to be written before what follows it."""
    found = look_up("small_models:shared", TARGET, "1x8x16x16")
    assert [layer.task.epilogue for layer in found.layers] == [("bias",), ("bias",)]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_damaged_files_are_named(tmp_path, content, suffix):
    """Before anything else is done."""
    file = tmp_path / f"model.{suffix}"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"model\.{suffix}: not a"):
        look_up(str(file), TARGET)


@pytest.mark.parametrize(
    ("name", "inputs", "error", "message"),
    [
        ("resnet19", "", UnknownNameError, r"resnet19.*torchvision:NAME.*FILE\.onnx"),
        ("resnet18", "1x3x224x224", SettingsError, r"--input.*torchvision:resnet18"),
        ("torchvision:resnet19", "", SettingsError, r"no model 'resnet19'.*resnet18"),
        ("gone.onnx", "", SettingsError, "no such file"),
        ("gone.pt2", "", SettingsError, "no such file"),
        ("small_models:small", "", SettingsError, r"--input 1x3x224x224"),
        ("small_models:small", "3xx4", SettingsError, r"'3xx4' is no shape"),
        ("small_models:small", "1x3x0x4", SettingsError, r"is no shape"),
        ("small_models:small", "1x3:complex", SettingsError, r"is no shape.*int64"),
        ("small_models:small", "1x4x16x16", UnsupportedError, r"torch\.export cannot take it"),
        ("small_models:branching", "1x4", UnsupportedError, r"torch\.export cannot take it"),
        ("small_models:not_a_module", "1x4", UnsupportedError, r"returns a int.*Module"),
        ("small_models:absent", "1x4", SettingsError, r"'small_models:absent' cannot be imported"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(name, inputs, error, message):
    """Names, files, shapes and modules."""
    with pytest.raises(error, match=message):
        look_up(name, TARGET, inputs)


def test_inputs_are_written_as_they_are_read():
    """Several, with types."""
    assert parse_inputs("1x3x224x224,1x16:int64") == (
        Input(shape=(1, 3, 224, 224)),
        Input(shape=(1, 16), dtype="int64"),
    )
    assert source_of("a:b", "1x16:int64").written_inputs == "1x16:int64"


def test_a_model_of_which_nothing_can_be_tuned_is_refused():
    """The message says what it has."""
    with pytest.raises(UnsupportedError, match=r"nothing of it can be tuned yet.*matmul"):
        look_up("small_models:product", TARGET, "1x4")
