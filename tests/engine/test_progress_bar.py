import io
from types import SimpleNamespace

from detectron2.utils.events import EventStorage

from insta_rtdetr.engine.hooks import ProgressBarHook


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream) -> str:
    hook = ProgressBarHook(stream)
    with EventStorage(2) as storage:
        hook.trainer = SimpleNamespace(start_iter=2, max_iter=4, storage=storage)
        hook.before_train()
        for storage.iter in (2, 3):
            storage.put_scalar("total_loss", 1.5)
            hook.after_step()
        hook.after_train()
    return stream.getvalue()


def test_a_terminal_shows_iterations_and_time_left():
    assert "2/4" in run(Terminal())


def test_a_file_gets_no_bar():
    assert run(io.StringIO()) == ""
