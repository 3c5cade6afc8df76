"""The list of published weights says something sound of every config of COCO."""

import json
import re
from pathlib import Path

import pytest

from insta_rtdetr.benchmark.measure import measure_config
from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.errors import UserError
from insta_rtdetr.zoo import backbone_name, config_files, configs_without_weights, find_published, published_files
from insta_rtdetr.zoo.published import LIST_FILE
from insta_rtdetr.zoo.table import measurements

COCO = sorted(name for name, file in config_files().items() if file.parts[-3] == "coco")


@pytest.mark.parametrize("name", COCO)
def test_a_config_of_coco_has_published_weights_or_is_known_to_have_none(name):
    assert (name in published_files()) != (name in configs_without_weights())


def test_configs_without_weights_exist():
    assert set(configs_without_weights()) <= set(COCO)


@pytest.mark.parametrize("published", published_files().values(), ids=lambda published: published.name)
def test_an_entry_is_sound(published):
    assert re.fullmatch(r"[\w.-]+", published.name)
    assert re.fullmatch(r"[\w.-]+\.(pth|pkl|pdparams)", published.file_name)
    assert published.address.startswith("https://")
    assert re.fullmatch(r"|sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}", published.checksum)
    assert published.licence in ("Apache-2.0", "MIT", "BSD-3-Clause")
    for value in (published.mask_ap, published.box_ap):
        assert value is None or 30 < value < 60


def test_no_name_and_no_address_comes_twice():
    def refuse_twice(pairs):
        assert len({key for key, _ in pairs}) == len(pairs), pairs
        return dict(pairs)

    json.loads(Path(LIST_FILE).read_text(), object_pairs_hook=refuse_twice)
    addresses = [published.address for published in published_files().values()]
    assert len(set(addresses)) == len(addresses)


def test_a_backbone_belongs_to_a_config():
    names = {backbone_name(setup_cfg(str(file), [])) for file in config_files().values()}
    backbones = [published.backbone for published in published_files().values() if published.backbone]
    assert backbones and set(backbones) <= names and len(set(backbones)) == len(backbones)


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(UserError, match=r"'insta_rtdetr_R50vd_D6'.  The nearest name is insta_rtdetr_R50vd_D6_640;"):
        find_published("published://insta_rtdetr_R50vd_D6")


def test_every_config_has_been_measured():
    assert set(measurements()) == set(config_files()), "run tools/measure_models.py NAME ..."


@pytest.mark.parametrize("name", ["quickstart_MNV2_D3_256", "rfdetr_seg_nano_312", "fastinst_MNV2_ppm-fpn_x1_320"])
def test_what_was_measured_is_what_there_is(name):
    assert measure_config(name) == measurements()[name]
