from insta_rtdetr.evaluation.table import ap_table

NAN = float("nan")
SIZES = {"APs": 43.8, "APm": 60.3, "APl": NAN}
RESULTS = {
    "bbox": {"AP": 44.45, "AP50": 70.0, "AP75": 50.0, **SIZES, "AP-cup": 40.0, "AP-pen": NAN},
    "segm": {"AP": 45.24, "AP50": 74.0, "AP75": 50.2, **SIZES, "AP-cup": 41.0, "AP-pen": NAN},
}


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_boxes_and_masks_in_percent():
    assert words(ap_table(RESULTS, "val")) == [
        ["val", "AP", "AP50", "AP75", "small", "medium", "large"],
        ["box", "44.5", "70.0", "50.0", "43.8", "60.3", "-"],
        ["mask", "45.2", "74.0", "50.2", "43.8", "60.3", "-"],
    ]


def test_each_class_if_asked_for():
    assert words(ap_table(RESULTS, "val", per_class=True))[4:] == [
        ["class", "box", "AP", "mask", "AP"], ["cup", "40.0", "41.0"], ["pen", "-", "-"],
    ]  # fmt: skip


def test_of_one_class_there_is_no_second_table():
    assert len(words(ap_table({"bbox": {"AP": 1.0}}, "val", per_class=True))) == 2


def test_metrics_that_an_evaluator_does_not_have_are_no_columns():
    table = words(ap_table({"segm": {"AP": 10.0, "AP50": 20.0}}, "val"))
    assert table == [["val", "AP", "AP50"], ["mask", "10.0", "20.0"]]


def test_nothing_scored():
    assert ap_table({}, "val") == "val nothing was scored"
