"""Every config key this package adds to Detectron2's, with default, unit and meaning, in the order of the data flow."""

from detectron2.config import CfgNode


def add_insta_rtdetr_config(cfg: CfgNode) -> None:
    """Add the keys of insta_rtdetr to a Detectron2 config, in place.  Calling it twice changes nothing."""
    if "ENCODER" in cfg.MODEL:
        return
    _add_input_keys(cfg)
    _add_backbone_keys(cfg)
    _add_encoder_keys(cfg)
    _add_head_keys(cfg)
    _add_loss_keys(cfg)
    _add_solver_keys(cfg)
    _add_test_keys(cfg)


def _add_input_keys(cfg: CfgNode) -> None:
    # Size (height, width) in pixels that every image is stretched to before the network; empty keeps its shape.
    cfg.INPUT.FIXED_SIZE = ()
    # Training: sides in pixels, one drawn for each batch, that the FIXED_SIZE batch is resized to; empty for none.
    cfg.INPUT.MULTI_SCALE = ()
    # Probability of each of random brightness, contrast, saturation, hue and channel order.
    cfg.INPUT.PHOTOMETRIC_PROB = 0.0
    # Probability that an image is placed on a larger black canvas, and the largest canvas side as a factor.
    cfg.INPUT.ZOOM_OUT_PROB = 0.0
    cfg.INPUT.ZOOM_OUT_MAX_SCALE = 4.0
    # Probability of a crop that keeps a drawn overlap with an object (SSD's IoU crop).
    cfg.INPUT.IOU_CROP_PROB = 0.0
    # Large-scale jitter: (smallest, largest) factor of an image's size on its canvas, e.g. (0.1, 2.0); empty for none.
    cfg.INPUT.SCALE_JITTER = ()
    # Probability that an image is put together from parts of itself and three other training images (mosaic).
    cfg.INPUT.MOSAIC_PROB = 0.0
    # Probability that objects of another training image are pasted in (Simple Copy-Paste).
    cfg.INPUT.COPY_PASTE_PROB = 0.0
    # INPUT.CROP: probability, and short sides in pixels, one of which the image is resized to before; empty for none.
    cfg.INPUT.CROP.PROB = 1.0
    cfg.INPUT.CROP.RESIZE_SHORTEST_EDGE = ()
    # Objects whose box or mask is smaller than this after augmentation are dropped. Pixels.
    cfg.INPUT.MIN_OBJECT_SIZE = 1.0
    # The last iterations of a training run without photometric, zoom-out, crop, jitter, mosaic, copy-paste and
    # multi-scale. Count.
    cfg.INPUT.PLAIN_LAST_ITERS = 0
    # Unreadable images that training and evaluation skip (each named in the log) before they stop. Count.
    cfg.DATALOADER.MAX_UNREADABLE_IMAGES = 0


def _add_backbone_keys(cfg: CfgNode) -> None:
    # What is trained: "joint" (all), "detector" (all but the mask branch, which does not run: boxes alone, learnt from
    # data with or without masks) or "masks" (the mask branch alone, for the frozen detector in MODEL.WEIGHTS).  To
    # evaluate, "masks" is the same as "joint".  Not FastInst, which has no boxes.
    cfg.MODEL.STAGE = "joint"
    # Number of object classes `K`.
    cfg.MODEL.NUM_CLASSES = 80
    # RFDETRSeg: outputs of the class heads that belong to no class.  The published weights have 11, for the numbers
    # from 0 to 90 that are no category of COCO.  They are never an answer, but take part in choosing queries.
    cfg.MODEL.NUM_UNUSED_CLASSES = 0
    # build_timm_backbone: the timm model, and whether timm downloads its weights when MODEL.WEIGHTS is empty.
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = "resnet50d"
    cfg.MODEL.TIMM.PRETRAINED = False
    # Extra keyword arguments of timm.create_model, as "key=value" strings, for example 'pad_type="same"'.
    cfg.MODEL.TIMM.ARGS = ()
    # Names of the levels to use: res1 (stride 2), res2 (4), res3 (8), res4 (16), res5 (32).
    cfg.MODEL.TIMM.OUT_FEATURES = ("res2", "res3", "res4", "res5")
    # "FrozenBN" keeps batch norm as loaded; "BN" trains it.
    cfg.MODEL.TIMM.NORM = "FrozenBN"
    # build_hgnetv2_backbone: S (B1), M (B2), L (B4), X (B5) or H (B6); levels and norm as above.
    cfg.MODEL.HGNETV2 = CfgNode()
    cfg.MODEL.HGNETV2.SIZE = "L"
    cfg.MODEL.HGNETV2.OUT_FEATURES = ("res2", "res3", "res4", "res5")
    cfg.MODEL.HGNETV2.NORM = "FrozenBN"
    # Factors on the learning rate of the stages res2 to res5; empty for SOLVER.BACKBONE_MULTIPLIER.
    cfg.MODEL.HGNETV2.LEARNING_RATE_FACTORS = ()
    # build_dinov2_windowed_backbone: side of a patch in pixels, side of the learned grid of position codes in patches
    # (other inputs get interpolated codes), windows along each side of an image, and the numbers of blocks that have
    # run where outputs (block3, block6, ...) are taken.
    cfg.MODEL.DINOV2 = CfgNode()
    cfg.MODEL.DINOV2.PATCH_SIZE = 12
    cfg.MODEL.DINOV2.POSITION_GRID = 26
    cfg.MODEL.DINOV2.NUM_WINDOWS = 1
    cfg.MODEL.DINOV2.OUT_BLOCKS = (3, 6, 9, 12)


def _add_encoder_keys(cfg: CfgNode) -> None:
    cfg.MODEL.ENCODER = CfgNode()
    cfg.MODEL.ENCODER.NAME = "HybridEncoder"
    # Backbone levels that objects are detected on, finest first.
    cfg.MODEL.ENCODER.IN_FEATURES = ("res3", "res4", "res5")
    # Channels of every level.
    cfg.MODEL.ENCODER.HIDDEN_DIM = 256
    # PPMFPNEncoder: Detectron2's name of the norm after its convolutions.
    cfg.MODEL.ENCODER.NORM = "GN"
    # Attention within one level (AIFI): which of IN_FEATURES (empty: the coarsest), layers, heads, width of the
    # feed-forward part.
    cfg.MODEL.ENCODER.AIFI_FEATURE = ""
    cfg.MODEL.ENCODER.NUM_LAYERS = 1
    cfg.MODEL.ENCODER.NUM_HEADS = 8
    cfg.MODEL.ENCODER.FEEDFORWARD_DIM = 1024
    cfg.MODEL.ENCODER.DROPOUT = 0.0
    # Cross-scale fusion (CCFF): RepVGG blocks in each fusion block, and their width as a fraction of HIDDEN_DIM.
    # C2fProjector: pairs of convolutions.
    cfg.MODEL.ENCODER.NUM_FUSION_BLOCKS = 3
    cfg.MODEL.ENCODER.EXPANSION = 1.0
    # Temperature of the sine position code of AIFI.
    cfg.MODEL.ENCODER.POSITION_TEMPERATURE = 10000.0
    # Order in which positions meet features: "row_major" (theirs), or "column_major", what the original does.  The two
    # are the same for square inputs.
    cfg.MODEL.ENCODER.POSITION_ORDER = "row_major"


def _add_head_keys(cfg: CfgNode) -> None:
    cfg.MODEL.DECODER = CfgNode()
    # Queries `Q`.  May be changed at test without new weights, but for RFDETRSeg, whose queries are learned.
    cfg.MODEL.DECODER.NUM_QUERIES = 300
    # Channels of a query; 0: those of the encoder.  Not FastInst.
    cfg.MODEL.DECODER.HIDDEN_DIM = 0
    # Decoder layers `D` that are built and trained, and how many of them run at test (0: all).
    cfg.MODEL.DECODER.NUM_LAYERS = 6
    cfg.MODEL.DECODER.EVAL_LAYERS = 0
    cfg.MODEL.DECODER.NUM_HEADS = 8
    # RFDETRSeg: heads of deformable attention, and groups of queries in training that each answer for all objects.
    cfg.MODEL.DECODER.NUM_CROSS_HEADS = 16
    cfg.MODEL.DECODER.NUM_GROUPS = 13
    # Sampling points of deformable attention for each head and level.
    cfg.MODEL.DECODER.NUM_POINTS = 4
    cfg.MODEL.DECODER.FEEDFORWARD_DIM = 1024
    cfg.MODEL.DECODER.DROPOUT = 0.0
    # FastInst: learned queries beside these that predict nothing, and side of the learned grid of positions, in cells.
    cfg.MODEL.DECODER.NUM_AUX_QUERIES = 8
    cfg.MODEL.DECODER.POSITION_SIDE = 10
    # Side of the anchor box of each level, finest first, as a fraction of the image side.
    cfg.MODEL.DECODER.ANCHOR_SIZES = (0.10, 0.15, 0.25)
    # Whether positions next to a better one become queries after all others: for images with hundreds of objects, whose
    # queries would otherwise crowd on the clearest ones.
    cfg.MODEL.DECODER.LOCAL_MAXIMA = False
    # MaskRTDETR: whether queries start from the boxes around the masks that their positions predict (Mask DINO's
    # mask-enhanced boxes), not from the boxes that these predict.  Boxes that depend on masks cannot be trained in
    # stages: MODEL.STAGE detector and masks want False, which then also belongs to the model at test.
    cfg.MODEL.DECODER.MASK_ENHANCED_BOXES = True

    cfg.MODEL.MASK_HEAD = CfgNode()
    # Stride of the mask features: 2 (reads res1, which timm's models have), 4 (res2) or 8 pixels (res3); FastInst's is
    # that of its finest level.
    cfg.MODEL.MASK_HEAD.STRIDE = 4
    # Width in which queries and mask features are compared.
    cfg.MODEL.MASK_HEAD.DIM = 256
    # Whether a mask starts as the ellipse in its query's box: for images full of objects that look alike.
    cfg.MODEL.MASK_HEAD.BOX_PRIOR = False
    # MaskHybridEncoder: channels of the levels of its mask pyramid, and of the mask features made from them.
    cfg.MODEL.MASK_HEAD.PYRAMID_DIM = 64
    cfg.MODEL.MASK_HEAD.FEATURE_DIM = 64

    cfg.MODEL.DENOISING = CfgNode()
    # Noised copies of the targets in training: how many queries in all (0: none).
    cfg.MODEL.DENOISING.NUM_QUERIES = 100
    # Probability that a copy's label is replaced, and box noise as a fraction of the box's size.
    cfg.MODEL.DENOISING.LABEL_NOISE = 0.2
    cfg.MODEL.DENOISING.BOX_NOISE = 0.4


def _add_loss_keys(cfg: CfgNode) -> None:
    cfg.MODEL.MATCHER = CfgNode()
    cfg.MODEL.MATCHER.NAME = "HungarianMatcher"
    cfg.MODEL.MATCHER.CLASS_COST = 2.0
    cfg.MODEL.MATCHER.BOX_COST = 5.0
    cfg.MODEL.MATCHER.GIOU_COST = 2.0
    cfg.MODEL.MATCHER.MASK_COST = 5.0
    cfg.MODEL.MATCHER.DICE_COST = 5.0
    # LocationMatcher: what it earns that a query was taken from within an object.
    cfg.MODEL.MATCHER.LOCATION_COST = 1000.0
    # Random points at which masks are compared, shared by an image's queries. Count; 0: a 16th of the map's cells.
    cfg.MODEL.MATCHER.NUM_POINTS = 12544
    # Half of them are drawn in regions around the objects, so many times as large as their boxes; 0: none.
    cfg.MODEL.MATCHER.POINT_REGION = 0.0

    cfg.MODEL.LOSS = CfgNode()
    cfg.MODEL.LOSS.CLASS_WEIGHT = 1.0
    cfg.MODEL.LOSS.BOX_WEIGHT = 5.0
    cfg.MODEL.LOSS.GIOU_WEIGHT = 2.0
    cfg.MODEL.LOSS.MASK_WEIGHT = 5.0
    cfg.MODEL.LOSS.DICE_WEIGHT = 5.0
    # FastInst: weight of the class map that queries are taken from, and of the class "no object" among the others.
    cfg.MODEL.LOSS.PROPOSAL_WEIGHT = 20.0
    cfg.MODEL.LOSS.NO_OBJECT_WEIGHT = 0.1
    # Varifocal loss: weight of negatives and its exponent, `alpha` and `gamma`.  RFDETRSeg's IoU-aware cross-entropy:
    # share of the probability in the target of a match, and exponent of the weight of negatives.
    cfg.MODEL.LOSS.VARIFOCAL_ALPHA = 0.75
    cfg.MODEL.LOSS.VARIFOCAL_GAMMA = 2.0
    # Whether the weight of negatives is a constant to the gradient; MaskRTDETR's original learns through it.
    cfg.MODEL.LOSS.VARIFOCAL_DETACH = True
    # What the class score of a matched query learns in the last layer: its "box" or its "mask" IoU with the object.
    cfg.MODEL.LOSS.QUALITY = "box"
    # InstaRTDETR: whether the positions that become queries learn to predict masks too, as those of MaskRTDETR do.
    cfg.MODEL.LOSS.ENCODER_MASKS = False
    # How masks are read at points: as RF-DETR does (targets at the nearest pixel, predictions as if the outermost cells
    # of the map went on), not as PointRend does (both between pixels, and 0 outside the map).
    cfg.MODEL.LOSS.SAMPLE_INSIDE = False
    # PointRend's uncertain points: count `N` (0: a 16th of the map's cells), candidates for each kept point `k`,
    # uncertain share `beta`.
    cfg.MODEL.LOSS.NUM_POINTS = 12544
    cfg.MODEL.LOSS.OVERSAMPLE_RATIO = 3.0
    cfg.MODEL.LOSS.IMPORTANCE_RATIO = 0.75
    # Where candidates are drawn: in a region around the object, so many times as large as its box; 0: the whole image.
    # Few of an image's points fall on an object of ten pixels.
    cfg.MODEL.LOSS.POINT_REGION = 0.0


def _add_solver_keys(cfg: CfgNode) -> None:
    # Length of a training in passes over its images; 0: SOLVER.MAX_ITER counts.  It sets MAX_ITER, STEPS, WARMUP_ITERS,
    # EMA, CHECKPOINT_PERIOD, TEST.EVAL_PERIOD and INPUT.PLAIN_LAST_ITERS (engine/recipe.py), but for those of them that
    # the command line sets.
    cfg.SOLVER.MAX_EPOCHS = 0
    # Weight decay of embeddings (learned queries); None: WEIGHT_DECAY.
    cfg.SOLVER.WEIGHT_DECAY_EMBED = None
    # Factor on the learning rate of the backbone (for its parts see MODEL.HGNETV2).
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    # Mixed precision on GPU: "bfloat16" or "float16" (SOLVER.AMP.ENABLED turns it on).
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    # Mixed precision on CPU as well, in bfloat16: faster on those that multiply it (AMX), slower on others.
    cfg.SOLVER.AMP.ON_CPU = False
    # Exponential moving average of the weights: decay * (1 - exp(-iteration / RAMP_ITERS)).
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9999
    cfg.SOLVER.EMA.RAMP_ITERS = 2000
    # Equal parts of SOLVER.IMS_PER_BATCH that go through the network one after the other, to save memory; their
    # gradients make one step.  Iterations, schedules and periods count steps, whatever the parts.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # Evaluations (every TEST.EVAL_PERIOD) in a row without a better TEST.BEST_METRIC before training stops; 0: never.
    cfg.SOLVER.EARLY_STOPPING = CfgNode()
    cfg.SOLVER.EARLY_STOPPING.PATIENCE = 0
    # Newest checkpoints that stay on the disk, the final one counted and the best one not; 0: all. Count.
    cfg.SOLVER.KEEP_CHECKPOINTS = 3
    # Consecutive iterations with a loss that is not finite, skipped and logged, before training stops. Count.
    cfg.SOLVER.MAX_SKIPPED_ITERS = 20
    # Weights & Biases logging (needs the package wandb).
    cfg.WANDB = CfgNode()
    cfg.WANDB.ENABLED = False
    cfg.WANDB.PROJECT = "insta_rtdetr"


def _add_test_keys(cfg: CfgNode) -> None:
    # Fold batch norm, RepVGG branches and neighbouring linear maps into a copy of the network used in eval mode.
    cfg.MODEL.FUSE_ON_EVAL = True
    # Objects with a lower score are left out (before their masks are made). Probability.
    cfg.TEST.SCORE_THRESHOLD = 0.0
    # Objects whose box overlaps that of a better one of their class with an IoU above this are left out, after
    # TEST.DETECTIONS_PER_IMAGE were chosen; 1: none is, as queries should differ by themselves.
    cfg.TEST.NMS_THRESHOLD = 1.0
    # A pixel belongs to an object when its resized probability exceeds this.
    cfg.TEST.MASK_THRESHOLD = 0.5
    # What masks are resized to the image's size as: "probability", as Insta-RT-DETR does, "logit", or "logit_twice",
    # logits that are resized to the network's input on their way, as FastInst does.
    cfg.TEST.MASK_RESIZE = "probability"
    # Metric by which model_best.pth is chosen, as Detectron2 logs it; of boxes in the stage "detector", which has no
    # masks: bbox/AP for segm/AP.
    cfg.TEST.BEST_METRIC = "segm/AP"
