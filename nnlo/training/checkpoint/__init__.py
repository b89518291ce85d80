"""Checkpoints: folders of plain numbers, text and tensors, which are there whole or not at all."""
