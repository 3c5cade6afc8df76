"""tools/plot_speed.py puts models where the benchmark measured them."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from insta_rtdetr.errors import UserError

TOOL = Path(__file__).resolve().parents[1] / "tools/plot_speed.py"
MACHINE = {"cpu": "A processor", "gpu": None, "threads": 2, "torch": "2.11.0", "instruction_sets": ["AVX2"]}
LARGE, SMALL = "rfdetr_seg_large_504", "rfdetr_seg_nano_312"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("plot_speed", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("plot_speed")


def report(name: str, network: float, whole: float, batch_size: int = 1) -> dict:
    times = {"stages_ms": {"network": {"median": network}}, "end_to_end_ms": {"median": whole}}
    return {"config_file": f"{name}.yaml", "machine": MACHINE, "batch_size": batch_size} | times


def with_backends(name: str, *rows: tuple[str, float, str]) -> dict:
    backends = [
        {"backend": name, "network_ms": {"median": ms}, "end_to_end_ms": {"median": 2 * ms}, "parity": parity}
        for name, ms, parity in rows
    ]
    return {"config_file": name, "machine": MACHINE, "backends": backends}


def test_a_point_has_the_time_of_an_image_and_the_published_ap(tool):
    (point,) = tool.points_of(report(LARGE, 100, 150, batch_size=2), "network")
    assert point == tool.Point(LARGE, "PyTorch", 50.0, 47.1)
    (point,) = tool.points_of(report(LARGE, 100, 150), "end-to-end")
    assert point.milliseconds == 150


def test_backends_are_points_of_their_own_unless_they_find_other_objects(tool):
    made = with_backends(LARGE, ("eager", 90, "-"), ("openvino", 60, "passed"), ("openvino-bf16", 20, "FAILED"))
    assert [(p.runtime, p.milliseconds) for p in tool.points_of(made, "network")] == [("PyTorch", 90), ("openvino", 60)]


def test_models_without_published_ap_have_no_point(tool):
    assert not list(tool.points_of(report("insta_rtdetr_R18vd_D3_640", 1, 1), "network"))
    assert not list(tool.points_of(report("my_own", 1, 1), "network"))


def test_the_front_has_the_models_that_none_beats(tool):
    places = {"a": (10, 40), "b": (20, 39), "c": (20, 45), "d": (30, 45)}
    points = [tool.Point(name, "", *place) for name, place in places.items()]
    assert [point.name for point in tool.front(points)] == ["a", "c"]


def test_a_figure_is_written(tool, tmp_path, capsys):
    (tmp_path / "all.json").write_text(json.dumps([report(LARGE, 100, 150), report(SMALL, 40, 60)]))
    (tmp_path / "one.json").write_text(json.dumps(with_backends(LARGE, ("eager", 99, "-"), ("openvino", 60, "passed"))))
    files = [str(tmp_path / name) for name in ("all.json", "one.json")]
    assert tool.main([*files, "--output", str(tmp_path / "speed.svg")]) == 0
    assert "4 points" in capsys.readouterr().out
    assert (tmp_path / "speed.svg").read_text().startswith("<?xml")


def test_labels_do_not_cover_each_other(tool):
    names = [f"rfdetr_seg_size{index}_number" for index in range(6)]
    points = [tool.Point(name, "PyTorch", 100 + index, 45 + index / 10) for index, name in enumerate(names)]
    figure = tool.draw(points, "title")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [text for text in axes.texts if text.get_text()]
    assert sorted(text.get_text() for text in texts) == [f"size{index}" for index in range(6)]
    places = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])
    dots = axes.transData.transform([(point.milliseconds, point.mask_ap) for point in points])
    assert not any(place.contains(*dot) for place in places for dot in dots)


def test_names_are_shortened_by_what_a_family_shares(tool):
    names = ["rfdetr_seg_nano_312", "rfdetr_seg_nano_384", "mask_rtdetr_hgnetv2_s_640", "mask_rtdetr_hgnetv2_x_640"]
    assert tool.short_names(names) == ["312", "384", "hgnetv2_s_640", "hgnetv2_x_640"]
    assert tool.short_names(["insta_rtdetr_R50vd_D6_640"]) == ["R50vd_D6_640"]


@pytest.mark.parametrize("content", ["{", "3", '{"a": 1}', '{"config_file": "a", "machine": {"cpu": "b"}}'])
def test_other_files_are_refused_in_one_line(tool, tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json is no report"):
        tool.plot([str(tmp_path / "a.json")])


def test_reports_without_published_ap_give_no_figure(tool, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(report("my_own", 1, 1)))
    with pytest.raises(UserError, match="published AP"):
        tool.plot([str(tmp_path / "a.json")])
