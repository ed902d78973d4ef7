"""The parts of the response router: genes, triggers, models, calibration, votes, operators. Its face is `finetune.model_ensembler`."""
