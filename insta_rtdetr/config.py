"""Config keys that this package adds to Detectron2's.

The keys stand in the order of the data flow.  Each has a default, and a comment with its meaning and unit.
"""

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
    # Training: size (height, width) in pixels of every image that augmentation makes; empty: FIXED_SIZE, or without one
    # what MIN_SIZE_TRAIN makes of the image.
    cfg.INPUT.TRAIN_SIZE = ()
    # Training: sides in pixels, one drawn for each batch, that the FIXED_SIZE batch is resized to; empty for none.
    cfg.INPUT.MULTI_SCALE = ()
    # Probability of each of random brightness, contrast, saturation, hue and channel order.
    cfg.INPUT.PHOTOMETRIC_PROB = 0.0
    # Probability that an image is placed on a larger canvas, and the largest canvas side as a factor.
    cfg.INPUT.ZOOM_OUT_PROB = 0.0
    cfg.INPUT.ZOOM_OUT_MAX_SCALE = 4.0
    # Probability of a crop that overlaps an object by a random IoU (SSD's IoU crop).
    cfg.INPUT.IOU_CROP_PROB = 0.0
    # Large-scale jitter: (smallest, largest) factor of an image's size on its canvas, e.g. (0.1, 2.0); empty for none.
    cfg.INPUT.SCALE_JITTER = ()
    # Probability that an image is put together from parts of itself and three other training images (mosaic).
    cfg.INPUT.MOSAIC_PROB = 0.0
    # Probability that objects of another training image are pasted in (Simple Copy-Paste).
    cfg.INPUT.COPY_PASTE_PROB = 0.0
    # Training: grey level, 0 to 255, around images that do not fill their canvas.
    cfg.INPUT.FILL_LEVEL = 0
    # INPUT.CROP: probability, and short sides in pixels, one of which the image is resized to before; empty for none.
    cfg.INPUT.CROP.PROB = 1.0
    cfg.INPUT.CROP.RESIZE_SHORTEST_EDGE = ()
    # Objects whose box or mask is smaller than this after augmentation are dropped. Pixels.
    cfg.INPUT.MIN_OBJECT_SIZE = 1.0
    # Number of iterations at the end of a training that run without photometric distortion, zoom-out, crops, jitter,
    # mosaic, copy-paste and multi-scale.
    cfg.INPUT.PLAIN_LAST_ITERS = 0
    # Number of unreadable images that training and evaluation skip, each with a line in the log, before they stop.
    cfg.DATALOADER.MAX_UNREADABLE_IMAGES = 0


def _add_backbone_keys(cfg: CfgNode) -> None:
    # Part of the model that is trained.  "joint": all of it.  "detector": all but the mask branch, which does not run;
    # the model predicts boxes alone, and learns them from data with or without masks.  "masks": the mask branch alone,
    # on the frozen detector in MODEL.WEIGHTS.  In evaluation, "masks" is the same as "joint".  FastInst, SOLOv2 and
    # SparseInst, which have no boxes, and PPYOLOESeg can only be trained as "joint".
    cfg.MODEL.STAGE = "joint"
    # Number of object classes `K`.
    cfg.MODEL.NUM_CLASSES = 80
    # RFDETRSeg: number of outputs of the class heads that belong to no class.  The published weights have 11, for the
    # numbers from 0 to 90 that are no category id of COCO.  They are never predicted, but influence which queries are
    # selected.
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
    # build_csp_represnet_backbone: factors on the channels and on the numbers of blocks of the size L; levels as above.
    cfg.MODEL.CSPREPRESNET = CfgNode()
    cfg.MODEL.CSPREPRESNET.WIDTH = 0.5
    cfg.MODEL.CSPREPRESNET.DEPTH = 0.33
    cfg.MODEL.CSPREPRESNET.OUT_FEATURES = ("res3", "res4", "res5")
    # build_dinov2_windowed_backbone: side of a patch in pixels; side of the learned grid of position embeddings in
    # patches (they are interpolated for inputs of another size); number of windows along each side of an image; and the
    # blocks, counted from 1, whose outputs (block3, block6, ...) are used.
    cfg.MODEL.DINOV2 = CfgNode()
    cfg.MODEL.DINOV2.PATCH_SIZE = 12
    cfg.MODEL.DINOV2.POSITION_GRID = 26
    cfg.MODEL.DINOV2.NUM_WINDOWS = 1
    cfg.MODEL.DINOV2.OUT_BLOCKS = (3, 6, 9, 12)


def _add_encoder_keys(cfg: CfgNode) -> None:
    cfg.MODEL.ENCODER = CfgNode()
    cfg.MODEL.ENCODER.NAME = "HybridEncoder"
    # Backbone levels on which objects are detected, finest first.
    cfg.MODEL.ENCODER.IN_FEATURES = ("res3", "res4", "res5")
    # DeformableEncoder: levels after those of IN_FEATURES, each half as large as the one before it.
    cfg.MODEL.ENCODER.NUM_EXTRA_LEVELS = 0
    # Channels of every level; CSPPANEncoder: of the finest, and each coarser level has twice as many;
    # UnifiedMaskEncoder: of its convolutions.
    cfg.MODEL.ENCODER.HIDDEN_DIM = 256
    # PPMFPNEncoder, DeformableEncoder, UnifiedMaskEncoder: Detectron2's name of the norm after its convolutions, in
    # SOLOv2 after those of the head too.
    cfg.MODEL.ENCODER.NORM = "GN"
    # Attention within one level (AIFI): which of IN_FEATURES (empty: the coarsest), layers, heads, width of the
    # feed-forward part.  The latter three are those of DeformableEncoder's attention over all levels, too.
    cfg.MODEL.ENCODER.AIFI_FEATURE = ""
    cfg.MODEL.ENCODER.NUM_LAYERS = 1
    cfg.MODEL.ENCODER.NUM_HEADS = 8
    cfg.MODEL.ENCODER.FEEDFORWARD_DIM = 1024
    cfg.MODEL.ENCODER.DROPOUT = 0.0
    # DeformableEncoder: sampling points for each head and level.
    cfg.MODEL.ENCODER.NUM_POINTS = 4
    # Cross-scale fusion (CCFF): RepVGG blocks in each fusion block, and their width as a fraction of HIDDEN_DIM.
    # C2fProjector: pairs of convolutions.  CSPPANEncoder: blocks of a convolution and a RepVGG block.
    cfg.MODEL.ENCODER.NUM_FUSION_BLOCKS = 3
    cfg.MODEL.ENCODER.EXPANSION = 1.0
    # Temperature of AIFI's sine position encoding.
    cfg.MODEL.ENCODER.POSITION_TEMPERATURE = 10000.0
    # Order of the position embeddings: "row_major", the order of the features, or "column_major", which the original
    # uses although its features are row-major.  The two are the same for square inputs.
    cfg.MODEL.ENCODER.POSITION_ORDER = "row_major"


def _add_head_keys(cfg: CfgNode) -> None:
    cfg.MODEL.DECODER = CfgNode()
    # Not FastInst, not RFDETRSeg: queries beside the others in training, from the positions of the highest scores; see
    # MODEL.LOSS.ONE_TO_MANY.
    cfg.MODEL.DECODER.NUM_ONE_TO_MANY_QUERIES = 0
    # Queries `Q`.  May be changed at test without new weights, but for RFDETRSeg and SparseInst, whose queries are
    # learned.  SOLOv2: pairs of a cell and a class whose masks Matrix NMS compares, at test.
    cfg.MODEL.DECODER.NUM_QUERIES = 300
    # Channels of a query; 0: as many as the encoder's.  FastInst does not use it.  SparseInst, SOLOv2:
    # channels of the convolutions.
    cfg.MODEL.DECODER.HIDDEN_DIM = 0
    # Number of decoder layers `D` that are built and trained, and how many of them run in inference (0: all).
    # SparseInst: NUM_LAYERS convolutions each before its activation maps and before its mask features.  SOLOv2: as many
    # each before its classes and before its mask embeddings.
    cfg.MODEL.DECODER.NUM_LAYERS = 6
    cfg.MODEL.DECODER.EVAL_LAYERS = 0
    cfg.MODEL.DECODER.NUM_HEADS = 8
    # RFDETRSeg: heads of deformable attention, and groups of queries in training, each of which learns to find all
    # objects.  SparseInst: NUM_GROUPS activation maps of each query.
    cfg.MODEL.DECODER.NUM_CROSS_HEADS = 16
    cfg.MODEL.DECODER.NUM_GROUPS = 13
    # Sampling points of deformable attention for each head and level.
    cfg.MODEL.DECODER.NUM_POINTS = 4
    cfg.MODEL.DECODER.FEEDFORWARD_DIM = 1024
    cfg.MODEL.DECODER.DROPOUT = 0.0
    # FastInst: number of learned auxiliary queries, which predict nothing, and side of the learned grid of position
    # embeddings, in cells.
    cfg.MODEL.DECODER.NUM_AUX_QUERIES = 8
    cfg.MODEL.DECODER.POSITION_SIDE = 10
    # InstaRTDETR: whether heads move a box in units of its sides and scale these (RF-DETR), not its logits.  Half the
    # side of a small object is little in logits: not much more than what they change by in one step of training.
    cfg.MODEL.DECODER.RELATIVE_BOXES = False
    # Side of the anchor box of each level, finest first, as a fraction of the image side.
    cfg.MODEL.DECODER.ANCHOR_SIZES = (0.10, 0.15, 0.25)
    # Whether positions next to one with a higher score become queries only after all others.  It helps on images with
    # hundreds of objects, where most queries would otherwise be taken from the clearest objects.
    cfg.MODEL.DECODER.LOCAL_MAXIMA = False
    # LOCAL_MAXIMA: whether a better position of another level counts too, at the same place or, in cells of the coarser
    # of the two levels, next to it: objects are mostly found on two levels, which makes two queries for one of them.
    cfg.MODEL.DECODER.MAXIMA_ACROSS_LEVELS = False
    # MaskRTDETR, MaskDINO: whether queries start from the boxes around the masks that their positions predict ("mask-
    # enhanced boxes"), not from the boxes that these predict.  Boxes that depend on masks cannot be trained in stages:
    # MODEL.STAGE detector and masks want False, which then also belongs to the model at test.
    cfg.MODEL.DECODER.MASK_ENHANCED_BOXES = True
    # Whether such a box ends where the last column and row of cells of the mask end, or where these begin (Mask DINO's
    # "mask2box", which some published weights learnt with).
    cfg.MODEL.DECODER.MASK_BOX_LAST_CELL = True

    # SOLOv2: cells along each side of the grid of each level, finest first.
    cfg.MODEL.DECODER.GRID_SIDES = (40, 36, 24, 16, 12)
    # SOLOv2: probability that a class must exceed before its mask is computed and scored.
    cfg.MODEL.DECODER.CLASS_THRESHOLD = 0.1
    # PPYOLOESeg: bins of the distribution of the distance from a position to a side of its box: 0, 1, ... cells.
    cfg.MODEL.DECODER.NUM_BINS = 17

    cfg.MODEL.MASK_HEAD = CfgNode()
    # Stride of the mask features in pixels: 2 (needs res1, which timm's models have), 4 (res2) or 8 (res3).  FastInst
    # uses the stride of its finest level, SOLOv2 4, SparseInst and PPYOLOESeg half the stride of their finest level.
    cfg.MODEL.MASK_HEAD.STRIDE = 4
    # Channels of the mask embeddings and of the mask features that they are multiplied with.
    cfg.MODEL.MASK_HEAD.DIM = 256
    # Whether a mask starts as the ellipse in its query's box.  It helps on images full of objects that look alike.
    cfg.MODEL.MASK_HEAD.BOX_PRIOR = False
    # MaskHybridEncoder: channels of the levels of its mask pyramid, and of the mask features computed from them.
    # CSPPANEncoder: FEATURE_DIM channels before those of the masks.
    cfg.MODEL.MASK_HEAD.PYRAMID_DIM = 64
    cfg.MODEL.MASK_HEAD.FEATURE_DIM = 64

    cfg.MODEL.DENOISING = CfgNode()
    # Number of denoising queries (noised copies of the targets) in training; 0 for none.
    cfg.MODEL.DENOISING.NUM_QUERIES = 100
    # Probability that a copy's label is replaced, and box noise as a fraction of the box's size.
    cfg.MODEL.DENOISING.LABEL_NOISE = 0.2
    cfg.MODEL.DENOISING.BOX_NOISE = 0.4
    # Whether every copy has a partner with more noise, from 1 to 2 times BOX_NOISE, that learns to be no object (DINO).
    cfg.MODEL.DENOISING.CONTRASTIVE = False


def _add_loss_keys(cfg: CfgNode) -> None:
    cfg.MODEL.MATCHER = CfgNode()
    cfg.MODEL.MATCHER.NAME = "HungarianMatcher"
    cfg.MODEL.MATCHER.CLASS_COST = 2.0
    cfg.MODEL.MATCHER.BOX_COST = 5.0
    cfg.MODEL.MATCHER.GIOU_COST = 2.0
    cfg.MODEL.MATCHER.MASK_COST = 5.0
    cfg.MODEL.MATCHER.DICE_COST = 5.0
    # DiceMatcher: CLASS_COST and DICE_COST are the exponents of a class's probability and of the masks' dice score,
    # which are multiplied; `beta` and `alpha` in SparseInst.
    # TaskAlignedMatcher: CLASS_COST and GIOU_COST are the exponents of a class's probability and of the boxes' IoU,
    # `alpha` and `beta` in TOOD; and the number of positions that may be assigned to each object.
    cfg.MODEL.MATCHER.NUM_POSITIONS = 13
    # GridMatcher: for each grid, the range of sizes of its objects (the square root of the area of the box, in pixels);
    # and sides of the region around an object's centre whose cells learn it, as a fraction of its box's.
    cfg.MODEL.MATCHER.SCALE_RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    cfg.MODEL.MATCHER.CENTRE_SIZE = 0.2
    # LocationMatcher: how much it lowers the cost of a pair that the query was taken from within the object.
    cfg.MODEL.MATCHER.LOCATION_COST = 1000.0
    # Number of random points at which masks are compared, the same for all queries of an image; 0: a 16th of the map's
    # cells.
    cfg.MODEL.MATCHER.NUM_POINTS = 12544
    # Half of these points are drawn in regions around the objects, with sides this many times those of the boxes; 0 for
    # none.
    cfg.MODEL.MATCHER.POINT_REGION = 0.0

    cfg.MODEL.LOSS = CfgNode()
    cfg.MODEL.LOSS.CLASS_WEIGHT = 1.0
    cfg.MODEL.LOSS.BOX_WEIGHT = 5.0
    cfg.MODEL.LOSS.GIOU_WEIGHT = 2.0
    cfg.MODEL.LOSS.MASK_WEIGHT = 5.0
    cfg.MODEL.LOSS.DICE_WEIGHT = 5.0
    # PPYOLOESeg: weight of the loss of the distributions that boxes are the means of.
    cfg.MODEL.LOSS.DISTRIBUTION_WEIGHT = 0.5
    # PPYOLOESeg: how objects' masks are reduced to the mask map: "first_pixel" of each cell, as the original does, or
    # "bilinear" between pixels, which does not move small masks.
    cfg.MODEL.LOSS.MASK_SHRINK = "first_pixel"
    # FastInst: weight of the class map that queries are taken from, and of the class "no object" among the others.
    cfg.MODEL.LOSS.PROPOSAL_WEIGHT = 20.0
    cfg.MODEL.LOSS.NO_OBJECT_WEIGHT = 0.1
    # SparseInst: weight of the objectness, which learns the overlap of a query's mask with its object.
    cfg.MODEL.LOSS.OBJECTNESS_WEIGHT = 1.0
    # Varifocal loss: weight of negatives and its exponent, `alpha` and `gamma`.  RFDETRSeg's IoU-aware cross-entropy:
    # share of the probability in the target of a match, and exponent of the weight of negatives.  MaskDINO's,
    # SOLOv2's and SparseInst's focal loss: weight of positives and its exponent.
    cfg.MODEL.LOSS.VARIFOCAL_ALPHA = 0.75
    cfg.MODEL.LOSS.VARIFOCAL_GAMMA = 2.0
    # Whether the weight of negatives is a constant to the gradient; MaskRTDETR's original learns through it.
    cfg.MODEL.LOSS.VARIFOCAL_DETACH = True
    # Loss of the classes: "varifocal", which weighs a match by its overlap, or "matchability", which gives every match
    # the weight 1 and raises the overlap that it learns to the power `gamma` (DEIM, 1.5 there).
    # InstaRTDETR and MaskRTDETR.
    cfg.MODEL.LOSS.CLASS_LOSS = "varifocal"
    # What the class score of a matched query learns in the last layer: its "box" or its "mask" IoU with the object.
    cfg.MODEL.LOSS.QUALITY = "box"
    # Whether the layers before the last learn that quality too, and not the box IoU.
    cfg.MODEL.LOSS.QUALITY_EVERYWHERE = False
    # InstaRTDETR: whether the positions that become queries learn to predict masks too, as those of MaskRTDETR do.
    cfg.MODEL.LOSS.ENCODER_MASKS = False
    # Not FastInst, not RFDETRSeg: positions of the pyramid that learn to predict each object, where all are taught;
    # 0: only those positions learn that became queries, one for each object.
    cfg.MODEL.LOSS.DENSE_POSITIONS = 0
    # How many of DECODER.NUM_ONE_TO_MANY_QUERIES answer for each object. Count `K` in H-DETR.
    cfg.MODEL.LOSS.ONE_TO_MANY = 6
    # How masks are read at points: as RF-DETR does (targets at the nearest pixel, predictions as if the outermost cells
    # of the map went on), not as PointRend does (both between pixels, and 0 outside the map).
    cfg.MODEL.LOSS.SAMPLE_INSIDE = False
    # PointRend's uncertain points: number of points `N` (0: a 16th of the map's cells), candidates for each point `k`,
    # and share of uncertain points `beta`.
    cfg.MODEL.LOSS.NUM_POINTS = 12544
    cfg.MODEL.LOSS.OVERSAMPLE_RATIO = 3.0
    cfg.MODEL.LOSS.IMPORTANCE_RATIO = 0.75
    # Candidates are drawn in a region around the object, with sides this many times those of its box; 0: in the whole
    # image, where few points fall on an object of ten pixels.
    cfg.MODEL.LOSS.POINT_REGION = 0.0


def _add_solver_keys(cfg: CfgNode) -> None:
    # Length of a training in passes over its images; 0: SOLVER.MAX_ITER counts.  It sets MAX_ITER, STEPS, WARMUP_ITERS,
    # EMA, CHECKPOINT_PERIOD, TEST.EVAL_PERIOD and INPUT.PLAIN_LAST_ITERS (engine/recipe.py), but for those of them that
    # the command line sets.
    cfg.SOLVER.MAX_EPOCHS = 0
    # Weight decay of embeddings (learned queries); None: WEIGHT_DECAY.
    cfg.SOLVER.WEIGHT_DECAY_EMBED = None
    # "AdamW"; "SGD" with SOLVER.MOMENTUM and NESTEROV; or "Muon": matrices and kernels move by their orthogonalised
    # momentum, all else as by AdamW with betas of (0.9, 0.95).  Learning rates are of the same size for AdamW and Muon.
    cfg.SOLVER.OPTIMIZER = "AdamW"
    # Factor on the learning rate of the backbone (for its parts see MODEL.HGNETV2).
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    # Mixed precision on GPU: "bfloat16" or "float16" (SOLVER.AMP.ENABLED turns it on).
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    # Whether mixed precision is used on CPU as well, in bfloat16: it is faster on CPUs with bfloat16 units (AMX), and
    # slower on others.
    cfg.SOLVER.AMP.ON_CPU = False
    # Exponential moving average of the weights: decay * (1 - exp(-iteration / RAMP_ITERS)).
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9999
    cfg.SOLVER.EMA.RAMP_ITERS = 2000
    # Number of equal parts of SOLVER.IMS_PER_BATCH that go through the network one after the other, to save memory; the
    # sum of their gradients makes one step.  Iterations, schedules and periods count steps, not parts.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # Number of evaluations (every TEST.EVAL_PERIOD) in a row without a better TEST.BEST_METRIC after which training
    # stops; 0: never.
    cfg.SOLVER.EARLY_STOPPING = CfgNode()
    cfg.SOLVER.EARLY_STOPPING.PATIENCE = 0
    # Newest checkpoints that stay on the disk, the final one counted and the best one not; 0: all. Count.
    cfg.SOLVER.KEEP_CHECKPOINTS = 3
    # Iterations with a loss that is not finite, skipped and logged, of twice as many, before training stops. Count.
    cfg.SOLVER.MAX_SKIPPED_ITERS = 20
    # Weights & Biases logging (needs the package wandb).
    cfg.WANDB = CfgNode()
    cfg.WANDB.ENABLED = False
    cfg.WANDB.PROJECT = "insta_rtdetr"


def _add_test_keys(cfg: CfgNode) -> None:
    # Whether eval mode uses a copy of the network with batch norm, RepVGG branches and neighbouring linear maps folded.
    cfg.MODEL.FUSE_ON_EVAL = True
    # Lowest score of an object, a probability.  Objects with a lower one are left out before their masks are computed.
    cfg.TEST.SCORE_THRESHOLD = 0.0
    # Non-maximum suppression: IoU above which an object is left out if its box overlaps the box of an object of its
    # class with a higher score.  It follows the selection of TEST.DETECTIONS_PER_IMAGE objects; PPYOLOESeg's precedes
    # it.  With 1, the default, no object is left out, because the queries of a DETR learn to find different objects.
    cfg.TEST.NMS_THRESHOLD = 1.0
    # Probability above which a pixel belongs to an object, after resizing.
    cfg.TEST.MASK_THRESHOLD = 0.5
    # Quantity that is resized from the mask map to the image: "probability", as in Insta-RT-DETR; "logit"; or
    # "probability_twice" (SOLOv2, SparseInst, PPYOLOESeg) or "logit_twice" (FastInst): resized to the network's input
    # first and then to the image.
    cfg.TEST.MASK_RESIZE = "probability"
    # Metric that chooses model_best.pth, by the name under which Detectron2 logs it.  In the stage "detector", which
    # has no masks, the metric of the boxes takes its place, for example bbox/AP for segm/AP.
    cfg.TEST.BEST_METRIC = "segm/AP"
    # Evaluation in overlapping tiles: side of a tile in pixels of the image (0: no tiles), and least overlap of
    # neighbouring tiles as a fraction of that side.  With tiles, AP counts all objects that are found in an image, and
    # TEST.DETECTIONS_PER_IMAGE limits those of a tile.
    cfg.TEST.TILE = CfgNode()
    cfg.TEST.TILE.SIZE = 0
    cfg.TEST.TILE.OVERLAP = 0.2
    # Test-time augmentation, with Detectron2's keys: views of each image are predicted, and what they show is merged.
    # MIN_SIZES are short sides of the network's input in pixels, and MAX_SIZE limits the long side; () stands for the
    # one usual size.  FLIP mirrors images left to right, and VERTICAL_FLIP upside down, each only if INPUT.RANDOM_FLIP
    # did so in training.  `predict(augment=True)` reads them too, but for ENABLED, which is for evaluations.
    cfg.TEST.AUG.VERTICAL_FLIP = True
