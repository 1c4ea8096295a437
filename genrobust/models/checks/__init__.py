"""What is tried of a model on a few images before anything is measured; a fault is one sentence."""
