"""The check: nothing in a sound dataset, the right finding in each broken one, files and exit codes of the command."""

import json

import pytest

from insta_rtdetr.dataset_tools.check import check_folder
from insta_rtdetr.dataset_tools.command_line import main
from insta_rtdetr.dataset_tools.problems import KINDS

from .broken import BROKEN, UNUSUAL, change, read, sound_dataset, write


@pytest.fixture
def dataset(tmp_path):
    return sound_dataset(tmp_path / "dataset")


def check(folder):
    return check_folder(folder, num_workers=1, show_progress=False)


def kinds(result):
    return {kind for split in result.splits for kind in split.problems.counts}


def test_a_sound_dataset_passes_with_a_line_for_each_split(dataset):
    result = check(dataset)
    assert result.passes
    assert [str(line) for line in result.findings()] == [
        "ok    train: 3 images, 6 objects, 2 classes", "ok    val: 2 images, 4 objects, 2 classes"
    ]  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_dataset_has_its_finding(dataset, name):
    damage, kind, _ = BROKEN[name]
    damage(dataset)
    result = check(dataset)
    assert kind in kinds(result), [str(line) for line in result.findings()]
    if KINDS[kind].status == "FAIL":
        assert not result.passes
    assert all("\n" not in str(line) for line in result.findings())


@pytest.mark.parametrize("name", UNUSUAL)
def test_each_unusual_dataset_passes(dataset, name):
    UNUSUAL[name][0](dataset)
    result = check(dataset)
    assert result.passes and kinds(result) <= {"image_16_bit", "category_gap"}


def test_a_few_dropped_objects_are_a_note_and_many_are_a_failure(dataset):
    content = read(dataset)
    content["annotations"] = [
        annotation | {"id": 100 * copy + annotation["id"]} for copy in range(5) for annotation in content["annotations"]
    ]
    write(dataset, "train", content)
    change("annotations", bbox=[5, 8, 20, 0])(dataset)
    assert check(dataset).passes
    for index in range(1, 4):
        change("annotations", index, bbox=[5, 8, 20, 0])(dataset)
    result = check(dataset)
    assert not result.passes and "many_unusable" in kinds(result)


def test_a_missing_split_fails(dataset):
    (dataset / "annotations" / "instances_val.json").unlink()
    assert [str(line) for line in check(dataset).findings()][-1].startswith("FAIL  val: 1 split is missing")


def test_processes_find_what_one_finds_in_the_same_order(dataset):
    content = read(dataset)
    content["images"] += [{"id": 50 + i, "file_name": f"no{i}.png", "height": 40, "width": 60} for i in range(60)]
    write(dataset, "train", content)
    one, two = check(dataset), check_folder(dataset, num_workers=2, show_progress=False)
    assert [str(line) for line in one.findings()] == [str(line) for line in two.findings()]
    assert one.splits[0].problems.counts["image_missing"] == 60
    assert one.splits[0].problems.examples["image_missing"] == [f"no{i}.png" for i in range(5)]


def test_a_glance_opens_few_images_but_looks_for_all(dataset):
    (dataset / "train" / "b.png").write_text("broken")
    (dataset / "train" / "c.png").unlink()
    result = check_folder(dataset, num_opened=1, num_workers=1, show_progress=False)
    assert kinds(result) == {"image_missing"}


def test_the_command_writes_both_files_and_exits_with_0_only_if_it_passes(dataset, tmp_path, capsys):
    out = tmp_path / "report"
    assert main(["check", str(dataset), "--output", str(out), "--workers", "1"]) == 0
    result = json.loads((out / "check_dataset_result.json").read_text())
    assert result["done_flag"] and result["check_pass"] and result["findings"] == []
    assert result["attributes"]["num_classes"] == 2 and result["attributes"]["train_samples"] == 3
    assert result["analysis"]["train"]["class_counts"] == {"red": 3, "blue": 3}
    assert result["analysis"]["train"]["objects_per_image"] == {"2–3": 3}
    # square roots of 20 x 22 and of 25 x 16 pixels: 21 and 20
    assert result["analysis"]["train"]["object_sizes"] == {"16–31": 6}
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5 and "can be trained on" in page
    (dataset / "train" / "a.png").unlink()
    assert main(["check", str(dataset), "--output", str(out), "--workers", "1"]) == 1
    result = json.loads((out / "check_dataset_result.json").read_text())
    assert not result["check_pass"] and result["findings"][0]["kind"] == "image_missing"
    assert "needs mending" in (out / "report.html").read_text()
    assert "FAIL  train: 1 images are missing, first a.png" in capsys.readouterr().out


def test_names_from_the_dataset_are_escaped_in_the_page(dataset, tmp_path):
    change("categories", name="<script>")(dataset)
    main(["check", str(dataset), "--output", str(tmp_path), "--workers", "1"])
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_a_folder_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main(["check", str(tmp_path / "none"), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'} not found.  Name the dataset's folder.\n"
