"""Supervised fine-tuning: sessions in, an adapter out."""
