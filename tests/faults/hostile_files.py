"""Files that would run code, fill the memory or take for ever, under every ending that the package opens."""

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

GIB = 2**30
DEEP = 1_000_000
# A pickle that makes an object of 10 GB from 20 bytes.
BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0bT\x02\x85R."
# Python's memo gets 2**31 places, 16 GB.
MEMO = b"\x80\x02}r\xff\xff\xff\x7f."
NESTED_LISTS = b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b"."


class Evil:
    """What a pickle of it does is to create a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self):
        return Path.touch, (self._marker,)


def doubled(rounds: int) -> bytes:
    """A pickle that doubles 1 KiB so many times, by writing it in hexadecimal digits."""
    start = b"B\x00\x04\x00\x00" + b"x" * 1024
    # encode(encode(..., "hex"), "hex"): the functions first, then the text, then a pair and a call for each.
    return b"\x80\x02" + b"c_codecs\nencode\n" * rounds + start + b"X\x03\x00\x00\x00hex\x86R" * rounds + b"."


def archive(content: bytes) -> bytes:
    """A file of torch.save with this pickle in it."""
    whole, changed = io.BytesIO(), io.BytesIO()
    torch.save({}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            data = content if entry.filename.endswith("data.pkl") else source.read(entry)
            target.writestr(entry.filename, data)
    return changed.getvalue()


def zip_bomb(file: Path) -> None:
    """A file of torch.save whose pickle is 2 GiB of zeros, packed into 2 MB."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        target.writestr("archive/version", "3\n")
        with target.open("archive/data.pkl", "w", force_zip64=True) as entry:
            for _ in range(2 * GIB // 2**24):
                entry.write(bytes(2**24))


def write_checkpoints(folder: Path, marker: Path) -> Iterator[tuple[str, Path]]:
    """Write each hostile checkpoint; give what it does, and the file."""
    evil = {"model": Evil(marker)}
    for ending in ("pth", "pt"):
        torch.save(evil, folder / f"code.{ending}")
        yield f".{ending} that runs code", folder / f"code.{ending}"
    for ending in ("pkl", "pdparams"):
        (folder / f"code.{ending}").write_bytes(pickle.dumps(evil))
        yield f".{ending} that runs code", folder / f"code.{ending}"
    zip_bomb(folder / "bomb.pth")
    yield ".pth, a zip bomb of 2 GiB", folder / "bomb.pth"
    pickles = {
        "10 GB from 20 bytes (bytearray)": BYTEARRAY,
        "16 GB of memo from 8 bytes": MEMO,
        "1 KiB doubled 25 times": doubled(25),
        "a million nested lists": NESTED_LISTS,
    }
    for what, content in pickles.items():
        for ending in ("pth", "pkl", "pdparams"):
            file = folder / f"pickle_{len(content)}.{ending}"
            file.write_bytes(archive(content) if ending == "pth" else content)
            yield f".{ending}, {what}", file
    torch.save({"model": {"encoder.w": torch.zeros(1).expand(10**12)}}, folder / "shape.pth")
    yield ".pth, one number as a tensor of 4 TB", folder / "shape.pth"
    torch.save({"model": {"encoder.w": torch.zeros(2, device="meta")}}, folder / "meta.pth")
    yield ".pth, a tensor without numbers (meta)", folder / "meta.pth"
    torch.save({"model": {"encoder.w": torch.zeros(2).to_sparse()}}, folder / "sparse.pth")
    yield ".pth, a sparse tensor", folder / "sparse.pth"
    (folder / "objects.pkl").write_bytes(pickle.dumps({"model": {"a": np.array([{}, []], dtype=object)}}))
    yield ".pkl, an array of objects", folder / "objects.pkl"
    for number, (what, config) in enumerate(configs(marker)):
        file = folder / f"config_{number}.pth"
        torch.save({"model": {"a": torch.zeros(1)}, "config": config}, file)
        yield f".pth whose config holds {what}", file
    for ending in ("pth", "pt", "pkl", "pdparams"):
        (folder / f"garbage.{ending}").write_bytes(np.random.default_rng(0).bytes(100_000))
        yield f".{ending} of random bytes", folder / f"garbage.{ending}"


def configs(marker: Path) -> Iterator[tuple[str, str]]:
    """Hostile texts of yaml: what each does, and the text."""
    yield "!!python/object that runs code", f"MODEL: !!python/object/apply:os.mknod ['{marker}']\n"
    levels = (f"A{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(9))}}}" for n in range(1, 10))
    yield "aliases that repeat 10**9 values", "\n".join(["A0: &a0 {x: 1}", *levels])
    yield "itself", "MODEL: &a {x: *a}\n"
    yield "100,000 nested lists", "MODEL: " + "[" * 100_000


def write_configs(folder: Path, marker: Path) -> Iterator[tuple[str, Path]]:
    """Write each hostile config; give what it does, and the file."""
    for number, (what, text) in enumerate(configs(marker)):
        (folder / f"{number}.yaml").write_text(text)
        yield f".yaml with {what}", folder / f"{number}.yaml"
    (folder / "self.yaml").write_text("_BASE_: self.yaml\n")
    yield ".yaml that is its own _BASE_", folder / "self.yaml"
    (folder / "one.yaml").write_text("_BASE_: two.yaml\n")
    (folder / "two.yaml").write_text("_BASE_: [one.yaml]\n")
    yield ".yaml with a _BASE_ loop of two files", folder / "one.yaml"
    (folder / "base.yaml").write_text("_BASE_: 0.yaml\n")
    yield ".yaml whose _BASE_ runs code", folder / "base.yaml"
    (folder / "large.yaml").write_text("MODEL: {A: 1}\n" + "# comment\n" * 5_000_000)
    yield ".yaml of 50 MB", folder / "large.yaml"
    (folder / "garbage.yaml").write_bytes(np.random.default_rng(0).bytes(100_000))
    yield ".yaml of random bytes", folder / "garbage.yaml"


def write_exported(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write each hostile exported model; give what it does, and the file."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 11))
    xml = {
        "entities that repeat 10**10 times": f'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY l0 "ha">{laughs}]>'
        "<net name='&l10;' version='11'></net>",
        "an external entity": '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
        "<net name='&f;' version='11'></net>",
        "a constant of 4 TB": _openvino_constant(10**12),
        "1,000,000 nested elements": "<net>" + "<a>" * DEEP,
    }
    for number, (what, text) in enumerate(xml.items()):
        (folder / f"{number}.xml").write_text(text)
        (folder / f"{number}.bin").write_bytes(bytes(8))
        yield f".xml with {what}", folder / f"{number}.xml"
    for what, file in _onnx_files(folder):
        yield f".onnx with {what}", file
    for ending in ("onnx", "xml"):
        (folder / f"garbage.{ending}").write_bytes(np.random.default_rng(0).bytes(100_000))
        yield f".{ending} of random bytes", folder / f"garbage.{ending}"


def _openvino_constant(size: int) -> str:
    port = f'<port id="0" precision="FP32"><dim>{size}</dim></port>'
    data = f'<data element_type="f32" shape="{size}" offset="0" size="{4 * size}"/>'
    constant = f'<layer id="0" name="c" type="Const" version="opset1">{data}<output>{port}</output></layer>'
    result = f'<layer id="1" name="r" type="Result" version="opset1"><input>{port}</input></layer>'
    edge = '<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>'
    content = f"<layers>{constant}{result}</layers><edges>{edge}</edges>"
    return f'<?xml version="1.0"?><net name="m" version="11">{content}</net>'


def _onnx_files(folder: Path) -> Iterator[tuple[str, Path]]:
    from onnx import TensorProto, helper

    def save(name: str, tensor: TensorProto) -> Path:
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        node = helper.make_node("Identity", [tensor.name], ["y"])
        model = helper.make_model(helper.make_graph([node], "g", [], [output], [tensor]), ir_version=9)
        del model.opset_import[:]
        model.opset_import.add(version=17)
        (folder / name).write_bytes(model.SerializeToString())
        return folder / name

    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10**12], raw_data=bytes(8))
    yield "a constant of 4 TB", save("huge.onnx", huge)
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "../../../../../../etc/passwd", "offset": "0", "length": "16"}.items():
        outside.external_data.add(key=key, value=value)
    yield "numbers from /etc/passwd", save("outside.onnx", outside)
