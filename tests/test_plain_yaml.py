"""Configs from strangers: plain values are read, everything that could run code or fill the memory is refused."""

import pytest

from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.errors import UserError
from insta_rtdetr.plain_yaml import read_plain_yaml

LAUGHS = "\n".join(["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))])


def test_plain_values_and_a_few_aliases_are_read():
    assert read_plain_yaml("A: &x [1, 2]\nB: *x\nC: text", "it") == {"A": [1, 2], "B": [1, 2], "C": "text"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("!!python/object/apply:os.getcwd []", "not plain yaml.*os.getcwd"),
        (LAUGHS, "repeats values by aliases"),
        ("a: &a [*a]", "repeats values by aliases"),
        ("[" * 100_000, "nested more than"),
        ("{a: " * 100_000, "nested more than"),
        ("a: [", "not valid yaml"),
        ("# " * 600_000, "1,200,000 characters"),
    ],
)
def test_everything_else_is_one_error(text, reason):
    with pytest.raises(UserError, match=f"^it .*{reason}"):
        read_plain_yaml(text, "it")


def test_a_config_file_runs_no_code_nor_does_its_base(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "base.yaml").write_text(f"MODEL: !!python/object/apply:os.mknod ['{marker}']\n")
    (tmp_path / "config.yaml").write_text("_BASE_: [base.yaml]\n")
    for name in ("base", "config"):
        with pytest.raises(UserError, match=r"base.yaml is not plain yaml"):
            setup_cfg(str(tmp_path / f"{name}.yaml"), [])
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("_BASE_: two.yaml", "is its own _BASE_"), ("_BASE_: no.yaml", "no.yaml .a _BASE_ file. not found"),
     ("- 1", "holds a list"), ("", "holds a NoneType")],
)  # fmt: skip
def test_a_base_that_is_none_is_one_error(tmp_path, text, reason):
    (tmp_path / "one.yaml").write_text(text)
    (tmp_path / "two.yaml").write_text("_BASE_: one.yaml")
    with pytest.raises(UserError, match=reason):
        setup_cfg(str(tmp_path / "one.yaml"), [])


def test_detectron2_s_own_configs_are_trusted():
    assert setup_cfg("COCO-Detection/retinanet_R_50_FPN_1x", []).MODEL.ANCHOR_GENERATOR.SIZES[0][0] == 32
