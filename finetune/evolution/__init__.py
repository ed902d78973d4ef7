"""The parts of the genetic search in `finetune.ge`."""
