"""InternVL3's training recipe in miniature, one module a part.

    tower           the vision tower learns to name what lies under each patch: the place of InternViT's own training
    pretraining     native multimodal pre-training: text and interleaved image-text in one stage (InternVL3, 2.2)
    finetuning      SFT: JPEG compression, square-averaged loss, data packing (InternVL2.5, 3.3; InternVL3, 2.3)
    preference      MPO: preference, quality and generation loss on pairs the model made itself (InternVL3, 2.3)
    packing, network, muon, state       what they share: packs, the forward pass over them, the optimizer, resuming
"""
