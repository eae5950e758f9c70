"""Losses of distillation, one a file; their lines stand in ``config/registries.py``.

Those between logits take float ``[N, C]``, give a scalar tensor and let gradients flow to the student only where the caller
detached the teacher. ``p`` is softmax(student / T), ``q`` is softmax(teacher / T).
"""
