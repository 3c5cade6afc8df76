import sys

import pytest
from detectron2.utils.events import EventStorage

from insta_rtdetr.engine.writers import ProgressPrinter, WandbWriter, main_losses
from insta_rtdetr.errors import UserError
from tests.engine.tiny_training import tiny_cfg


def test_losses_of_other_layers_are_not_main():
    names = ["loss_vfl", "loss_vfl_aux_0", "loss_vfl_enc", "loss_mask_dice", "loss_mask_bce_dn_1"]
    names += ["loss_mask_bce", "lr"]
    assert main_losses(names) == ["loss_vfl", "loss_mask_dice", "loss_mask_bce"]


def test_line_in_the_log_has_iteration_time_left_and_main_losses(caplog):
    printer = ProgressPrinter(max_iter=100)
    with caplog.at_level("INFO"), EventStorage(39) as storage:
        storage.put_scalars(total_loss=3.0, loss_vfl=1.0, loss_vfl_aux_0=2.0, time=2.0, lr=0.5)
        printer.write()
    assert "iter: 40/100  time left: 0:02:00  total_loss: 3  loss_vfl: 1  time: 2.000 s  lr: 0.5" in caplog.text


def test_missing_wandb_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"WANDB.ENABLED .* `pip install wandb`"):
        WandbWriter(tiny_cfg("none", tmp_path))


def test_wandb_gets_each_value_once_at_its_iteration(tmp_path, monkeypatch):
    class Run:
        logged, finished = [], False

        def log(self, values, step):
            self.logged.append((step, values))

        def finish(self):
            self.finished = True

    class FakeWandb:
        run = Run()

        @classmethod
        def init(cls, project, **_):
            assert project == "insta_rtdetr"
            return cls.run

    monkeypatch.setitem(sys.modules, "wandb", FakeWandb)
    writer = WandbWriter(tiny_cfg("none", tmp_path))
    with EventStorage(0) as storage:
        storage.put_scalar("lr", 0.5)
        writer.write()
        writer.write()
        storage.iter = 1
        storage.put_scalar("loss", 2.0)
        writer.write()
    writer.close()
    assert FakeWandb.run.logged == [(0, {"lr": 0.5}), (1, {"loss": 2.0})] and FakeWandb.run.finished
