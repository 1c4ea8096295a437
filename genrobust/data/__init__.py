"""Datasets: images with labels, in [0, 1], at a fixed size."""

from genrobust.data.base import DATASETS, Dataset, Images, load_images

__all__ = ["DATASETS", "Dataset", "Images", "load_images"]
