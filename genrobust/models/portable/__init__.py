"""Models as data: what a bundle holds of one, and how it is run again without trust.

A model of a registered architecture is its network's settings and its weights. Of any other,
``torch.export`` gives encode and decode as a graph of allowed operations; :mod:`.graph` says why
that is not kept in torch's own file. Nothing of a bundle is executed, unpickled or imported.
"""

from genrobust.models.portable.export import export_model
from genrobust.models.portable.load import load_portable
from genrobust.models.portable.spec import GRAPH, WEIGHTS, PortableLimits

__all__ = ["GRAPH", "WEIGHTS", "PortableLimits", "export_model", "load_portable"]
