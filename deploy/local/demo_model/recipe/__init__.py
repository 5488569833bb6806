"""InternVL3's training recipe in miniature, one module a part.

tower           the vision tower learns to name what lies under each patch: the place of InternViT's own training
pretraining     native multimodal pre-training: text and interleaved image-text in one stage
staged          what native pre-training is compared with: text alone, then the projector alone
finetuning      SFT: JPEG compression, square-averaged loss, data packing
preference      MPO: preference, quality and generation loss on pairs the model made itself
pairs           those pairs: a right and a wrong reply to a question
language        the loss of a pack, in pre-training and fine-tuning
run, state      all parts one after the other, and the folder that a run resumes from
"""
