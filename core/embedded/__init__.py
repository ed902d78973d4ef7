"""The embedded model: weights, tokenizer, card and training log, made by `python -m finetune.pretrain`."""
