import pytest
import torch
from torch import nn

from insta_rtdetr.engine.optimizer import build_optimizer, parameter_groups
from tests.engine.tiny_training import tiny_cfg


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.attention = nn.MultiheadAttention(4, 1)
        self.norm = nn.LayerNorm(4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.tied = self.norm


def groups_of(model: nn.Module, **more) -> dict[tuple[float, float], set[str]]:
    settings = {"learning_rate": 1.0, "backbone_multiplier": 0.1, "weight_decay": 0.5}
    settings |= {"weight_decay_norm": 0.0, "weight_decay_bias": 0.0} | more
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, **settings)
    return {(group["lr"], group["weight_decay"]): {names[p] for p in group["params"]} for group in groups}


def test_groups_follow_the_recipe_of_the_original():
    assert groups_of(Model()) == {
        (0.1, 0.5): {"backbone.0.weight"},
        (0.1, 0.0): {"backbone.1.weight", "backbone.1.bias"},
        (1.0, 0.5): {"attention.in_proj_weight", "attention.out_proj.weight"},
        (1.0, 0.0): {"attention.in_proj_bias", "attention.out_proj.bias", "norm.weight", "norm.bias"},
    }


def test_without_own_decay_norms_and_biases_decay_like_the_rest():
    groups = groups_of(Model(), weight_decay_norm=None, weight_decay_bias=None)
    assert set(groups) == {(0.1, 0.5), (1.0, 0.5)}


def test_embeddings_can_have_their_own_decay():
    model = nn.ModuleDict({"queries": nn.Embedding(2, 3), "head": nn.Linear(2, 2, bias=False)})
    assert groups_of(model) == {(1.0, 0.5): {"queries.weight", "head.weight"}}
    assert groups_of(model, weight_decay_embed=0.0) == {(1.0, 0.5): {"head.weight"}, (1.0, 0.0): {"queries.weight"}}


def test_only_the_first_module_of_a_path_is_the_backbone():
    model = nn.ModuleDict({"head": nn.ModuleDict({"backbone": nn.Linear(2, 2, bias=False)})})
    assert set(groups_of(model)) == {(1.0, 0.5)}


def test_optimizer_reads_the_config(tmp_path):
    cfg = tiny_cfg("none", tmp_path, SOLVER__BASE_LR=0.02, SOLVER__BACKBONE_MULTIPLIER=0.5, SOLVER__WEIGHT_DECAY=0.3)
    optimizer = build_optimizer(cfg, Model())
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]
    found = {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    # By default, Detectron2 decays biases of layers like their weights, and norms not at all.
    assert found == {(0.01, 0.3), (0.01, 0.0), (0.02, 0.3), (0.02, 0.0)}


def test_gradients_are_clipped_per_parameter_when_asked(tmp_path):
    cfg = tiny_cfg("none", tmp_path)
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    model = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(cfg, model)
    model.weight.grad = torch.tensor([[5.0]])
    optimizer.step()
    assert model.weight.grad.item() == torch.tensor(cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE).item()


def test_sgd_moves_by_gradients_and_momentum(tmp_path):
    cfg = tiny_cfg("none", tmp_path, SOLVER__OPTIMIZER="SGD", SOLVER__BASE_LR=0.1, SOLVER__WEIGHT_DECAY=0.0)
    cfg.SOLVER.MOMENTUM = 0.5
    model = nn.Linear(1, 1, bias=False)
    optimizer, before = build_optimizer(cfg, model), model.weight.item()
    model.weight.grad = torch.tensor([[2.0]])
    for moved in (0.2, 0.2 + 0.3):
        optimizer.step()
        assert before - model.weight.item() == pytest.approx(moved)


def test_muon_moves_a_matrix_equally_far_in_all_directions_and_a_bias_as_adamw_does(tmp_path):
    cfg = tiny_cfg("none", tmp_path, SOLVER__OPTIMIZER="Muon", SOLVER__BASE_LR=0.1, SOLVER__WEIGHT_DECAY=0.0)
    model = nn.Linear(4, 4)
    optimizer = build_optimizer(cfg, model)
    before = model.weight.detach().clone(), model.bias.detach().clone()
    model.weight.grad = torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.5]))
    model.bias.grad = torch.tensor([4.0, 2.0, 1.0, -0.5])
    optimizer.step()
    lengths = torch.linalg.svdvals(before[0] - model.weight.detach())
    # The root mean square of the step is a fifth of the learning rate, as AdamW's usually is.
    assert lengths[3] > 0.6 * lengths[0] and 0.01 < lengths.square().mean().sqrt() / 2 < 0.03
    torch.testing.assert_close(before[1] - model.bias.detach(), torch.tensor([0.1, 0.1, 0.1, -0.1]))


def test_a_run_with_muon_goes_on_from_its_state(tmp_path):
    cfg = tiny_cfg("none", tmp_path, SOLVER__OPTIMIZER="Muon")
    states = []
    for resumed in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(4, 4)
        optimizer = build_optimizer(cfg, model)
        for step in range(3):
            if resumed and step == 2:
                saved, optimizer = optimizer.state_dict(), build_optimizer(cfg, model)
                optimizer.load_state_dict(saved)
            optimizer.zero_grad()
            model(torch.full((1, 4), step + 1.0)).sum().backward()
            optimizer.step()
        states.append(model.state_dict())
    torch.testing.assert_close(states[0], states[1])
