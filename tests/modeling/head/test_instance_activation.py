import torch

from insta_rtdetr.modeling.head.instance_activation import InstanceActivationDecoder, InstanceBranch


def branch(num_groups):
    return InstanceBranch(4, 6, 1, num_queries=3, num_groups=num_groups, num_classes=5, mask_dim=2).double()


def test_a_query_is_the_mean_of_the_features_where_its_map_is():
    one = branch(num_groups=1)
    torch.nn.init.zeros_(one.activation.weight)
    features = torch.randn(1, 4, 5, 7).double()
    # Equal weights everywhere: the mean of the map.
    expected = one.class_head(one.convs(features).mean((2, 3)))
    logits, embeddings, objectness = one(features)
    torch.testing.assert_close(logits, expected[:, None].expand(-1, 3, -1))
    assert embeddings.shape == (1, 3, 2) and objectness.shape == (1, 3)


def test_a_query_has_one_mean_of_each_group_of_maps():
    two = branch(num_groups=2)
    # The maps of the first group are equal everywhere, each of the second is nearly empty but for its bias.
    torch.nn.init.zeros_(two.activation.weight)
    torch.nn.init.eye_(two.fusion.weight)
    torch.nn.init.zeros_(two.fusion.bias)
    features = torch.randn(1, 4, 5, 7).double()
    mean = two.convs(features).mean((2, 3))
    queries = two._queries(two.convs(features))
    torch.testing.assert_close(queries, torch.cat([mean, mean], dim=1)[:, None].expand(-1, 3, -1))


def test_masks_are_twice_as_fine_as_the_features():
    decoder = InstanceActivationDecoder(
        feature_dim=4, dim=6, num_convs=2, num_queries=3, num_groups=2, num_classes=5, mask_dim=2
    )
    prediction = decoder(torch.randn(2, 4, 5, 7))
    assert prediction.mask_logits.shape == (2, 3, 10, 14)
    assert prediction.class_logits.shape == (2, 3, 5)
