import json
import os

import matplotlib.image
import pytest

from insta_rtdetr.engine.curves import draw_curves, forget_later_metrics, read_metrics


def write(path, records) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_repeated_iterations_of_a_resumed_run_count_once(tmp_path):
    first = [{"iteration": i, "total_loss": 1.0} for i in (0, 20, 40)]
    again = [{"iteration": i, "total_loss": 2.0} for i in (20, 40)]
    file = write(tmp_path / "metrics.json", first + again)
    assert [(r["iteration"], r["total_loss"]) for r in read_metrics(file)] == [(0, 1.0), (20, 2.0), (40, 2.0)]


def test_lines_cut_off_by_a_kill_are_left_out(tmp_path):
    file = tmp_path / "metrics.json"
    file.write_text('{"iteration": 0, "lr": 1}\n{"iteration": 20, "l{"iteration": 20}\n{"iteration": 40, "lr": 3}')
    assert [record["iteration"] for record in read_metrics(str(file))] == [0, 40]


def test_a_resumed_run_forgets_what_it_will_record_again(tmp_path):
    file = tmp_path / "metrics.json"
    lines = ['{"iteration": 19, "lr": 1}\n', '{"iteration": 20, "segm/AP": NaN}\n', '{"iteration": 39, "lr": 1}\n']
    file.write_text("".join(lines) + '{"iteration": 5')
    forget_later_metrics(str(file), 40)
    assert file.read_text() == "".join(lines)
    forget_later_metrics(str(file), 39)
    assert file.read_text() == "".join(lines[:2])
    forget_later_metrics(str(tmp_path / "absent.json"), 39)
    assert not (tmp_path / "absent.json").exists()


@pytest.mark.parametrize(
    "records, num_axes",
    [
        ([{"iteration": 0, "bbox/AP": float("nan"), "segm/AP": 0.0, "total_loss": 0.0, "loss_box": 1.0, "lr": 0.1}], 3),
        ([{"iteration": i, "a/bbox/AP": 1.0, "b/segm/AP": 2.0, "loss_box": 1.0} for i in range(3)], 2),
        ([{"iteration": 0, "lr": 0.1, "bbox/AP": float("nan")}], 1),
    ],
)
def test_curves_are_a_whole_image_of_what_there_is_and_nothing_else_is_left(tmp_path, records, num_axes):
    draw_curves(write(tmp_path / "metrics.json", records), str(tmp_path / "curves.png"), batch_size=2)
    assert matplotlib.image.imread(tmp_path / "curves.png").shape == (370 * num_axes, 900, 4)
    assert sorted(os.listdir(tmp_path)) == ["curves.png", "metrics.json"]


def test_no_numbers_no_image(tmp_path):
    draw_curves(write(tmp_path / "metrics.json", [{"iteration": 0}]), str(tmp_path / "curves.png"), batch_size=2)
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_no_metrics_no_image(tmp_path):
    draw_curves(str(tmp_path / "metrics.json"), str(tmp_path / "curves.png"), batch_size=2)
    assert os.listdir(tmp_path) == []
