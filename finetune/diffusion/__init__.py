"""Pictures from captions: a small diffusion model, trained from nothing. The public face is `finetune.diff`."""
