"""model.train(...) is train_net.py --dataset."""

import pytest
import torch

from insta_rtdetr import create_model
from insta_rtdetr.errors import UserError
from insta_rtdetr.predict import Model
from tests.data import trees

QUICK = ["DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2]


def test_it_gives_the_best_checkpoint_and_its_metrics_and_goes_on_with_resume(model, tmp_path, capsys):
    data = trees.write_yolo(tmp_path / "cups")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    result = model.train(data, epochs=1, output=tmp_path / "out", opts=QUICK)
    assert result.checkpoint == tmp_path / "out" / "model_best.pth" and {"segm/AP", "bbox/AP"} <= result.metrics.keys()
    assert "weights        " in capsys.readouterr().out
    trained = create_model(result.checkpoint)
    assert isinstance(trained, Model) and trained.categories.names == ("cup", "pen")
    # The model itself stays as it is.
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert model.cfg.MODEL.NUM_CLASSES == 5

    model.train(data, epochs=2, output=tmp_path / "out", resume=True, opts=QUICK)
    assert "the run goes on after iteration 1, epoch 1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments, part",
    [
        ({"epochs": 0}, "epochs is 0, wanted at least 1"),
        ({"opts": ["SOLVER.BASE_LRR", 1.0]}, "In opts: there is no config key SOLVER.BASE_LRR"),
        ({"opts": ["SOLVER.BASE_LR"]}, "KEY VALUE pairs"),
        ({"dataset": "absent"}, "absent not found"),
    ],
)
def test_what_is_wrong_is_named(model, tmp_path, arguments, part):
    arguments = {"dataset": trees.write_yolo(tmp_path / "cups"), "output": tmp_path / "out"} | arguments
    with pytest.raises(UserError, match=part):
        model.train(**arguments)
    assert not (tmp_path / "out").exists()
